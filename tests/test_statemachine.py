"""Edit, save, restore, move, copy, remove and reopen, in any order, against a dict of what ought to be there."""

import copy
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import AXIAL, make_series, uid
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import xdicom as xd

SHAPE = (2, 3)
FIRST, STEP = 30.0, 4.0
PATIENTS = ("P1", "P2", "P3")
LEVELS = st.integers(0, 3)
PICK = st.integers(0, 10**6)
PIXELS = st.dictionaries(st.integers(0, 4), st.integers(0, 500), min_size=1, max_size=4)


@dataclass
class State:
    """One series as it ought to be: key of its study, a tag, and by slice the value of its pixels."""

    patient: str
    study: str
    echo: float | None
    pixels: dict[int, int]
    uids: dict[int, str] = field(default_factory=dict)


def images(pixels):
    """Return an array of shape (x, y, slices) and the places of the slices."""
    slices = sorted(pixels)
    array = np.zeros((SHAPE[1], SHAPE[0], len(slices)), np.int16)
    array[:] = [pixels[number] for number in slices]
    return array, [FIRST + STEP * number for number in slices]


class Machine(RuleBasedStateMachine):
    """A folder of three series in two studies of two patients."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.now: dict[str, State] = {}
        self.saved: dict[str, State] = {}
        self.count = 0

    @initialize()
    def start(self):
        """Write the files, and learn the instances."""
        for name, patient, study in (("a", "P1", "s1"), ("b", "P1", "s1"), ("c", "P2", "s2")):
            pixels = {number: 10 * number + ord(name) for number in range(3)}
            stored = np.array([np.full(SHAPE, pixels[number]) for number in range(3)], np.uint16)
            keys = {"PatientID": patient, "StudyInstanceUID": uid(study), "EchoTime": 1.0}
            make_series(self.folder / "data" / name, 3, name=name, shape=SHAPE, layout=AXIAL, pixels=stored, **keys)
            self.now[uid("series", name)] = State(patient, uid(study), 1.0, pixels)
        self.db = xd.database(self.folder / "data")
        for series, state in self.now.items():
            state.uids = self.instances(self.handle(series))
        self.saved = copy.deepcopy(self.now)

    def teardown(self):
        """Close and clean up."""
        if hasattr(self, "db"):
            self.db.close()
        shutil.rmtree(self.folder)

    # -- helpers

    def handle(self, series):
        """Return the record of a series."""
        return next(each for each in self.db.series() if each.key[2] == series)

    def instances(self, record):
        """Return SOPInstanceUIDs by slice."""
        frames = record.frames()
        slices = np.round((frames["slice_location"] - FIRST) / STEP).astype(int).tolist()
        return dict(zip(slices, frames["SOPInstanceUID"].tolist(), strict=True))

    def pick(self, number):
        """Return one of the series that are there."""
        return list(self.now)[number % len(self.now)]

    def record_at(self, series, level):
        """Return the series, or its study, patient or database, with its key."""
        record = self.handle(series)
        record = [record.database, record.patient, record.study, record][level]
        return record, record.key

    @staticmethod
    def is_under(series, state, key):
        """Say whether a series is under the record with a key."""
        return (state.patient, state.study, series)[: len(key)] == key

    def concerned(self, key):
        """Return the series that are under a record, now or at the last save."""
        return [
            series
            for series in dict.fromkeys([*self.now, *self.saved])
            if any(series in states and self.is_under(series, states[series], key) for states in (self.now, self.saved))
        ]

    # -- rules

    @precondition(lambda self: self.now)
    @rule(number=PICK, level=LEVELS, value=st.sampled_from([None, 1.0, 2.5, 7.0]))
    def edit(self, number, level, value):
        """A tag set on a record is set in all of its frames."""
        record, key = self.record_at(self.pick(number), level)
        record.EchoTime = value
        for series, state in self.now.items():
            if self.is_under(series, state, key):
                state.echo = value

    @precondition(lambda self: self.now)
    @rule(number=PICK, level=st.integers(1, 3), patient=st.sampled_from(PATIENTS))
    def rekey(self, number, level, patient):
        """A new PatientID moves the record."""
        record, key = self.record_at(self.pick(number), level)
        record.PatientID = patient
        assert record.key == (patient, *key[1:])
        for series, state in self.now.items():
            if self.is_under(series, state, key):
                state.patient = patient

    @precondition(lambda self: self.now)
    @rule(number=PICK, pixels=PIXELS)
    def set_images(self, number, pixels):
        """New images take the place of all; slices that were there keep their UID."""
        series = self.pick(number)
        array, places = images(pixels)
        record = self.handle(series)
        record.set_ndarray(array, dims="slice_location", coords=[places])
        self.changed(series, pixels)

    def changed(self, series, pixels):
        """Note new images, and check which UIDs stayed."""
        state = self.now[series]
        found = self.instances(self.handle(series))
        kept = state.uids.keys() & pixels.keys()
        assert {number: found.get(number) for number in kept} == {number: state.uids[number] for number in kept}
        state.pixels, state.uids = dict(pixels), found

    @precondition(lambda self: self.now)
    @rule(number=PICK, pixels=PIXELS)
    def new_series(self, number, pixels):
        """A new series in a study has the images that it is given."""
        source = self.pick(number)
        study = self.handle(source).study
        record = study.new_series(SeriesDescription=f"new {self.count}")
        self.count += 1
        array, places = images(pixels)
        record.set_ndarray(array, dims="slice_location", coords=[places])
        state = self.now[source]
        self.now[record.key[2]] = State(state.patient, state.study, None, dict(pixels), self.instances(record))

    @precondition(lambda self: self.now)
    @rule(number=PICK, other=PICK)
    def copy(self, number, other):
        """A copy has new UIDs and the study that it was copied to."""
        source, target = self.pick(number), self.pick(other)
        record = self.handle(source).copy_to(self.handle(target).study)
        state = copy.deepcopy(self.now[source])
        state.patient, state.study = self.now[target].patient, self.now[target].study
        state.uids = self.instances(record)
        assert not set(state.uids.values()) & set(self.now[source].uids.values())
        self.now[record.key[2]] = state

    @precondition(lambda self: self.now)
    @rule(number=PICK, data=st.data())
    def subseries(self, number, data):
        """A subseries has the frames that match."""
        source = self.pick(number)
        wanted = data.draw(st.sampled_from(sorted(self.now[source].pixels)))
        record = self.handle(source).subseries(slice_location=slice(FIRST + STEP * wanted - 1, None))
        state = copy.deepcopy(self.now[source])
        state.pixels = {number: value for number, value in state.pixels.items() if number >= wanted}
        state.uids = self.instances(record)
        self.now[record.key[2]] = state

    @precondition(lambda self: self.now)
    @rule(number=PICK, other=PICK)
    def move(self, number, other):
        """A series that is moved is in the other study, and nowhere else."""
        series, target = self.pick(number), self.pick(other)
        record, study = self.handle(series), self.handle(target).study
        record.move_to(study)
        assert record.study == study
        self.now[series].patient, self.now[series].study = self.now[target].patient, self.now[target].study

    @precondition(lambda self: len(self.now) > 1)
    @rule(number=PICK, level=st.integers(2, 3))
    def remove(self, number, level):
        """A record that is removed is gone with all that is in it."""
        record, key = self.record_at(self.pick(number), level)
        record.remove()
        self.now = {series: state for series, state in self.now.items() if not self.is_under(series, state, key)}

    @precondition(lambda self: self.now)
    @rule(number=PICK, level=LEVELS)
    def save(self, number, level):
        """What is in a record now, or was at the last save, is saved; all else stays as it was."""
        record, key = self.record_at(self.pick(number), level)
        series = self.concerned(key)
        record.save()
        for each in series:
            self.saved.pop(each, None)
            if each in self.now:
                self.saved[each] = copy.deepcopy(self.now[each])

    @precondition(lambda self: self.now)
    @rule(number=PICK, level=LEVELS)
    def restore(self, number, level):
        """What is in a record now, or was at the last save, is as it was saved; all else stays as it is."""
        record, key = self.record_at(self.pick(number), level)
        series = self.concerned(key)
        record.restore()
        for each in series:
            self.now.pop(each, None)
            if each in self.saved:
                self.now[each] = copy.deepcopy(self.saved[each])

    @rule(how=st.sampled_from(["save", "restore"]))
    def settle(self, how):
        """After saving or restoring all, nothing is staged."""
        getattr(self.db, how)()
        if how == "save":
            self.saved = copy.deepcopy(self.now)
        else:
            self.now = copy.deepcopy(self.saved)
        assert self.db.status() == []
        self.check_files()

    @rule()
    def reopen(self):
        """Unsaved edits survive."""
        self.db.close()
        self.db = xd.database(self.folder / "data")

    # -- checks

    @invariant()
    def is_as_expected(self):
        """Every series has its key, tag, pixels and UIDs, and there is no other."""
        if not hasattr(self, "db"):
            return
        found = {record.key[2]: record for record in self.db.series()}
        assert found.keys() == self.now.keys()
        for series, state in self.now.items():
            record = found[series]
            assert record.key == (state.patient, state.study, series)
            assert record.PatientID == [state.patient]
            assert list(record.EchoTime) == ([] if state.echo is None else [state.echo])
            assert self.instances(record) == state.uids
            array, places = images(state.pixels)
            values, coords = record.ndarray("slice_location", return_coords=True)
            assert np.array_equal(values, array)
            assert np.allclose(coords["slice_location"], places, atol=1e-3)

    def check_files(self):
        """Check the files themselves: one for each instance, with these values."""
        found = {}
        for path in (self.folder / "data").rglob("*.dcm"):
            ds = pydicom.dcmread(path)
            value = ds.pixel_array[0, 0] * ds.get("RescaleSlope", 1) + ds.get("RescaleIntercept", 0)
            assert ds.SOPInstanceUID not in found
            found[ds.SOPInstanceUID] = (
                ds.PatientID,
                ds.StudyInstanceUID,
                ds.SeriesInstanceUID,
                ds.get("EchoTime"),
                value,
            )
        expected = {
            state.uids[number]: (state.patient, state.study, series, state.echo, value)
            for series, state in self.saved.items()
            for number, value in state.pixels.items()
        }
        assert found == expected


TestMachine = pytest.mark.slow(Machine.TestCase)
TestMachine.settings = settings(
    max_examples=12, stateful_step_count=50, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
