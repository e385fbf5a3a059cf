"""Exceptions and warnings. Every message names the argument, the value and what was expected."""

from __future__ import annotations

import numpy as np

__all__ = [
    "AdaptationWarning",
    "AllWeightsZeroWarning",
    "ChainsWarning",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointWarning",
    "ClusterError",
    "CompileCacheWarning",
    "ConstantWeightsWarning",
    "DeviceMemoryError",
    "DeviceUnavailableError",
    "DrawsAxisWarning",
    "FastElboError",
    "FastElboWarning",
    "FitNotConvergedWarning",
    "HighParetoKWarning",
    "InvalidInputError",
    "InvalidWeightError",
    "LabelSwitchingWarning",
    "LowESSWarning",
    "ModeError",
    "NoDeviceFormWarning",
    "NotPositiveDefiniteError",
    "OneDrawAtATimeWarning",
    "OverlapWarning",
    "ShortTailWarning",
    "TargetErrorWarning",
    "TotalBiasWarning",
    "UnsupportedDTypeError",
    "VarianceFloorWarning",
]


class FastElboError(Exception):
    """Base class of all exceptions that fastelbo raises on purpose."""


class InvalidInputError(FastElboError, ValueError):
    """An argument has an invalid value or shape."""


class NotPositiveDefiniteError(InvalidInputError, np.linalg.LinAlgError):
    """A covariance matrix is not symmetric positive definite."""


class ModeError(FastElboError, ValueError):
    """No mode of log p(x, z) was found, or its curvature there makes no approximation."""


class InvalidWeightError(InvalidInputError):
    """A log weight is NaN or +inf."""


class UnsupportedDTypeError(FastElboError, TypeError):
    """An array has an unsupported element type."""


class CheckpointError(FastElboError, OSError):
    """A checkpoint cannot be written or read, or was changed after it was written."""


class CheckpointMismatchError(FastElboError, ValueError):
    """A checkpoint is of another run, another format version or another stream version."""


class ClusterError(FastElboError, RuntimeError):
    """The workers of a ``client`` cannot do a task, would not give the same bits, or are lost."""


class DeviceUnavailableError(FastElboError, RuntimeError):
    """The requested device cannot be used on this machine."""


class DeviceMemoryError(FastElboError, MemoryError):
    """A device does not have enough memory, even for the smallest piece of the work."""


class FastElboWarning(UserWarning):
    """Base class of all warnings of fastelbo."""


class CheckpointWarning(FastElboWarning):
    """A checkpoint cannot be written, is damaged, or was made where the last bits may differ."""


class CompileCacheWarning(FastElboWarning):
    """The disk cache of kernels is damaged or cannot be used: kernels are compiled anew."""


class OneDrawAtATimeWarning(FastElboWarning):
    """Control flow of a user's function depends on z: it runs for one draw at a time."""


class NoDeviceFormWarning(FastElboWarning):
    """A user's function has no form on a device, where it would be faster: a CPU computes it."""


class HighParetoKWarning(FastElboWarning):
    """The tail of the weights, or of their powers, is too heavy for a standard error."""


class LowESSWarning(FastElboWarning):
    """There are too few effective draws to trust the standard error of the log evidence."""


class AllWeightsZeroWarning(FastElboWarning):
    """All weights of a data point are 0: its log evidence is -inf."""


class ChainsWarning(FastElboWarning):
    """Markov chains have not mixed, or have too few effective draws."""


class ConstantWeightsWarning(FastElboWarning):
    """All weights of a data point are equal: q is exact, or all draws missed a mode."""


class OverlapWarning(FastElboWarning):
    """Two densities overlap so little that an error by bridge sampling cannot be trusted."""


class ShortTailWarning(FastElboWarning):
    """There are too few draws for a standard error or for a fit of the tail."""


class DrawsAxisWarning(FastElboWarning):
    """The axis taken for the draws is short beside another, and nobody named it."""


class TargetErrorWarning(FastElboWarning):
    """A target standard error is not promised, or needs more draws than are allowed."""


class TotalBiasWarning(FastElboWarning):
    """The bias correction of a total is not small compared with its standard error."""


class AdaptationWarning(FastElboWarning):
    """An adapted q does not fit well enough, so that its estimate may be wrong."""


class LabelSwitchingWarning(AdaptationWarning):
    """log p(x, z) has a symmetry that q lacks: its other modes may be missing in the evidence."""


class FitNotConvergedWarning(FastElboWarning):
    """A fit stopped at its largest number of iterations, before it converged."""


class VarianceFloorWarning(FastElboWarning):
    """A fitted variance is at its floor: without one, it would be 0 or the likelihood unbounded."""
