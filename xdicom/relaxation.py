"""The spoiled gradient echo: its signal from T1, and T1 from its signal at several flip angles.

Arrays in, arrays out; it knows no DICOM.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

LEAST_SNR = 5.0
_FIRST_GUESS = 1000.0  # ms
_ITERATIONS = 8
_MAD = 0.6745  # median of |x| of a normal distribution, in standard deviations


def spoiled_echo(m0: ArrayLike, t1: ArrayLike, *, repetition_time: float, flip_angle: ArrayLike) -> FloatArray:
    """Return the steady-state signal of an ideally spoiled gradient echo (Ernst and Anderson 1966).

    Parameters
    ----------
    m0
        Signal at full relaxation after 90 degrees; T2* decay included.
    t1, repetition_time
        In ms.
    flip_angle
        In degrees.

    Examples
    --------
    >>> spoiled_echo(1000, 800, repetition_time=15, flip_angle=[5, 11]).round(1)
    array([72.6, 96.8])
    """
    angle = np.deg2rad(np.asarray(flip_angle, np.float64))
    rest = np.exp(-repetition_time / np.asarray(t1, np.float64))
    signal: FloatArray = np.asarray(m0, np.float64) * np.sin(angle) * (1 - rest) / (1 - rest * np.cos(angle))
    return signal


def fit_t1(
    signal: ArrayLike, *, flip_angles: ArrayLike, repetition_time: float, noise: float = 0.0
) -> NDArray[np.float32]:
    """Fit T1 to spoiled gradient echoes with several flip angles.

    Parameters
    ----------
    signal
        Magnitudes, shape (..., flip angles).
    flip_angles
        In degrees, at least two that differ.
    repetition_time
        In ms.
    noise
        Standard deviation of the noise in each of the real and the imaginary channel, see `estimate_noise`.

    Returns
    -------
    ndarray
        T1 in ms, shape (...). NaN where a value is not finite, where the mean signal is below 5 times the noise, where
        the signals fit no T1, and where the standard error would exceed T1.

    Notes
    -----
    The linear equation S - E1 S cos(a) = M0 (1 - E1) sin(a), with E1 = exp(-TR/T1), is solved for E1 and M0 (1 - E1)
    with the weights of the last solution, which converges to the least squares fit of the signal itself (Ramos-Llorden
    et al. 2018, doi:10.1109/TMI.2018.2833288); an unweighted linear fit is biased where noise is not small. The
    magnitude's bias is taken off first: E[S^2] = A^2 + 2 noise^2 (Gudbjartsson and Patz 1995).

    Examples
    --------
    >>> angles = [2, 5, 10, 15]
    >>> signal = spoiled_echo(1000, 850, repetition_time=15, flip_angle=angles)
    >>> float(fit_t1(signal, flip_angles=angles, repetition_time=15).round())
    850.0
    """
    values = np.asarray(signal, np.float64)
    angles = np.deg2rad(np.asarray(flip_angles, np.float64))
    if values.shape[-1:] != angles.shape or len(np.unique(angles)) < 2:
        raise ValueError(f"{values.shape} values for flip angles {flip_angles!r}: expected one each, two that differ")
    t1 = np.full(values.shape[:-1], np.nan, np.float32)
    # A sum with inf or NaN is neither, and compares as False.
    mean = np.where(np.isfinite(values).all(axis=-1), values.sum(axis=-1) / len(angles), 0.0)
    usable = mean > max(LEAST_SNR * noise, 0.0)
    # E[S] is A + noise^2 / 2A at these signals, so that one noise^2 makes up for it.
    unbiased = np.sqrt(np.maximum(values[usable] ** 2 - noise**2, 0.0))
    t1[usable] = _fitted(unbiased, np.sin(angles), np.cos(angles), repetition_time, noise)
    return t1


def _fitted(signal: FloatArray, sin: FloatArray, cos: FloatArray, repetition_time: float, noise: float) -> FloatArray:
    """Return T1 for signals of shape (voxels, flip angles), NaN where there is none."""
    first = np.exp(-repetition_time / _FIRST_GUESS)
    rest = np.full(len(signal), first)
    scale = np.zeros(len(signal))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(_ITERATIONS):
            # Where an iteration leaves the range of T1, the next starts inside again.
            start = np.where((rest > 0) & (rest < 1), rest, first)
            rest, scale = _solved(signal, sin, cos, 1 - start[:, None] * cos)
        t1 = -repetition_time / np.log(rest)
        weight = 1 - rest[:, None] * cos
        by_scale, by_rest = sin / weight, scale[:, None] * sin * cos / weight**2
        total = (by_scale**2).sum(axis=1)
        spread = total * (by_rest**2).sum(axis=1) - (by_scale * by_rest).sum(axis=1) ** 2
        error = noise * np.sqrt(total / spread) * t1**2 / (repetition_time * rest)
        good = (rest > 0) & (rest < 1) & (scale > 0) & np.isfinite(t1)
        good &= (error <= t1) | (noise == 0)
    fitted: FloatArray = np.where(good, t1, np.nan)
    return fitted


def _solved(signal: FloatArray, sin: FloatArray, cos: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return E1 and M0 (1 - E1) of each voxel by Cramer's rule."""
    first, second = sin / weight**2, sin * cos / weight**3
    a, b, right = ((first * part).sum(axis=1) for part in (signal * cos, sin, signal))
    c, d, under = ((second * part).sum(axis=1) for part in (signal * cos, sin, signal))
    determinant = a * d - b * c
    return (right * d - b * under) / determinant, (a * under - right * c) / determinant


def estimate_noise(image: ArrayLike) -> float:
    """Estimate the standard deviation of the noise from differences between neighbours (Donoho and Johnstone 1994).

    Parameters
    ----------
    image
        Shape (..., rows, columns); at least 2 x 2.

    Notes
    -----
    Where most of the image is background, whose magnitude varies less, the estimate is up to a third too low.
    """
    values = np.asarray(image, np.float64)
    even = tuple(size // 2 * 2 for size in values.shape[-2:])
    values = values[..., : even[0], : even[1]]
    detail = (values[..., ::2, ::2] - values[..., 1::2, ::2] - values[..., ::2, 1::2] + values[..., 1::2, 1::2]) / 2
    detail = detail[np.isfinite(detail)]
    return float(np.median(np.abs(detail)) / _MAD) if detail.size else 0.0
