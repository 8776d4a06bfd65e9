"""Record what a save does to the disk, and lose power at any point of it: what was not flushed is dropped.

Names in a folder survive if the folder was flushed behind them, bytes of a file if the file was; the database, which
flushes by itself, as it was at its last durable commit.
"""

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from xdicom import flushing as flushing_module
from xdicom import writer as writer_module
from xdicom.catalog import Catalog


@dataclass
class Event:
    """One thing that happened: its kind, the paths or the file that it is about, and what was written."""

    kind: str
    paths: tuple[str, ...] = ()
    inode: int = 0
    content: bytes = b""
    durable: bool = False


@dataclass
class Recorder:
    """What happened in a folder from its state at the beginning."""

    root: Path
    events: list[Event] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    database: bytes = b""

    def begin(self, database: bytes) -> None:
        """Take down the folder as it is, all of it on the disk."""
        self.database = database
        for path in self.root.rglob("*"):
            if path.is_dir():
                self.folders.add(str(path))
            elif "catalog.sqlite" not in path.name and path.name != "lock":
                self.names[str(path)] = path.stat().st_ino
                self.contents[path.stat().st_ino] = path.read_bytes()
                self.times[path.stat().st_ino] = path.stat().st_mtime_ns

    def add(self, kind: str, *paths: Any, **more: Any) -> None:
        """Record an event, if it is about the folder."""
        texts = tuple(os.path.abspath(os.fsdecode(path)) for path in paths)
        private = str(self.root / ".xdicom" / "lock")
        if all(text.startswith(str(self.root)) and not text.startswith(private) for text in texts):
            self.events.append(Event(kind, texts, **more))


@contextmanager
def recorded(folder: Path, *, flush_files: bool = True, flush_folders: bool = True) -> Iterator[Recorder]:
    """Record what this process does in a folder; flushes that are left out are only seemingly done."""
    recorder = Recorder(folder)
    files: dict[int, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        _record_names(patch, recorder)
        real_open, real_write, real_fsync = os.open, os.write, os.fsync

        def opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            descriptor = real_open(path, flags, *rest, **options)
            files[descriptor] = os.fsdecode(path)
            if flags & os.O_CREAT and "dir_fd" not in options:
                recorder.add("create", path, inode=os.fstat(descriptor).st_ino)
            return descriptor

        def written(descriptor: int, data: Any) -> int:
            count = real_write(descriptor, data)
            if descriptor in files:
                inode = os.fstat(descriptor).st_ino
                recorder.add("write", files[descriptor], inode=inode, content=bytes(memoryview(data)[:count]))
            return count

        def flushed(descriptor: int) -> None:
            real_fsync(descriptor)
            is_folder = os.path.isdir(files.get(descriptor, ""))
            if flush_folders if is_folder else flush_files:
                kind = "flush folder" if is_folder else "flush file"
                recorder.add(kind, files[descriptor], inode=os.fstat(descriptor).st_ino)

        def all_flushed(folder: Path) -> bool:
            if not (flush_files and flush_folders):
                return False
            recorder.add("flush all", folder)
            return True

        patch.setattr(os, "open", opened)
        patch.setattr(os, "write", written)
        patch.setattr(os, "writev", lambda descriptor, blocks: written(descriptor, b"".join(blocks)))
        patch.setattr(os, "fsync", flushed)
        patch.setattr(flushing_module, "_flush_file_system", all_flushed)
        patch.setattr(Catalog, "transaction", _recording_transaction(recorder, Catalog.transaction))
        assert writer_module.os.fsync is flushed
        yield recorder
    for inode in {event.inode for event in recorder.events if event.kind == "create"}:
        recorder.times.setdefault(inode, 0)


def _record_names(patch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    """Record what changes names."""
    for name, kind in [
        ("replace", "rename"),
        ("rename", "rename"),
        ("link", "link"),
        ("unlink", "unlink"),
        ("mkdir", "mkdir"),
    ]:
        real = getattr(os, name)

        def called(*args: Any, _real: Callable[..., Any] = real, _kind: str = kind, **options: Any) -> None:
            _real(*args, **options)
            if options.get("dir_fd") is None:
                count = 2 if _kind in ("rename", "link") else 1
                inode = os.stat(args[count - 1]).st_ino if _kind in ("rename", "link") else 0
                if inode:
                    recorder.times[inode] = os.stat(args[count - 1]).st_mtime_ns
                recorder.add(_kind, *args[:count], inode=inode)

        patch.setattr(os, name, called)


def _recording_transaction(recorder: Recorder, real: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def transaction(self: Catalog) -> Iterator[sqlite3.Connection]:
        with real(self) as connection:
            yield connection
        durable = self.connection.execute("PRAGMA synchronous").fetchone()[0] >= 2
        recorder.events.append(Event("commit", content=self.connection.serialize(), durable=durable))
        for row in self.connection.execute("SELECT new_inode, new_mtime_ns FROM job_file"):
            recorder.times[row[0]] = row[1]

    return transaction


# -- power goes


def after_power_loss(recorder: Recorder, count: int, rng: random.Random | None, target: Path) -> None:
    """Make the folder as it may be found when power went after `count` events.

    Parameters
    ----------
    recorder
        What happened.
    count
        How many events had happened.
    rng
        Decides what survives of that which was not flushed; None: nothing does.
    target
        The folder to make.
    """
    events = recorder.events[:count]
    database, names, folders = recorder.database, dict(recorder.names), set(recorder.folders)
    written, safe = dict(recorder.contents), dict(recorder.contents)
    for index, event in enumerate(events):
        if event.kind == "write":
            written[event.inode] = written.get(event.inode, b"") + event.content
        elif event.kind == "flush file":
            safe[event.inode] = written.get(event.inode, b"")
        elif event.kind == "flush all":
            safe.update(written)
        elif event.kind == "commit":
            if event.durable or (rng is not None and rng.random() < 0.5):
                database = event.content
        elif event.kind in _NAMING and (_is_flushed(event, events[index:]) or (rng is not None and rng.random() < 0.5)):
            _apply(event, names, folders)
    inodes = _lay_down(recorder, names, folders, (written, safe), rng, target)
    (target / ".xdicom").mkdir(exist_ok=True)
    (target / ".xdicom" / "catalog.sqlite").write_bytes(database)
    _renumber(target / ".xdicom" / "catalog.sqlite", inodes)


def _lay_down(
    recorder: Recorder,
    names: dict[str, int],
    folders: set[str],
    contents: tuple[dict[int, bytes], dict[int, bytes]],
    rng: random.Random | None,
    target: Path,
) -> dict[int, int]:
    """Make folders and files; return the inode that each new one stands for."""
    written, safe = contents
    inodes: dict[int, int] = {}
    made: dict[int, Path] = {}
    target.mkdir()
    for folder in sorted(folders):
        place = target / os.path.relpath(folder, recorder.root)
        if place.parent.is_dir():  # else the folder above was lost
            place.mkdir(exist_ok=True)
    for path, inode in names.items():
        place = target / os.path.relpath(path, recorder.root)
        if inode in made and place.parent.is_dir():
            os.link(made[inode], place)
        elif place.parent.is_dir():
            whole = written.get(inode, b"")
            lost = bytes(len(whole)) if rng is not None and rng.random() < 0.5 else b""
            survived = rng is not None and rng.random() < 0.5
            place.write_bytes(whole if survived or safe.get(inode) == whole else lost)
            os.utime(place, ns=(0, recorder.times.get(inode, 0)))
            inodes[place.stat().st_ino] = inode
            made[inode] = place
    return inodes


_NAMING = frozenset({"create", "rename", "link", "unlink", "mkdir"})


def _is_flushed(event: Event, later: list[Event]) -> bool:
    """Say whether what happened to a name was flushed: the folder in which it is."""
    folder = os.path.dirname(event.paths[-1])
    return any(each.kind == "flush all" or (each.kind == "flush folder" and each.paths[0] == folder) for each in later)


def _apply(event: Event, names: dict[str, int], folders: set[str]) -> None:
    if event.kind == "mkdir":
        folders.add(event.paths[0])
    elif event.kind == "unlink":
        names.pop(event.paths[0], None)
    else:
        if event.kind == "rename":
            names.pop(event.paths[0], None)
        names[event.paths[-1]] = event.inode


def _renumber(database: Path, inodes: dict[int, int]) -> None:
    """Give files in the database the inodes that their copies have."""
    connection = sqlite3.connect(database)
    for table, column in [
        ("file", "inode"),
        ("staged_file", "inode"),
        ("job_file", "old_inode"),
        ("job_file", "new_inode"),
    ]:
        known = {row[0] for row in connection.execute(f"SELECT {column} FROM {table}")}
        for new, old in inodes.items():
            if old in known:  # negative first: an inode may be another file's
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (-new, old))
        connection.execute(f"UPDATE {table} SET {column} = -{column} WHERE {column} < -1")
    connection.commit()
    connection.close()
