"""Where voxels lie: stacks upright, tilted and with gaps, by hand from PS3.3 C.7.6.2.1.1."""

import numpy as np
import pytest
import xarray as xr
from grids import affine, grid, rotation, world

from xdicom.errors import GeometryError
from xdicom.slabs import Slabs, slices_of, spacing_along, thickness_of

SHAPE = (4, 5, 6)
TURN = rotation(25, 0) @ rotation(-40, 2) @ rotation(13, 1)


def stack(matrix, shape=SHAPE, **options):
    """Return slices and slabs of a grid."""
    array = grid(np.zeros(shape), matrix, **options)
    slices = slices_of(array)
    return slices, Slabs.of(slices, thickness_of(array, slices.dim))[0]


def through(depths, places, thickness):
    """Return (fractional index, inside) of depths in mm on a stack of slices 1 mm times `places`."""
    _, slabs = stack(affine((1, 1, 1), origin=(0, 0, 0)), (len(places), 2, 2), places=places, thickness=thickness)
    probe = affine((1, 1, 1), origin=(0, 0, 0))
    found = []
    for depth in depths:
        probe[2, 3] = depth
        coords, inside = slabs.locate(slices_of(grid(np.zeros((1, 1, 1)), probe)), 0)
        found.append((float(coords[0, 0, 0]), bool(inside[0, 0])))
    return found


@pytest.mark.parametrize("tilt", [0.0, 1.3], ids=["upright", "tilted"])
@pytest.mark.parametrize("turn", [np.eye(3), TURN], ids=["axial", "oblique"])
def test_each_voxel_is_at_its_own_index(turn, tilt):
    """A stack located in itself gives the indices of its voxels."""
    slices, slabs = stack(affine(turn=turn, tilt=tilt))
    for index in range(SHAPE[0]):
        coords, inside = slabs.locate(slices, index)
        rows, columns = np.indices(SHAPE[1:])
        assert inside.all()
        np.testing.assert_allclose(coords, [np.full_like(rows, index), rows, columns], atol=1e-9)


@pytest.mark.parametrize("tilt", [0.0, 1.3], ids=["upright", "tilted"])
def test_another_grid_is_at_the_inverse_of_the_affine(tilt):
    """Fractional indices are the inverse of equation C.7.6.2.1-1 at the places of the other grid's equation."""
    own, other = affine(turn=TURN, tilt=tilt), affine((0.8, 0.9, 1.1), turn=rotation(60, 2), origin=(-9, -18, 33))
    _, slabs = stack(own)
    target = slices_of(grid(np.zeros((2, 3, 4)), other))
    points = world(other, (2, 3, 4))
    expected = np.linalg.inv(own) @ np.concatenate([points.reshape(3, -1), np.ones((1, 24))])
    found = np.stack([slabs.locate(target, index)[0] for index in range(2)], axis=1)
    np.testing.assert_allclose(found.reshape(3, -1), expected[2::-1], atol=1e-9)


def test_a_small_rotation_is_not_rounded_away():
    """0.4 mrad move the far corner of a 400 mm image by 0.16 mm, and that is what is found."""
    own = affine((1, 1, 1), origin=(0, 0, 0))
    _, slabs = stack(own, (2, 2, 401))
    turned = affine((1, 1, 1), origin=(0, 0, 0), turn=rotation(np.degrees(4e-4), 2))
    coords, _ = slabs.locate(slices_of(grid(np.zeros((1, 1, 401)), turned)), 0)
    assert coords[1, 0, 400] == pytest.approx(400 * np.sin(4e-4), abs=1e-9)


@pytest.mark.parametrize(("places", "inside"), [(-0.5, True), (-0.51, False), (3.5, True), (3.51, False)])
@pytest.mark.parametrize("axis", range(3), ids=["column", "row", "slice"])
def test_voxels_reach_half_a_step(axis, places, inside):
    """Of a stack with equal steps, what lies half a step beyond the outermost centres is inside, and no more."""
    matrix = affine((2, 3, 4))
    _, slabs = stack(matrix, (4, 4, 4), thickness=1)
    probe = affine((2, 3, 4))
    index = np.array([1.0, 1.0, 1.0])
    index[axis] = places
    probe[:3, 3] = matrix[:3, :3] @ index + matrix[:3, 3]
    assert slabs.locate(slices_of(grid(np.zeros((1, 1, 1)), probe)), 0)[1].item() is inside


def test_equal_steps_need_no_thickness():
    """A stack with equal steps fills the space between slices whatever the thickness."""
    assert through([1.4], [0, 1, 2], None) == [(pytest.approx(1.4), True)]
    assert through([1.4], [0, 1, 2], 0.2) == [(pytest.approx(1.4), True)]


def test_a_gap_is_outside():
    """Where a slice is missing, its neighbours reach half a thickness, with one value each, and no further."""
    found = through([2.4, 2.6, 3.4, 3.6], [0, 1, 2, 4, 5], 1)
    assert [inside for _, inside in found] == [True, False, False, True]
    assert (found[0][0], found[3][0]) == (2.0, 3.0)


def test_beside_a_gap_touching_slabs_are_joined():
    """Slices that touch are interpolated between, also in a stack that has a gap elsewhere."""
    assert through([1.25, 4.5], [0, 1, 2, 4, 5], 1) == [(pytest.approx(1.25), True), (pytest.approx(3.5), True)]


def test_overlapping_slabs_are_joined():
    """Slices thicker than their distance are interpolated between."""
    assert through([1.75], [0, 1, 2.5], 3) == [(pytest.approx(1.5), True)]


def test_ends_of_a_stack_with_gaps_reach_half_a_thickness():
    """The first and last slab end half a thickness beyond their slices."""
    found = through([-0.9, -1.1, 7.9, 8.1], [0, 2, 7], 2)
    assert [inside for _, inside in found] == [True, False, True, False]


def test_a_single_slice_is_a_slab():
    """One slice has one value through its thickness, and nothing beyond."""
    assert through([-2.4, 0, 2.4, 2.6], [0], 5) == [(0, True), (0, True), (0, True), (0, False)]


@pytest.mark.parametrize("places", [[0], [0, 1, 3]], ids=["single", "gap"])
def test_slabs_need_a_thickness(places):
    """Without SliceThickness nobody knows how far a slab reaches, and the error says what to set."""
    with pytest.raises(GeometryError, match=r"series\.SliceThickness ="):
        through([0], places, None)


def test_thickness_may_differ_from_slice_to_slice():
    """Each slab has its own thickness."""
    array = grid(np.zeros((3, 2, 2)), affine((1, 1, 1)), places=[0, 5, 20], SliceThickness=("slice", [1.0, 2.0, 4.0]))
    slabs, _ = Slabs.of(slices_of(array), thickness_of(array, "slice"))
    assert slabs.reach.tolist() == [0.5, 1.0, 2.0]


def test_two_slices_at_one_place_are_no_stack():
    """Several frames at one position are refused, as nothing says which one to take."""
    with pytest.raises(GeometryError, match="name the dims"):
        stack(affine(), (3, 2, 2), places=[0, 1, 1])


def test_slices_that_are_not_parallel_are_no_stack():
    """Three orientations in one series are refused, with the way to take one."""
    parts = [slices_of(grid(np.zeros((1, 4, 4)), affine(turn=rotation(angle, 0)))) for angle in (0, 90)]
    fan = parts[0]._replace(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in parts[0]._fields[1:4]}
    )
    with pytest.raises(GeometryError, match="split"):
        Slabs.of(fan, np.array(1.0))


def test_order_of_slices_does_not_matter():
    """Slices in descending or mixed order are found in the order of their depths."""
    array = grid(np.zeros((3, 2, 2)), affine()).isel(slice=[2, 0, 1])
    slabs, order = Slabs.of(slices_of(array), np.array(np.nan))
    assert order.tolist() == [1, 2, 0]
    assert slabs.offsets[:, 0].tolist() == pytest.approx([0, 4, 8])


def test_arrays_without_geometry_are_refused():
    """What has no geometry coordinates lies nowhere."""
    with pytest.raises(GeometryError):
        slices_of(xr.DataArray(np.zeros((2, 3, 4)), dims=("frame", "row", "column")))


def test_slices_that_move_along_another_dim_are_refused():
    """A table that moves from time to time makes no one stack."""
    array = grid(np.zeros((2, 3, 4, 5)), affine(), dims=("time", "slice", "row", "column"))
    moving = array.assign_coords(ImagePositionPatient_x=(("time", "slice"), np.arange(6.0).reshape(2, 3)))
    with pytest.raises(GeometryError, match="time"):
        slices_of(moving)


@pytest.mark.parametrize("seed", range(40))
def test_boxes_hold_all_that_is_needed(seed):
    """Whatever lies inside falls into the box, for targets at any place, stacks tilted and with gaps."""
    rng = np.random.default_rng(seed)
    turn = [rotation(angle, axis) for axis, angle in enumerate(rng.uniform(-180, 180, 3))]
    places = None if seed % 2 else np.cumsum(rng.choice([1.0, 2.5], 7))
    own = affine(rng.uniform(0.5, 4, 3), tilt=rng.uniform(-2, 2), turn=turn[0] @ turn[1])
    _, slabs = stack(own, (7, 9, 8), places=places, thickness=2.0)
    middle = own[:3, :3] @ [4, 4, 4] + own[:3, 3] + rng.uniform(-15, 15, 3)
    target = slices_of(grid(np.zeros((3, 4, 5)), affine(rng.uniform(0.5, 4, 3), turn=turn[2], origin=middle)))
    box = slabs.box(target, 0)
    for index in range(3):
        coords, inside = slabs.locate(target, index)
        if not inside.any():
            continue
        assert box is not None
        for axis, (span, size) in enumerate(zip(box, slabs.shape, strict=True)):
            needed = np.clip(coords[axis][inside], 0, size - 1)
            assert span.start <= np.floor(needed.min() + 1e-9)
            assert span.stop > np.ceil(needed.max() - 1e-9)


def test_far_away_nothing_is_needed():
    """A target beside the source has no box."""
    _, slabs = stack(affine())
    for away in ([500, 0, 0], [0, 500, 0], [0, 0, 500]):
        assert slabs.box(slices_of(grid(np.zeros(SHAPE), affine(origin=away))), 1) is None


def test_parts_of_slices_lie_where_they_lay():
    """A block of a grid has the places of its voxels in the grid."""
    slices, slabs = stack(affine(turn=TURN))
    part = slices.part((slice(1, 3), slice(2, 5), slice(3, 4)))
    coords, _ = slabs.locate(part, 1)
    np.testing.assert_allclose(coords[:, 0, 0], [2, 2, 3], atol=1e-9)
    assert part.shape == (2, 3, 1)


def test_spacing_of_a_rectangular_grid():
    """Distances of slices, rows and columns, in mm, in this order."""
    assert spacing_along(stack(affine((1.5, 2, 4), turn=TURN))[0]).tolist() == pytest.approx([4, 2, 1.5])


def test_spacing_of_a_tilted_stack_is_refused():
    """Voxels of a tilted stack are no cuboids; the error says what works."""
    with pytest.raises(GeometryError, match=r"tilted by 18\.\d degrees"):
        spacing_along(stack(affine((1.5, 2, 4), tilt=1.3))[0])
