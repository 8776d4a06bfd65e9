"""Every series at hand against what dcm2niix, nibabel, SimpleITK and PS3.3 C.7.6.2 by pydicom make of it."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import _package_folder, corpus_files, real_data
from factories import OBLIQUE, make_series
from oracles import (
    assert_same_frames,
    by_dcm2niix,
    copied,
    corner_distance,
    matched,
    opened,
    our_frames,
    true_frames,
    values_of,
    volumes_of,
)
from test_corpus import FOLDERS, real_files

import xdicom as xd
from xdicom.errors import GeometryError, PixelError, StackError, XdicomError

dcm2niix = pytest.importorskip("dcm2niix")
nibabel = pytest.importorskip("nibabel")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NEAR_MM = 1e-3
MOST_XFAILS = 0.05
# JPEG baseline and extended, JPEG-LS near lossless, JPEG 2000: decoders may differ by rounding.
LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91)}
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
# Where xdicom gives another result than dcm2niix, and raises instead of an array or an affine.
DIFFERENT = {
    "CT2/17106": "the slices are 1.25 to 202.5 mm apart, and an affine has one step; dcm2niix takes the first",
    "CT2N/6293": "two scouts in a sagittal and a coronal plane, which dcm2niix stacks as slices of one volume",
    "data/0.dcm": "of the pixels of a mosaic the file holds other rows and columns than 7 x 7 slices would have",
}
# Where dcm2niix is no oracle, and what the standard says is: equal to it, frame by frame.
BY_THE_STANDARD = {
    "test_files/J2K_pixelrep_mismatch.dcm": "PixelRepresentation and the codestream disagree on the sign",
    "test_files/rtdose.dcm": "dcm2niix does not know GridFrameOffsetVector, and puts planes 1 mm apart",
    "test_files/rtdose_expb.dcm": "the same",
    "test_files/rtdose_rle.dcm": "the same",
}
# JPEG of 12 bits beside other pictures: neither dcm2niix nor pydicom reads it.
HALF_READ = {"test_files/JPEG2000.dcm"}
# Broken on purpose: without pixels that can be told from their header.
BROKEN = {"test_files/badVR.dcm", "test_files/MR_truncated.dcm", "test_files/JPEG-lossy.dcm"}


@dataclass(frozen=True)
class Case:
    """The files of one series, with a name that is the same on every machine."""

    name: str
    files: tuple[Path, ...]

    def datasets(self) -> list[Any]:
        """Return the headers."""
        return [opened(path, stop_before_pixels=True) for path in self.files]


_KEYS = ["SeriesInstanceUID", "SOPInstanceUID", "Rows", "PixelData", "FloatPixelData", "DoubleFloatPixelData"]


def series_of(files: Sequence[Path], prefix: str = "") -> list[Case]:
    """Group files into series, by folder and SeriesInstanceUID; several encodings of an instance are kept apart."""
    found: dict[tuple[object, ...], list[Path]] = {}
    seen: dict[tuple[str, str], int] = {}
    for path in files:
        try:
            ds = opened(path, specific_tags=_KEYS, defer_size=1024)
        except Exception:  # noqa: BLE001 - a corpus holds files that nobody reads
            continue
        if ds.get("Rows") and {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(ds.dir()):
            key = str(ds.get("SeriesInstanceUID", "")), str(ds.get("SOPInstanceUID", ""))
            seen[key] = seen.get(key, 0) + 1
            found.setdefault((path.parent, path.suffix == ".gz", key[0], seen[key]), []).append(path)
    return [Case(f"{prefix or paths[0].parent.name}/{paths[0].name}", tuple(paths)) for paths in found.values()]


def all_cases() -> list[Case]:
    """Return the series of the real set, and those of the corpora of pydicom, pydicom-data and nibabel."""
    nibabel_data = _package_folder("nibabel", "nicom", "tests", "data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = series_of([*corpus_files(), *sorted(nibabel_data.glob("*.dcm.gz") if nibabel_data else [])])
        for name in FOLDERS:
            try:
                cases += series_of(real_files(real_data(name)), name)
            except pytest.skip.Exception:
                cases.append(Case(name, ()))
    return cases


CASES = all_cases()


def is_placed(case: Case) -> bool:
    """Say whether all images have position, orientation, pixel spacing and a distance between slices."""
    for ds in case.datasets():
        shared, frame = (
            (list(ds.get(name, [])) or [ds])[0]
            for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        )
        inner = [e.value[0] for item in (shared, frame) for e in item if e.VR == "SQ" and e.value and item is not ds]
        if not all(any(each.get(name) for each in (ds, *inner)) for name in _NEEDED):
            return False
        steps = (
            "SliceThickness",
            "SpacingBetweenSlices",
            *(["GridFrameOffsetVector"] if "NumberOfFrames" in ds else []),
        )
        if len(case.files) == 1 and not any(each.get(name) for each in (ds, *inner) for name in steps):
            return False
    return True


_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def arrays_of(folder: Path) -> list[xr.DataArray]:
    """Return the array of each series, or those of its stacks where it says that it has several."""
    found = []
    with xd.database(folder) as db:
        for series in db.series():
            # dcm2niix leaves the doses of RT Dose unscaled.
            rescale = series.Modality != "RTDOSE"
            try:
                found.append(series.to_xarray(rescale=rescale).load())
            except StackError as error:
                assert "split() gives them one by one" in str(error)  # noqa: PT017 - most series raise nothing
                found += [part.to_xarray(rescale=rescale).load() for part in series.split()]
    return found


def is_plain(case: Case) -> bool:
    """Say whether dcm2niix gives the values of pictures as they are: grey, or native RGB, without tables."""
    for ds in case.datasets():
        colours = ds.get("PhotometricInterpretation", "")
        is_grey = colours.startswith("MONOCHROME") and "ModalityLUTSequence" not in ds
        is_native = ds.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2") in NATIVE
        if not (is_grey or (colours == "RGB" and ds.BitsAllocated == 8 and is_native)):
            return False
    return True


def step_of(case: Case) -> float:
    """Return by how much decoders may differ: a step or so where pixels were compressed with loss, else 0."""
    headers = case.datasets()
    lossy = [ds for ds in headers if ds.file_meta.get("TransferSyntaxUID") in LOSSY]
    if not lossy:
        return 0.0
    return max(4.0 if ds.get("SamplesPerPixel", 1) > 1 else 1.01 * float(ds.get("RescaleSlope", 1)) for ds in lossy)


def assert_same_volumes(arrays: Sequence[xr.DataArray], images: Sequence[Any], step: float) -> None:
    """Every volume of dcm2niix is one of ours, in place and order, and none is left."""
    ours = [volumes_of(da.dicom.to_nibabel()) for da in arrays]
    taken: list[set[int]] = [set() for _ in ours]
    for image in images:
        volumes, affine = volumes_of(image)
        faults = []
        for (values, placed), used in zip(ours, taken, strict=True):
            before = set(used)
            found = matched(values, volumes, used, step)
            distance = corner_distance(placed, affine, volumes.shape[1:4])
            if -1 not in found and distance < NEAR_MM:
                assert found == sorted(found), f"volumes are in the order {found}"
                break
            used.clear()
            used.update(before)
            faults.append(f"{values.shape}: {found}, corners {distance:.4f} mm off")
        else:
            pytest.fail(f"{image.shape} of dcm2niix is none of ours: {faults}")
    assert [len(used) for used in taken] == [len(values) for values, _ in ours]


def assert_same_pictures(arrays: Sequence[xr.DataArray], images: Sequence[Any], step: float, some: bool) -> bool:
    """Every picture of dcm2niix is one of ours, upside down as NIfTI has them; False where it did not make all.

    With `some` those that it made are enough.
    """
    theirs = [picture for image in images for picture in pictures_of(values_of(image))]
    ours = [np.moveaxis(frame.values, 0, 1)[:, ::-1] for da in arrays for frame in our_frames(da)]
    if len(theirs) < len(ours) and not some:
        return False
    taken: set[int] = set()
    assert -1 not in matched(ours, theirs, taken, step)
    assert len(taken) == len(theirs)
    return True


def pictures_of(values: np.ndarray) -> list[np.ndarray]:
    """Return the pictures (x, y[, 3]) of an array (x, y[, n][, 3])."""
    end = values.shape[-1:] if values.ndim > 3 and values.shape[-1] == 3 else ()
    shaped = values.reshape(*values.shape[:2], -1, *end)
    return list(np.moveaxis(shaped, 2, 0))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_series_is_what_others_read(case: Case, tmp_path: Path) -> None:
    """Shape, affine and every voxel are those of dcm2niix; of what it does not convert, those of pydicom."""
    if not case.files:
        real_data(case.name)
    folder = copied(case.files, tmp_path / "in")
    if case.name in BROKEN:
        with pytest.raises(PixelError):
            arrays_of(folder)
        return
    if case.name in DIFFERENT:
        assert_refused(folder)
        pytest.xfail(DIFFERENT[case.name])
    step = step_of(case)
    arrays = arrays_of(folder)
    images = by_dcm2niix(dcm2niix.bin, folder, tmp_path / "out")
    is_known = bool(images) and case.name not in BY_THE_STANDARD
    if is_known and is_placed(case):
        assert_same_volumes(arrays, images, step)
    elif not (is_known and is_plain(case) and assert_same_pictures(arrays, images, step, case.name in HALF_READ)):
        truth = [frame for path in case.files for frame in true_frames(path)]
        assert_same_frames([frame for da in arrays for frame in our_frames(da)], truth, step)
    if not is_placed(case):
        for da in arrays:
            with pytest.raises(GeometryError):
                _ = da.dicom.affine


def assert_refused(folder: Path) -> None:
    """No image comes out of a folder: an array, or its affine, is refused."""
    with xd.database(folder) as db:
        for series in db.series():
            with pytest.raises(XdicomError):
                series.to_xarray().dicom.to_nibabel()


def test_few_series_differ() -> None:
    """At most one series in twenty that has a place in the patient differs from dcm2niix."""
    for case in CASES:
        if not case.files:
            real_data(case.name)  # skips: of few series one is more than one in twenty
    names = {case.name for case in CASES if is_placed(case)}
    assert {*DIFFERENT, *BY_THE_STANDARD} <= {case.name for case in CASES}
    assert len(names & DIFFERENT.keys()) <= MOST_XFAILS * len(names)


def test_two_oracles_agree_on_mosaics(tmp_path: Path) -> None:
    """Nibabel's reader of mosaics has the voxels and the affine of ours."""
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    files = real_files(real_data("siemens-axial-orders"))[:1]
    (da,) = arrays_of(copied(files, tmp_path / "in"))
    wrapper = wrapper_from_file(files[0])
    other = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(wrapper.get_data(), np.diag([-1, -1, 1, 1]) @ wrapper.affine)
    )
    ((values,), affine) = volumes_of(da.squeeze(drop=False).dicom.to_nibabel())
    np.testing.assert_array_equal(values, np.asanyarray(other.dataobj))
    assert corner_distance(affine, other.affine, values.shape) < NEAR_MM


@pytest.mark.parametrize("name", ["pelvis-ct", "siemens-two-echoes"])
def test_two_oracles_agree_on_volumes(name: str, tmp_path: Path) -> None:
    """SimpleITK's reader of one volume has the voxels and the geometry of ours."""
    sitk = pytest.importorskip("SimpleITK")
    folder = copied(real_files(real_data(name)), tmp_path / "in")
    with xd.database(folder) as db:
        da = db.series()[0].to_xarray()
        if "EchoTime" in da.dims:
            da = da.isel(EchoTime=0)
        names = paths_of(folder, da)
        ours = da.dicom.to_sitk()
        read = sitk.ReadImage(names)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(read))
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, get)(), getattr(read, get)(), atol=1e-3)


def paths_of(folder: Path, da: xr.DataArray) -> list[str]:
    """Return the files of the slices of a volume, in order."""
    by_uid = {}
    for path in sorted(folder.glob("*.dcm")):
        by_uid[str(opened(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)] = str(path)
    return [by_uid[uid] for uid in da.SOPInstanceUID.values.tolist()]


@pytest.mark.parametrize("shift", [0.0, 1.25, -3.0])
def test_a_tilted_stack_is_where_its_positions_are(shift: float, tmp_path: Path) -> None:
    """With a tilted gantry slices shift along their columns: the sheared affine puts every pixel in its place."""

    def tilt(ds: Any, index: int) -> None:
        moved = np.array(OBLIQUE.position(index)) + shift * index * np.array(OBLIQUE.column_direction)
        ds.ImagePositionPatient = [round(float(x), 6) for x in moved]

    made = make_series(tmp_path / "in", 6, shape=(7, 5), layout=OBLIQUE, change=tilt)
    (da,) = arrays_of(made.folder)
    truth = [frame for path in made.files for frame in true_frames(path)]
    assert_same_frames(list(our_frames(da)), truth)
    affine, volume = da.dicom.affine, da.transpose("column", "row", "slice").values
    for frame in truth:
        where = np.linalg.solve(affine, [*frame.corners[0], 1])[:3]
        np.testing.assert_allclose(where, np.round(where), atol=1e-4)
        np.testing.assert_array_equal(volume[:, :, round(where[2])].T, frame.values)
        last = affine @ [volume.shape[0] - 1, 0, where[2], 1]
        np.testing.assert_allclose(last[:3], frame.corners[1], atol=1e-3)
