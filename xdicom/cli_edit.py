"""The commands that edit: set, save, restore and status."""

import argparse
from collections.abc import Iterable

from . import tags
from .changes import Change
from .cli_output import ALL_WELL, changes_as_json, say, say_changes, say_json
from .cli_words import assignment, checked_names, chosen, title, whole
from .creation import database
from .database import Database, Series
from .display import count_of
from .edits import NEW
from .errors import EditError, XdicomError
from .records import Record, tags_of
from .works import works_of


class _NoMoreThanTried(XdicomError):
    """Ends a transaction whose result was only to be seen."""


def set_values(options: argparse.Namespace) -> int:
    """Stage values in the series that are chosen, all or none."""
    values = dict(assignment(word) for word in options.assignments)
    values |= dict.fromkeys(checked_names(options.remove))
    if not values:
        raise EditError("nothing to set: type Tag=value, or --remove Tag")
    with database(options.folder) as db:
        records = _records(db, options.where)
        before = _signatures(db.status())
        changes: list[Change] = []
        try:
            with db._store.together():
                for record in records:
                    if options.vr:
                        for name, value in values.items():
                            record.set(name, value, VR=options.vr)
                    else:
                        record[list(values)] = list(values.values())
                changes = [change for change in db.status() if repr(change) not in before]
                if options.dry_run:
                    raise _NoMoreThanTried
        except _NoMoreThanTried:
            pass  # raised above, so that what was tried is not kept
        _tell(db, changes, options, "staged" if not options.dry_run else "would be staged")
    return ALL_WELL


def status(options: argparse.Namespace) -> int:
    """Tell what is staged."""
    with database(options.folder) as db:
        _tell(db, db.status(), options, "staged, not saved")
    return ALL_WELL


def save(options: argparse.Namespace) -> int:
    """Make what is staged permanent."""
    with database(options.folder) as db:
        records = _records(db, options.where)
        changes = [change for record in records for change in record.status()]
        files = sum(_files(record) for record in records)  # refuses what cannot be saved
        if not options.dry_run:
            for record in records:
                record.save()
        done = "would be saved" if options.dry_run else "saved"
        _tell(db, changes, options, f"{done}, in {count_of(files, 'file')}")
    return ALL_WELL


def _files(record: Record) -> int:
    """Return how many files a save of a record would change or make.

    Raises
    ------
    SaveError
        If an edit cannot be written.
    """
    store, key = record._store, record.key
    layers, edits = store.layers.ever_under(key), store.edits.overlays()
    rewritten = {work.path for work in works_of(store.layers, layers, edits)}
    tables = [table for layer in layers if layer.kind == NEW and (table := store.layers.table(layer)) is not None]
    return len(rewritten) + sum(int((table.file >= 0).sum()) for table in tables)


def restore(options: argparse.Namespace) -> int:
    """Take back what is staged, or the edits of some tags."""
    names = checked_names(options.tags)
    with database(options.folder) as db:
        records = _records(db, options.where)
        changes = [change for record in records for change in record.status()]
        if names:
            wanted = {tags.label(tag) for record in records for name in names for tag in tags_of(record.frames(), name)}
            changes = [change for change in changes if change.what in wanted]
        if not options.dry_run:
            for record in records:
                record.restore(*names)
        _tell(db, changes, options, "would be taken back" if options.dry_run else "taken back")
    return ALL_WELL


def _records(db: Database, words: list[str]) -> list[Record]:
    """Return what a command works on: all of the folder, or the series that match."""
    return list(whole(chosen(db, words))) if words else [db]


def _signatures(changes: Iterable[Change]) -> set[str]:
    return set(map(repr, changes))


def _tell(db: Database, changes: list[Change], options: argparse.Namespace, what: str) -> None:
    if options.json:
        say_json({"dry_run": getattr(options, "dry_run", False), "edits": changes_as_json(changes)})
        return
    say(f"{count_of(len(changes), 'edit')} {what}")
    say_changes(changes, _names(db.series()))


def _names(series: Iterable[Series]) -> dict[str, str]:
    return {each.key[-1]: title(each) for each in series}
