"""How sharp is a map, and does it carry a checkerboard? Differences of pixels, and spectra."""

import numpy as np


def gradient_energy(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels: large in a sharp map, 0 in a flat one.

    Noise counts as sharpness; compare with the reference's own value.

    Parameters
    ----------
    image : float array, shape (..., H, W)
        A map, or several.
    mask : bool array of the same shape
        Only pairs of pixels that both lie inside count.

    Raises
    ------
    ValueError
        Shapes that differ, or no two neighbours inside the mask.
    """
    image, mask = np.asarray(image, float), np.asarray(mask, bool)
    if image.shape != mask.shape or image.ndim < 2:
        raise ValueError(f"image has shape {image.shape}, its mask {mask.shape}: expected one")
    squares = []
    for axis in (-1, -2):
        a, b = np.moveaxis(image, axis, 0), np.moveaxis(mask, axis, 0)
        squares.append(np.diff(a, axis=0)[b[1:] & b[:-1]] ** 2)
    pairs = np.concatenate(squares)
    if not pairs.size:
        raise ValueError("no two neighbouring pixels lie inside the mask: check the mask")
    return float(pairs.mean())


def sharpness(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float:
    """Gradient energy of an image as a share of its reference's: below 1 where it is blurred."""
    return gradient_energy(image, mask) / gradient_energy(reference, mask)


def power(image: np.ndarray) -> np.ndarray:
    """Power spectrum of images, faded out towards their edges, the mean left out.

    A square cut from a map has edges that would look like detail; a Hann window hides them.

    Parameters
    ----------
    image : float array, shape (..., H, W)
        H and W even.

    Returns
    -------
    float array, shape (..., H, W)
        Power at the frequencies of `numpy.fft.fftfreq`, in the unit of the image squared.

    Raises
    ------
    ValueError
        Sides that are odd or shorter than 8 pixels: they have no Nyquist frequency to look at.
    """
    image = np.asarray(image, float)
    if image.ndim < 2 or min(image.shape[-2:]) < 8 or any(n % 2 for n in image.shape[-2:]):
        raise ValueError(f"image has shape {image.shape}; expected even sides of at least 8 pixels")
    height, width = (np.hanning(n + 1)[:-1] for n in image.shape[-2:])
    window = height[:, None] * width
    mean = (image * window).sum(axis=(-2, -1), keepdims=True) / window.sum()
    return np.abs(np.fft.fft2((image - mean) * window)) ** 2 / (window**2).sum()


def radial_power(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power by spatial frequency, whatever the direction, averaged over images.

    Parameters
    ----------
    image : float array, shape (..., H, W)
        Squares of even side.

    Returns
    -------
    (float array, float array), shape (K,)
        Frequency [cycles/pixel] up to Nyquist, 0.5, and mean power.
    """
    spectrum = power(image)
    n = min(spectrum.shape[-2:])
    mean = spectrum.reshape(-1, *spectrum.shape[-2:]).mean(axis=0)
    rows, columns = (np.fft.fftfreq(side) for side in mean.shape)
    ring = np.rint(np.hypot(rows[:, None], columns) * n).astype(int)
    rings = np.arange(1, n // 2 + 1)
    return rings / n, np.array([mean[ring == k].mean() for k in rings])


def nyquist_excess(image: np.ndarray) -> float:
    """Power of stripes one pixel wide over that of stripes a little wider.

    A pattern that repeats every two pixels, as transposed convolutions of stride 2 may leave
    (Odena et al. 2016), lies on the Nyquist lines of the spectrum. About 1 for noise; below 1
    for most images, whose power falls with frequency; far above 1 for a checkerboard.

    Parameters
    ----------
    image : float array, shape (..., H, W)
        Squares cut from maps; sides even.
    """
    spectrum = power(image)
    mean = spectrum.reshape(-1, *spectrum.shape[-2:]).mean(axis=0)
    on_line, beside = [], []
    for lines in (mean, mean.T):
        half = len(lines) // 2
        on_line.append(lines[half])
        beside += [lines[half - 3], lines[half - 2]]  # the window spreads a line to its neighbours
    return float(np.mean(on_line) / np.mean(beside))
