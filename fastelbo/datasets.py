"""Small real data sets that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import numpy as np

from .validation import Floats, Integers

__all__ = ["Digits", "load_digits", "load_faithful", "load_galaxies"]

_DATA = files(__package__) / "data"


class Digits(NamedTuple):
    """Images, one per row, and the digit that each shows."""

    images: Floats
    labels: Integers


def load_digits() -> Digits:
    """Handwritten digits, 8 x 8 pixels each.

    Returns
    -------
    Digits
        ``images``, shape (1797, 64): the pixels row by row, from 0 (paper) to 16 (ink).
        ``labels``, shape (1797,): the digits, 0 to 9.

    Notes
    -----
    The test set of Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, 1998),
    UCI Machine Learning Repository, data set 80; copied from scikit-learn.

    Examples
    --------
    >>> from fastelbo.datasets import load_digits
    >>> images, labels = load_digits()
    >>> images.shape, labels[:5]
    ((1797, 64), array([0, 1, 2, 3, 4]))
    """
    with (_DATA / "digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Digits(arrays["images"].astype(np.float64), arrays["labels"].astype(np.int64))


def load_galaxies() -> Floats:
    """Velocities of 82 galaxies in the Corona Borealis region.

    Returns
    -------
    ndarray, shape (82,)
        Velocities in 1000 km/s, ascending.

    Notes
    -----
    M. Postman, J. P. Huchra and M. J. Geller (1986), Astronomical Journal 92, 1238-1247; as listed
    by K. Roeder (1990), Journal of the American Statistical Association 85, 617-624.

    Examples
    --------
    >>> from fastelbo.datasets import load_galaxies
    >>> float(load_galaxies()[0])
    9.172
    """
    return _table("galaxies.csv") / 1000.0


def load_faithful() -> Floats:
    """Eruptions of the Old Faithful geyser.

    Returns
    -------
    ndarray, shape (272, 2)
        Duration of each eruption and waiting time to the next one, both in minutes.

    Notes
    -----
    A. Azzalini and A. W. Bowman (1990), Applied Statistics 39, 357-365.

    Examples
    --------
    >>> from fastelbo.datasets import load_faithful
    >>> load_faithful()[0]
    array([ 3.6, 79. ])
    """
    return _table("faithful.csv")


def _table(name: str) -> Floats:
    """The numbers of a CSV file with one header line."""
    with (_DATA / name).open(encoding="utf-8") as file:
        return np.loadtxt(file, delimiter=",", skiprows=1)
