"""Facts about the dims that are chosen where nobody names any."""

import re

import numpy as np
import pytest
from fake_table import ABSENT, FakeFrames

from xdicom.errors import StackError
from xdicom.infer import first_copies, infer
from xdicom.stack import arrange

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
ATTRIBUTES = ("b_value", "gradient_direction", "image_type", "signal_type")


def scan(volumes, slices=3, leave_out=(), **constant):
    """Return the frames of volumes, each a dict of values by tag or a function from the slice to one.

    Frames follow each other slice by slice within a volume, and InstanceNumber counts them, unless it is given.
    """
    points = [(v, s) for v in range(len(volumes)) for s in range(slices)]
    rows = []
    for number, (v, s) in enumerate(points, 1):
        if (v, s) not in leave_out:
            given = volumes[v](s) if callable(volumes[v]) else volumes[v]
            place = {"ImagePositionPatient": (0.0, 0.0, 2.0 * s), "ImageOrientationPatient": AXIAL}
            rows.append({"InstanceNumber": number, **place, **constant, **given})
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name, ABSENT) for row in rows] for name in names}
    return FakeFrames(attributes={name: columns.pop(name) for name in ATTRIBUTES if name in columns}, **columns)


def chosen(frames, **options):
    """Return the names of the dims that are chosen and the shape of the grid."""
    grid = arrange(frames, infer(frames, **options).dims, **options)
    return dict(zip(grid.dims, grid.shape, strict=True))


def raises(text):
    """Expect a StackError with exactly this text in it."""
    return pytest.raises(StackError, match=re.escape(text))


# -- positions


def test_distinct_positions_are_slices():
    """Frames each at its own position need no more dims."""
    assert chosen(scan([{}])) == {"slice": 3}


def test_a_single_frame_is_a_slice():
    """One frame with a position is a stack of one slice."""
    assert chosen(scan([{}], slices=1)) == {"slice": 1}


def test_frames_without_positions_are_enumerated():
    """Frames without geometry, as of ultrasound, have the dim frame."""
    assert chosen(FakeFrames(InstanceNumber=[1, 2])) == {"frame": 2}


def test_no_frames_are_refused():
    """An empty table has no dims."""
    with raises("there are no frames"):
        infer(FakeFrames())


# -- (a) the fewest tags


def test_a_parameter_is_a_dim():
    """Echo times that fill a grid are a dim, whatever counter would do as well."""
    volumes = [{"EchoTime": te, "AcquisitionNumber": i, "EchoNumbers": i} for i, te in enumerate((5.0, 10.0), 1)]
    assert chosen(scan(volumes)) == {"slice": 3, "EchoTime": 2}


def test_parameters_come_before_a_counter():
    """Two parameters are better than one counter."""
    volumes = [
        {"FlipAngle": angle, "EchoTime": te, "AcquisitionNumber": i}
        for i, (angle, te) in enumerate([(a, t) for a in (5.0, 10.0) for t in (1.0, 2.0, 3.0)])
    ]
    assert chosen(scan(volumes)) == {"slice": 3, "EchoTime": 3, "FlipAngle": 2}


def test_a_counter_joins_a_parameter():
    """Echoes that are repeated have two dims, the second of them a counter."""
    volumes = [{"EchoTime": te, "AcquisitionNumber": i} for i in range(4) for te in (1.0, 2.0)]
    assert chosen(scan(volumes)) == {"slice": 3, "EchoTime": 2, "AcquisitionNumber": 4}


def test_times_of_volumes_are_a_dim():
    """A time that all slices of a volume share is a dim itself."""
    assert chosen(scan([{"AcquisitionTime": 10.0 * i, "AcquisitionNumber": i} for i in range(5)])) == {
        "slice": 3,
        "AcquisitionTime": 5,
    }


def test_time_of_day_is_no_dim_over_midnight():
    """Where the day changes, times of day are out of order, and another counter serves."""
    volumes = [
        {"AcquisitionTime": (86399.0 + i) % 86400, "AcquisitionDate": f"2024010{1 + (i > 0)}", "AcquisitionNumber": i}
        for i in range(3)
    ]
    assert chosen(scan(volumes)) == {"slice": 3, "AcquisitionNumber": 3}


def test_what_varies_with_the_slice_is_no_parameter():
    """A tag that each slice has its own value of tells no volumes apart."""
    volumes = [lambda s, te=te: {"EchoTime": te, "RepetitionTime": 100.0 + s} for te in (5.0, 10.0)]
    assert chosen(scan(volumes)) == {"slice": 3, "EchoTime": 2}


def test_a_parameter_that_nobody_thought_of_is_a_dim():
    """A standard tag that no list names serves where nothing else does."""
    volumes = [{"ContrastBolusAgent": agent, "InstanceNumber": ABSENT} for agent in ("A", "B")]
    assert chosen(scan(volumes)) == {"slice": 3, "ContrastBolusAgent": 2}


def test_display_settings_are_no_parameters():
    """Windows, pixel statistics and rescaling never are a dim."""
    volumes = [{"WindowWidth": 1.0 + i, "RescaleSlope": 1.0 + i, "LargestImagePixelValue": i} for i in range(2)]
    assert chosen(scan(volumes)) == {"slice": 3, "InstanceNumber_index": 2}


def test_magnitude_and_phase_are_a_dim():
    """Quantities that fill a grid are told apart by name."""
    volumes = [
        {"EchoTime": te, "image_type": kind, "ImageType": ("ORIGINAL", "PRIMARY", kind[0])}
        for te in (1.0, 2.0, 3.0)
        for kind in ("MAGNITUDE", "PHASE")
    ]
    assert chosen(scan(volumes)) == {"slice": 3, "EchoTime": 3, "image_type": 2}


def test_quantities_are_named_although_an_echo_time_would_do():
    """Of a magnitude image and a field map with an echo time of zero, the kind is the dim."""
    volumes = [
        {"EchoTime": 1.5, "image_type": "MAGNITUDE", "FrameType": ("ORIGINAL", "PRIMARY", "T1", "M")},
        {"EchoTime": 0.0, "image_type": "REAL", "FrameType": ("ORIGINAL", "PRIMARY", "T1", "FIELD_MAP")},
    ]
    assert chosen(scan(volumes)) == {"slice": 3, "image_type": 2}


def test_b_values_whose_trace_is_derived_are_a_dim():
    """A weighted image counts as the same quantity, original or derived."""
    volumes = [
        {"b_value": b, "ImageType": ("DERIVED" if b else "ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW" if b else "NONE")}
        for b in (0.0, 500.0, 1000.0)
    ]
    assert chosen(scan(volumes)) == {"slice": 3, "b_value": 3}


# -- (b) volumes


def diffusion(repeats=1):
    """Return volumes of a diffusion series: b0 so many times, and four directions."""
    directions = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.8, 0.0)]
    return [{"b_value": 0.0}] * repeats + [{"b_value": 1000.0, "DiffusionGradientOrientation": d} for d in directions]


def test_diffusion_is_volumes():
    """A b-value and directions make no product; they vary together along volumes, in the order of frames."""
    frames = scan(diffusion())
    choice = infer(frames)
    assert chosen(frames) == {"slice": 3, "volume": 5}
    assert "b_value (2) and DiffusionGradientOrientation (5) vary together along 5 volumes" in choice.reason
    np.testing.assert_array_equal(choice.dims[1].codes, np.repeat(range(5), 3))


def test_repeated_b0_are_told_apart_by_a_counter():
    """Volumes alike in all parameters are told apart by a counter, also where it differs from slice to slice."""
    volumes = [lambda s, v=v, i=i: {**v, "AcquisitionTime": 10.0 * i + s} for i, v in enumerate(diffusion(repeats=3))]
    frames = scan(volumes)
    choice = infer(frames)
    assert chosen(frames) == {"slice": 3, "volume": 7}
    assert "those that are alike in these are told apart by AcquisitionTime" in choice.reason
    np.testing.assert_array_equal(choice.dims[1].codes, np.repeat(range(7), 3))


def test_a_counter_that_fills_a_grid_does_not_stand_for_parameters():
    """Directions stay coordinates of volumes, although an acquisition number would fill the grid."""
    volumes = [{**volume, "AcquisitionNumber": i} for i, volume in enumerate(diffusion())]
    assert chosen(scan(volumes)) == {"slice": 3, "volume": 5}


def test_volumes_do_not_depend_on_the_order_of_frames_in_time():
    """Slices whose volumes were acquired in another order are matched by their parameters."""
    volumes = diffusion()
    shuffled = [lambda s, i=i: volumes[(i + s) % len(volumes)] for i in range(len(volumes))]
    frames = scan(shuffled)
    grid = arrange(frames, infer(frames).dims)
    b_values = np.array(frames.attributes["b_value"])[grid.frames]
    assert (b_values == b_values[0]).all()


# -- (c) ranks


def test_times_of_slices_are_ranked():
    """A time of its own for every frame is ranked at each position; the values are a coordinate along both dims."""
    frames = scan([lambda s, i=i: {"AcquisitionTime": 10.0 * i + s, "AcquisitionNumber": 1} for i in range(4)])
    grid = arrange(frames, infer(frames).dims)
    assert grid.dims == ("slice", "AcquisitionTime_index")
    dims, values = grid.coords["AcquisitionTime"]
    assert dims == ("slice", "AcquisitionTime_index")
    np.testing.assert_array_equal(values[:, 1], [10.0, 11.0, 12.0])


def test_instance_number_is_the_last_resort():
    """Where no element but InstanceNumber tells volumes apart, its rank does."""
    frames = scan([{}] * 4)
    assert chosen(frames) == {"slice": 3, "InstanceNumber_index": 4}
    assert "the rank of InstanceNumber at each position" in infer(frames).reason


def test_cardiac_phases_are_ranked_by_trigger_time():
    """Trigger times that differ a little from slice to slice are ranked."""
    frames = scan([lambda s, i=i: {"TriggerTime": 30.0 * i + 0.7 * s} for i in range(5)])
    assert chosen(frames) == {"slice": 3, "TriggerTime_index": 5}


def test_inversion_times_of_slices_are_ranked():
    """Inversion times that each slice has its own of are ranked, before any counter."""
    frames = scan(
        [lambda s, i=i: {"InversionTime": 100.0 * i + 7.0 * s, "AcquisitionTime": 9.0 * i + s} for i in (1, 2, 3)]
    )
    assert chosen(frames) == {"slice": 3, "InversionTime_index": 3}


def test_ranks_join_a_parameter():
    """Echoes repeated without a common counter have the echo time and a rank."""
    volumes = [
        lambda s, te=te, i=i: {"EchoTime": te, "AcquisitionTime": 9.0 * i + s} for i in range(3) for te in (1, 2)
    ]
    assert chosen(scan(volumes)) == {"slice": 3, "EchoTime": 2, "AcquisitionTime_index": 3}


def test_ranks_do_not_mix_what_differs():
    """A counter whose order disagrees with a parameter that nobody thought of does not rank."""
    volumes = [
        lambda s, i=i: {"ContrastBolusAgent": "AB"[(i + s) % 2], "AcquisitionTime": i * 10.0 + s} for i in (0, 1)
    ]
    assert chosen(scan(volumes)) == {"slice": 3, "ContrastBolusAgent": 2}


# -- several stacks


def test_orientations_are_not_stacked():
    """A localizer in several planes has no dims."""
    frames = FakeFrames(ImagePositionPatient=[(0.0, 0.0, 0.0)] * 2, ImageOrientationPatient=[AXIAL, SAGITTAL])
    with raises("2 frames are in 2 orientations (1, 1 frames)"):
        infer(frames)


@pytest.mark.parametrize(
    ("tag", "values", "words"),
    [
        ("Rows", [64, 64, 128], "matrix sizes"),
        ("PixelSpacing", [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0)], "pixel spacings"),
        ("FrameOfReferenceUID", ["1.2", "1.2", "1.3"], "frames of reference"),
        ("ImagePositionPatient", [(0.0, 0.0, 0.0), (0.0, 0.0, 2.0), (90.0, 0.0, 2.0)], "places side by side"),
        ("ImageOrientationPatient", [AXIAL, AXIAL, ABSENT], "kinds with and without position and orientation"),
    ],
)
def test_what_a_stack_shares(tag, values, words):
    """Frames of one stack share matrix, spacing, frame of reference and line of positions."""
    columns = {
        "ImagePositionPatient": [(0.0, 0.0, 2.0 * i) for i in range(3)],
        "ImageOrientationPatient": [AXIAL] * 3,
    }
    with raises(f"3 frames are in 2 {words} (2, 1 frames)"):
        infer(FakeFrames(**{**columns, tag: values}))


def test_slices_of_a_tilted_stack_are_not_side_by_side():
    """Slices that shift from one to the next are one stack."""
    positions = [(0.0, 3.0 * i, 10.0 * i) for i in range(4)] * 2
    frames = FakeFrames(
        ImagePositionPatient=positions, ImageOrientationPatient=[AXIAL] * 8, EchoTime=[1.0] * 4 + [2.0] * 4
    )
    assert chosen(frames) == {"slice": 4, "EchoTime": 2}


def test_a_map_among_signals_is_not_a_volume():
    """A diffusion coefficient is another quantity than the images that it was computed from."""
    adc = {
        "b_value": 0.0,
        "ImageType": ("DERIVED", "SECONDARY", "ADC"),
        "DiffusionGradientOrientation": (1.0, 1.0, 1.0),
    }
    volumes = [{"ImageType": ("ORIGINAL", "PRIMARY", "M"), **volume} for volume in diffusion()]
    with raises("18 frames do not fill a grid along ('slice',): 3 positions hold 6 frames"):
        infer(scan([*volumes, adc]))


def test_a_mean_among_times_is_not_ranked():
    """A derived image is no time point of those that it was derived from."""
    volumes = [{"ImageType": ("ORIGINAL", "PRIMARY", "M")}] * 4 + [{"ImageType": ("DERIVED", "PRIMARY", "M")}]
    with raises("3 positions hold 5 frames"):
        infer(scan(volumes))


def test_phase_beside_magnitude_at_other_positions_is_not_one_stack():
    """Slices of different quantities are not one volume."""
    kinds = ["MAGNITUDE", "MAGNITUDE", "PHASE"]
    with raises("3 frames are in 2 quantities"):
        infer(scan([lambda s: {"image_type": kinds[s]}]))


# -- gaps and copies


def test_incomplete_last_volume_is_refused_with_the_way_out():
    """An interrupted series says what is missing and what to type."""
    frames = scan([{"AcquisitionNumber": i} for i in range(4)], leave_out=[(3, 1), (3, 2)])
    with raises("2 positions hold 3 frames, 1 position holds 4 frames") as caught:
        infer(frames)
    assert "AcquisitionNumber (4) tells the up to 4 frames at each of 3 positions apart, with 2 points" in str(
        caught.value
    )
    assert "try missing='fill'" in str(caught.value)


def test_incomplete_last_volume_is_filled():
    """With missing="fill" the points of an interrupted series are found by value."""
    frames = scan([{"AcquisitionNumber": i} for i in range(4)], leave_out=[(3, 1), (3, 2)])
    grid = arrange(frames, infer(frames, missing="fill").dims, missing="fill")
    assert grid.dims == ("slice", "AcquisitionNumber")
    np.testing.assert_array_equal(grid.frames[:, 3] >= 0, [True, False, False])


def test_a_lost_file_does_not_shift_what_follows():
    """Where only InstanceNumber counts, the volume is computed from it: a gap stays where it is."""
    frames = scan([{}] * 4, leave_out=[(1, 2)])
    grid = arrange(frames, infer(frames, missing="fill").dims, missing="fill")
    assert grid.dims == ("slice", "volume")
    np.testing.assert_array_equal(np.argwhere(grid.frames < 0), [[2, 1]])


def test_repeated_slice_is_refused_with_the_way_out():
    """A slice that was acquired twice says so."""
    frames = FakeFrames(
        ImagePositionPatient=[(0.0, 0.0, 2.0 * s) for s in (0, 1, 2, 1)],
        ImageOrientationPatient=[AXIAL] * 4,
        InstanceNumber=[1, 2, 3, 4],
    )
    with raises("1 position holds 2 frames, 2 one") as caught:
        infer(frames)
    assert "try duplicates='first'" in str(caught.value)
    assert chosen(frames, duplicates="first") == {"slice": 3}


def test_duplicates_are_not_all_there_is():
    """duplicates="first" does not throw a time series away."""
    assert chosen(scan([{}] * 4), duplicates="first") == {"slice": 3, "InstanceNumber_index": 4}


def test_error_says_what_was_tried():
    """Where nothing fits, the error lists what was tried."""
    frames = scan([{"InstanceNumber": 1}] * 2)
    with raises(
        "6 frames do not fill a grid along ('slice',): 3 positions hold 2 frames. Tried: parameters (none varies at a "
        "position); values and ranks of counters (none varies)."
    ):
        infer(frames)


def test_frames_without_uid_are_copies_of_nothing():
    """Copies are frames with the same SOPInstanceUID and number; two frames without one stay two."""
    frames = FakeFrames(SOPInstanceUID=["1.2", "1.2", ABSENT, ABSENT], InstanceNumber=[1, 2, 3, 4])
    assert first_copies(frames).tolist() == [0, 2, 3]
