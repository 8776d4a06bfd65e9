"""Facts about the digital head."""

import numpy as np
import pytest

from xdicom.phantom import TISSUES, Phantom

SMALL = Phantom(columns=32, rows=40, slices=6)


@pytest.mark.parametrize("phantom", [Phantom(), SMALL])
def test_every_tissue_is_there(phantom):
    """Each tissue fills voxels, and so does air."""
    assert set(np.unique(phantom.labels())) == set(range(len(TISSUES) + 1))


def test_field_of_view_is_the_same_at_any_size():
    """Steps times numbers of voxels are 192 x 240 x 60 mm."""
    for phantom in (Phantom(), SMALL):
        steps = np.linalg.norm(phantom.affine[:3, :3], axis=0)
        size = steps * (phantom.columns, phantom.rows, phantom.slices)
        np.testing.assert_allclose(size, (192, 240, 60))


def test_slices_are_double_oblique_and_right_handed():
    """No axis of the images is one of the patient, and the three are at right angles."""
    steps = SMALL.affine[:3, :3]
    directions = steps / np.linalg.norm(steps, axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert np.linalg.det(directions) == pytest.approx(1)
    assert np.abs(directions).max() < 0.999


def test_middle_of_the_images_is_the_middle_of_the_head():
    """The centre of the volume lies at the origin of the patient."""
    middle = (np.array([SMALL.columns, SMALL.rows, SMALL.slices]) - 1) / 2
    np.testing.assert_allclose(SMALL.affine @ [*middle, 1], [0, 0, 0, 1], atol=1e-9)


def test_the_lesion_is_left_and_in_front():
    """A flip of an axis would show: LPS x is to the left, y to the back."""
    label = [tissue.name for tissue in TISSUES].index("lesion") + 1
    slices, rows, columns = np.nonzero(Phantom().labels() == label)
    x, y, _ = Phantom().affine[:3] @ [columns, rows, slices, np.ones(len(rows))]
    assert x.min() > 0 > y.max()


def test_labels_follow_the_head_and_not_the_slices():
    """Asked with an affine that runs the other way, labels come the other way."""
    affine = SMALL.affine
    affine[:3, 3] += affine[:3, 2] * (SMALL.slices - 1)
    affine[:3, 2] *= -1
    np.testing.assert_array_equal(SMALL.labels(affine), SMALL.labels()[::-1])


def test_true_t1_is_that_of_the_tissue():
    """T1 is NaN in air and the tissue's elsewhere."""
    t1, labels = SMALL.t1(), SMALL.labels()
    assert np.isnan(t1[labels == 0]).all()
    assert [np.unique(t1[labels == i + 1]).tolist() for i in range(len(TISSUES))] == [[t.t1] for t in TISSUES]


def test_images_are_like_those_of_a_scanner():
    """Unsigned integers of 12 bits, shape (slices, rows, columns), with noise in the air."""
    image = SMALL.image(11.0)
    assert (image.shape, image.dtype) == ((6, 40, 32), np.uint16)
    assert image.max() < 4096
    air = image[SMALL.labels() == 0].astype(float)
    assert np.sqrt((air**2).mean() / 2) == pytest.approx(SMALL.noise, rel=0.05)


def test_images_are_always_the_same():
    """The noise is that of the flip angle, and another one at another angle."""
    np.testing.assert_array_equal(SMALL.image(4.0), SMALL.image(4.0))
    air = SMALL.labels() == 0
    assert (SMALL.image(4.0)[air] != SMALL.image(7.0)[air]).mean() > 0.9
