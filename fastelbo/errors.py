"""Exceptions and warnings. Every message names the argument, what came and what was expected."""

from __future__ import annotations

import numpy as np

__all__ = [
    "AllWeightsZeroWarning",
    "CheckpointError",
    "CheckpointMismatchError",
    "ConstantWeightsWarning",
    "DeviceMemoryError",
    "DeviceUnavailableError",
    "FastElboError",
    "FastElboWarning",
    "HighParetoKWarning",
    "InvalidInputError",
    "InvalidWeightError",
    "LowESSWarning",
    "NotPositiveDefiniteError",
    "ShortTailWarning",
    "TotalBiasWarning",
    "UnsupportedDTypeError",
]


class FastElboError(Exception):
    """Base of every exception that fastelbo raises on purpose."""


class InvalidInputError(FastElboError, ValueError):
    """An argument has a value or shape that makes no sense."""


class NotPositiveDefiniteError(InvalidInputError, np.linalg.LinAlgError):
    """A covariance matrix is not symmetric positive definite."""


class InvalidWeightError(InvalidInputError):
    """A log weight is NaN or +inf."""


class UnsupportedDTypeError(FastElboError, TypeError):
    """An array has a type of element that is not computed with."""


class CheckpointError(FastElboError, OSError):
    """A checkpoint cannot be read, or is not what was written."""


class CheckpointMismatchError(FastElboError, ValueError):
    """A checkpoint is of another version of the format, or of the stream of draws."""


class DeviceUnavailableError(FastElboError, RuntimeError):
    """A device was asked for that cannot be used here."""


class DeviceMemoryError(FastElboError, MemoryError):
    """A device has too little memory even for the smallest piece of the work."""


class FastElboWarning(UserWarning):
    """Base of every warning that fastelbo gives."""


class HighParetoKWarning(FastElboWarning):
    """The weights, or powers of them, have too heavy a tail for a standard error."""


class LowESSWarning(FastElboWarning):
    """Too few effective draws for the standard error of the log evidence to be trusted."""


class AllWeightsZeroWarning(FastElboWarning):
    """No draw of a data point has a positive weight: its log evidence is -inf."""


class ConstantWeightsWarning(FastElboWarning):
    """All weights of a data point are equal: q is exact, or misses a mode altogether."""


class ShortTailWarning(FastElboWarning):
    """Too few draws for a standard error or a tail estimate."""


class TotalBiasWarning(FastElboWarning):
    """The bias correction of a total is not small against its standard error."""
