"""Types for arrays of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import ArrayLike

from ..validation import Floats


class ExportsDLPack(Protocol):
    """An array of CuPy, torch or JAX, in any memory."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


class OnDevice(Protocol):
    """An array in the memory of a GPU, with numba's array interface."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


class DeviceFloats(OnDevice, Protocol):
    """A float64 array in the memory of a GPU. `copy_to_host` copies it from there."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def copy_to_host(self) -> Floats: ...


class HasVariables(Protocol):
    """A Dataset or DataTree of xarray. ArviZ's InferenceData has no types."""

    @property
    def data_vars(self) -> Any: ...


class HasTerms(Protocol):
    """The terms of log weights, as `fastelbo.elbo_terms` returns them."""

    @property
    def log_likelihood(self) -> Floats: ...
    @property
    def log_prior(self) -> Floats: ...
    @property
    def log_q(self) -> Floats: ...
    @property
    def log_weights(self) -> Floats: ...


ForeignArray = ExportsDLPack | OnDevice
# Log weights in main memory or in a file.
LogWeights = ArrayLike | Path | HasTerms
