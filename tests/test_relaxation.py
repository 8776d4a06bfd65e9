"""Facts about the spoiled gradient echo and the fit of T1 to it."""

import numpy as np
import pytest

from xdicom.relaxation import LEAST_SNR, estimate_noise, fit_t1, spoiled_echo

ANGLES = (2.0, 5.0, 11.0, 20.0)
TR = 15.0
T1 = np.array([250.0, 850.0, 1400.0, 4000.0])


def signals(t1=T1, angles=ANGLES, m0=20_000.0):
    """Return noiseless signals, shape (*t1, angles)."""
    return spoiled_echo(m0, np.asarray(t1)[..., None], repetition_time=TR, flip_angle=angles)


def fit(signal, angles=ANGLES, noise=0.0):
    """Fit with the repetition time of all tests."""
    return fit_t1(signal, flip_angles=angles, repetition_time=TR, noise=noise)


def noisy(t1, count, noise, seed=0):
    """Return magnitudes of many voxels of one tissue."""
    real, imaginary = np.random.default_rng(seed).normal(scale=noise, size=(2, count, len(ANGLES)))
    return np.hypot(signals(t1) + real, imaginary)


@pytest.mark.parametrize("t1", T1)
def test_signal_is_largest_at_the_ernst_angle(t1):
    """The Ernst angle, arccos(E1), gives the most signal."""
    ernst = np.rad2deg(np.arccos(np.exp(-TR / t1)))
    peak, *beside = spoiled_echo(1.0, t1, repetition_time=TR, flip_angle=[ernst, ernst - 0.5, ernst + 0.5])
    assert peak > max(beside)


def test_full_recovery_gives_the_sine_of_the_angle():
    """Where TR is long, nothing but M0 sin(angle) is left."""
    assert spoiled_echo(100.0, 1.0, repetition_time=1000.0, flip_angle=30.0) == pytest.approx(50.0)


@pytest.mark.parametrize("angles", [(5.0, 10.0), ANGLES, (20.0, 2.0, 5.0)])
def test_fit_inverts_the_signal(angles):
    """Without noise T1 comes back, whatever the number and order of angles."""
    np.testing.assert_allclose(fit(signals(angles=angles), angles), T1, rtol=1e-5)


def test_fit_does_not_depend_on_the_scale():
    """Twice the signal is twice M0 and the same T1."""
    np.testing.assert_allclose(fit(signals(m0=1e-3)), fit(signals(m0=1e6)), rtol=1e-6)


@pytest.mark.parametrize("t1", T1)
def test_fit_is_unbiased_where_noise_is_small(t1):
    """The median of many noisy voxels is within 1 % of the truth."""
    assert np.median(fit(noisy(t1, 20_000, noise=10.0), noise=10.0)) == pytest.approx(t1, rel=0.01)


def test_fit_is_less_biased_than_the_unweighted_line():
    """At low SNR the plain linear fit of S/sin to S/tan is further from the truth."""
    signal, angles = noisy(1400.0, 20_000, noise=60.0), np.deg2rad(ANGLES)
    y, x = signal / np.sin(angles), signal / np.tan(angles)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    plain = np.nanmedian(-TR / np.log(np.clip((x * y).sum(axis=1) / (x * x).sum(axis=1), 1e-9, 1 - 1e-9)))
    assert abs(np.nanmedian(fit(signal, noise=60.0)) - 1400) < abs(plain - 1400) / 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_no_t1(bad):
    """A voxel with one value that is not finite is NaN; its neighbours are fitted."""
    signal = signals()
    signal[1, 2] = bad
    found = fit(signal)
    assert np.isnan(found).tolist() == [False, True, False, False]


@pytest.mark.parametrize("values", [(0, 0, 0, 0), (-5, -5, -5, -5), (1, 10, 100, 1000), (0, 0, 0, 1)])
def test_what_no_t1_explains_has_none(values):
    """No signal, a negative one, and one that grows faster than the sine of the angle are NaN, without a warning."""
    assert np.isnan(fit(np.array(values, np.float64)))


def test_voxels_in_the_noise_have_no_t1():
    """Below 5 times the noise there is no fit."""
    signal = signals()
    assert np.isnan(fit(signal, noise=1.01 * signal.mean(axis=1).max() / LEAST_SNR)).all()


def test_t1_that_the_angles_cannot_tell_is_left_out():
    """A standard error above T1 itself makes NaN: two angles far above the Ernst angle say nothing of a short T1."""
    angles = (2.0, 2.1)
    signal = spoiled_echo(20_000.0, 50.0, repetition_time=TR, flip_angle=angles)
    assert np.isnan(fit(signal, angles, noise=100.0))
    assert fit(signal, angles) == pytest.approx(50.0, rel=1e-3)


def test_shape_is_kept():
    """All axes but the last stay; the result is float32."""
    found = fit(np.broadcast_to(signals(850.0), (2, 3, 5, 4)))
    assert (found.shape, found.dtype) == ((2, 3, 5), np.float32)


def test_integers_are_fitted():
    """Signals of a scanner, 16-bit integers, do not overflow."""
    assert fit(np.rint(signals(850.0)).astype(np.uint16)) == pytest.approx(850, rel=0.01)


@pytest.mark.parametrize("angles", [(5.0,), (5.0, 5.0), (5.0, 10.0, 15.0)])
def test_angles_must_fit_the_signal(angles):
    """One angle, one angle twice, and another number of angles than signals are refused."""
    with pytest.raises(ValueError, match="two that differ"):
        fit(np.ones((3, min(len(angles), 2))), angles)


@pytest.mark.parametrize("level", [0.0, 1000.0])
def test_noise_is_estimated(level):
    """The estimate is within 10 % in an image of signal, and within 10 % where all is air."""
    real, imaginary = np.random.default_rng(1).normal(scale=20.0, size=(2, 6, 64, 80))
    image = np.hypot(level + real, imaginary)
    image[..., 20:40, 20:40] += 2000.0
    assert estimate_noise(image) == pytest.approx(20.0, rel=0.1)


def test_noise_is_found_in_the_air_of_a_smoothed_image():
    """Where a filter took the differences between neighbours away, the corners still tell."""
    real, imaginary = np.random.default_rng(2).normal(scale=20.0, size=(2, 128, 128))
    image = np.hypot(real, imaginary)
    image[40:90, 40:90] += 2000.0
    smooth = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, (1, 1), (0, 1))) / 4
    assert estimate_noise(smooth) > 15.0


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.full((6, 7), 9.0), np.full((4, 4), np.nan)])
def test_an_image_without_noise_has_none(image):
    """A constant image, or an empty one, gives 0."""
    assert estimate_noise(image) == 0.0
