"""Stan models by BridgeStan, whose compiled log density the kernels call by its address."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ..caching import cached_property
from ..errors import InvalidInputError
from ..kernels.draws.blocks import LANES, Call
from ..validation import MAX_DIM, Floats, as_count, shown
from .called import CalledDensity
from .constraints import Constraint
from .probe import probe_points
from .user import Model

# Of an evaluation, in multiply-adds: a guess, which sizes launches.
_WORK = 2**15
_READ = ("stanlib", "model", "model_info", "param_unc_num", "param_unc_names", "log_density")
# Of 1 and the value: both are the same function, compiled once.
_TOLERANCE = 1e-12


class StanDensity(CalledDensity):
    """log p(x, z) of a Stan model over its unconstrained parameters, as BridgeStan compiled it."""

    # The library is loaded, and the model in memory, as long as this object lives.
    function: Any
    batch_shape: tuple[int, ...] = ()
    work: int = _WORK

    def __init__(self, stan_model: Any, dim: int) -> None:
        self._set(function=stan_model, dim=dim)

    def __copy__(self) -> StanDensity:
        return self

    def __deepcopy__(self, memo: object) -> StanDensity:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Stan model is code and data in the memory of one process, and cannot be pickled: "
            "call from_bridgestan in each process"
        )

    @cached_property
    def _call(self) -> Call:
        return Call(self._block.address, self._arguments.address)

    @cached_property
    def _gradient_call(self) -> Call:
        from ..kernels.vectors.foreign import foreign_gradient_block

        return Call(foreign_gradient_block(LANES).address, self._gradient_arguments.address)

    @cached_property
    def _block(self) -> Any:
        from ..kernels.vectors.foreign import foreign_block

        return foreign_block(LANES)

    @cached_property
    def _arguments(self) -> Any:
        return self._words("bs_log_density")

    @cached_property
    def _gradient_arguments(self) -> Any:
        if not hasattr(self.function.stanlib, "bs_log_density_gradient"):
            raise InvalidInputError(
                "model has no gradient: its library has no bs_log_density_gradient, which that of "
                "BridgeStan 2 has"
            )
        return self._words("bs_log_density_gradient")

    def _words(self, name: str) -> Any:
        """What a block function reads that calls a C function of the library."""
        from ..kernels.vectors.foreign import foreign_arguments

        address = ctypes.cast(getattr(self.function.stanlib, name), ctypes.c_void_p).value
        return foreign_arguments(int(address or 0), int(self.function.model))

    @property
    def constraint(self) -> Constraint:
        """The parameters of the Stan program, and how BridgeStan unconstrains them."""

        def unconstrained(draws: Floats) -> Floats:
            return np.array([self.function.param_unconstrain(np.array(each)) for each in draws])

        return Constraint(tuple(self.function.param_names()), unconstrained)

    def plain_log_prob(self, z: Floats, i: int) -> float:
        """The value by BridgeStan's own Python function, NaN where that raises an error."""
        try:
            return float(self.function.log_density(np.array(z), propto=False, jacobian=True))
        except RuntimeError:
            return float("nan")


def from_bridgestan(model: Any) -> Model:
    """A Stan model that BridgeStan compiled, with its data.

    The compiled kernels call its C function for each draw, on all threads, without Python.

    Parameters
    ----------
    model : bridgestan.StanModel
        A model of BridgeStan 2 or later, compiled with ``STAN_THREADS=true``.

    Returns
    -------
    Model
        Over the unconstrained parameters, in Stan's order, with all constants and the Jacobian of
        the constraints. `Model.names` are BridgeStan's, such as ``theta.1``. Other processes
        make their own: it cannot be pickled.

    Raises
    ------
    InvalidInputError
        If the model is not of BridgeStan 2, has no parameters, or was compiled without
        ``STAN_THREADS``: it must then not be called from several threads.

    Notes
    -----
    Where Stan stops with an error, as ``reject`` does, the log weight is NaN, and estimates raise
    an error that names the draw; ``model.log_density`` at this draw (see `draw`) has Stan's
    message. For a density of 0, a Stan program has ``target += negative_infinity()``. Sampling
    statements with ``~`` keep their constants here.

    Examples
    --------
    >>> import fastelbo as fe
    >>> from typing import Any
    >>> # model = bridgestan.StanModel(file, data, make_args=["STAN_THREADS=true"])
    >>> # q is over the unconstrained parameters.
    >>> def evidence(q: fe.StudentT, model: Any) -> fe.Estimate:
    ...     return fe.estimate(fe.from_bridgestan(model), q, 100_000)
    """
    missing = [name for name in _READ if not hasattr(model, name)]
    if isinstance(model, type) or missing or not hasattr(model.stanlib, "bs_log_density"):
        raise InvalidInputError(
            f"model must be a bridgestan.StanModel of BridgeStan 2 or later, got {shown(model)}"
            + (f" without {', '.join(missing)}" if missing else "")
        )
    if "STAN_THREADS=true" not in model.model_info():
        raise InvalidInputError(
            "model must be compiled with STAN_THREADS=true, as several threads call it: "
            'bridgestan.StanModel(..., make_args=["STAN_THREADS=true"]), after the old library is '
            f"removed; got {shown(model)} without it"
        )
    if not model.param_unc_num():
        raise InvalidInputError("model must have at least one parameter, got none")
    dim = as_count(model.param_unc_num(), "the number of parameters of model", below=MAX_DIM)
    density = StanDensity(model, dim)
    _compare(density)
    return Model._of_joint(density, tuple(model.param_unc_names()))


def _compare(density: StanDensity) -> None:
    """Raise an error unless the C function gives what BridgeStan's Python function gives."""
    z = probe_points(density.dim)
    expected = np.array([density.plain_log_prob(each, 0) for each in z])
    got = density.log_prob(z)
    if not np.allclose(got, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
        raise InvalidInputError(
            f"model gave the log densities {got} by its C function and {expected} by log_density, "
            "at the same points: expected the bs_log_density of BridgeStan 2 or later"
        )
