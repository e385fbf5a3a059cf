"""A user's own model: a function of one draw, compiled, or one of arrays of draws on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from ..errors import InvalidInputError
from ..frozen import Frozen
from ..validation import (
    MAX_DIM,
    Floats,
    as_choice,
    as_count,
    as_flag,
    as_sequence,
    broadcast_shape,
    shown,
)
from .compiled import CompiledDensity
from .host import HostDensity
from .joint import log_joint_of
from .protocol import LogDensity
from .slopes import log_joint_and_gradient
from .terms import Zero

ARRAY_NAMESPACES = ("numpy", "torch", "jax")


class Model(Frozen):
    """A model of your own: a Python function that returns log p(x, z), or log p(x | z), in nats.

    The function is compiled for many draws at once, from its unchanged source. It takes one draw z,
    of shape (D,): ``f(z, *params)``, or with ``data`` of independent points ``f(z, x_i, *params)``.
    It may use Python's numbers, loops and tuples, functions of `math` and `numpy` on numbers and
    vectors, and other functions that are written so. At construction it is called in plain Python,
    and its values compared with the compiled ones. The model keeps what the function, and those
    that it calls, read of their modules by then: no later change is seen.

    Numbers have 64 bits, in Python as compiled: those of ``data`` and ``params`` become float64,
    int64 or bool. What Python, NumPy and machine code compute in different ways is refused, such as
    sums of truths, products of integers in a loop, and arrays of other types from outside.

    Parameters
    ----------
    log_joint : callable
        log p(x, z). Reconstruction and KL of an estimate are then NaN, as they need the prior.
    log_likelihood : callable
        log p(x | z), in the place of ``log_joint``; it needs ``prior``.
    prior : Gaussian, StudentT or Mixture
        Prior of z, for ``log_likelihood`` alone.
    dim : int
        D, the number of coordinates of z. Not needed with a prior.
    data : array_like, shape (N, ...), optional
        N independent data points. The model then has N entries, each with a z of its own, and the
        function gets ``data[i]``. Data that share one z belong into ``params``.
    params : tuple
        Numbers, arrays of numbers, and tuples of them, which the function gets last. Arrays are
        copied, and read only.
    vectorized : bool
        The function takes many draws, as an array (n, D), and returns (n,); with data, (k, n, D)
        and (n, ...), and it returns (k, n). It runs as it is, on the host.
    array_namespace : {"numpy", "torch", "jax"}
        What arrays a vectorized function gets.
    device : optional
        Device of these arrays, for torch and JAX.
    batch_size : int, optional
        Draws of a call of a vectorized function. By default it adapts to the shapes.
    names : sequence of str, optional
        Names of the coordinates.
    grad : callable, optional
        Gradient of the density in z: a function of the same arguments that returns D numbers, as a
        vector or a tuple, or the pair of log density and gradient, which is faster. Without it,
        that of a compiled function follows from its source, by dual numbers, at about 2 D / 3 times
        the cost of the density; that of torch and JAX is theirs. With ``vectorized``, it returns an
        array of the shape of z.

    Raises
    ------
    InvalidInputError
        Arguments that do not fit together; a function that raises an error, returns no real number,
        does not read all coordinates, or cannot be compiled; a ``grad`` that is not the gradient of
        the density, by central differences at three draws.

    Warns
    -----
    OneDrawAtATimeWarning
        If z steers a loop or an index of the function: it then runs for one draw at a time.

    Notes
    -----
    With ``backend="cuda"`` the function becomes a part of the kernel, one draw a thread. NVIDIA's
    exp, log and so on take the place of the CPU's: log densities agree to about 1e-13, relative to
    their largest term, and bits differ. As on a CPU, an index out of bounds or an error that the
    function raises is an error that names the draw. A GPU has loops, branches, tuples, functions of
    numbers, sums and inner products of vectors, and ``np.zeros(3)`` and its like, of a size that is
    a constant. It has no arrays of values, such as ``np.exp(z)`` or ``x @ z`` of a matrix: the
    error names the line.

    Examples
    --------
    >>> import fastelbo as fe
    >>> def log_joint(z: list[float], x: list[float]) -> float:
    ...     total = -0.5 * (z[0] ** 2 + z[1] ** 2)
    ...     for x_n in x:
    ...         total -= 0.5 * (x_n - z[0] - z[1]) ** 2
    ...     return total
    >>> model = fe.Model(log_joint=log_joint, dim=2, params=([0.5, 1.0],))
    >>> est = fe.estimate(model, fe.Gaussian([0.3, 0.3], scale=0.9), 100_000, rng=0)
    >>> round(float(est.log_evidence), 1)
    0.9
    """

    prior: LogDensity
    likelihood: LogDensity
    names: tuple[str, ...] | None
    # Whether the likelihood holds log p(x, z) as a whole, and the prior nothing.
    is_joint: bool

    def __init__(
        self,
        *,
        log_joint: Callable[..., Any] | None = None,
        log_likelihood: Callable[..., Any] | None = None,
        prior: LogDensity | None = None,
        dim: int | None = None,
        data: ArrayLike | None = None,
        params: tuple[Any, ...] = (),
        vectorized: bool = False,
        array_namespace: str = "numpy",
        device: Any = None,
        batch_size: int | None = None,
        names: tuple[str, ...] | None = None,
        grad: Callable[..., Any] | None = None,
    ) -> None:
        name, function = _one_function(log_joint, log_likelihood)
        size = _dim(log_joint is not None, prior, dim)
        self._set(names=_names(names, size), is_joint=log_joint is not None)
        as_choice(array_namespace, "array_namespace", ARRAY_NAMESPACES)
        if grad is not None and not callable(grad):
            raise InvalidInputError(f"grad must be a function, got {shown(grad)}")
        if as_flag(vectorized, "vectorized"):
            density = _on_host(
                name, function, size, data, params,
                array_namespace=array_namespace, device=device, batch_size=batch_size, grad=grad,
            )  # fmt: skip
        else:
            _refuse_host_options(array_namespace, device, batch_size)
            density = _compiled(name, function, size, data, params, grad)
        self._set(likelihood=density, prior=Zero(size) if prior is None else prior)
        _ = self.batch_shape

    @classmethod
    def _of_joint(cls, density: LogDensity, names: tuple[str, ...]) -> Model:
        """The model of a log p(x, z) that is there already."""
        model = cls.__new__(cls)
        model._set(
            names=_names(names, density.dim), is_joint=True,
            likelihood=density, prior=Zero(density.dim),
        )  # fmt: skip
        return model

    @property
    def dim(self) -> int:
        """D, the number of latent coordinates."""
        return self.likelihood.dim

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points: (N,) with data, or the prior's."""
        return broadcast_shape(data=self.likelihood.batch_shape, prior=self.prior.batch_shape)

    def log_joint(self, z: ArrayLike) -> Floats:
        """log p(x, z) at ``z``, in nats.

        Parameters
        ----------
        z : array_like, shape (..., *batch_shape, D)
            Points; the leading axes broadcast against `batch_shape`.

        Returns
        -------
        ndarray
            Shape ``broadcast(z.shape[:-1], batch_shape)``.

        Raises
        ------
        InvalidInputError
            If the last axis is not `dim` long, the axes do not broadcast, or z is not finite.
        """
        return log_joint_of(self, z)

    def log_joint_gradient(self, z: ArrayLike) -> tuple[Floats, Floats]:
        """log p(x, z) at ``z``, in nats, and its gradient in z.

        Parameters
        ----------
        z : array_like, shape (..., *batch_shape, D)
            Points; the leading axes broadcast against `batch_shape`.

        Returns
        -------
        values : ndarray
            As `log_joint`: shape ``broadcast(z.shape[:-1], batch_shape)``.
        slopes : ndarray
            The gradients, with an axis of length D behind it. They say nothing where log p(x, z) is
            -inf or NaN.

        Raises
        ------
        InvalidInputError
            If the last axis is not `dim` long, the axes do not broadcast, z is not finite, or the
            gradient of the function is not known and was not given as ``grad``.

        Examples
        --------
        >>> import fastelbo as fe
        >>> def log_joint(z: list[float]) -> float:
        ...     return -0.5 * z[0] ** 2 - z[1] ** 4
        >>> values, slopes = fe.Model(log_joint=log_joint, dim=2).log_joint_gradient([0.5, 1.0])
        >>> slopes.tolist()
        [-0.5, -4.0]
        """
        return log_joint_and_gradient(self, z)

    def __repr__(self) -> str:
        what = "log_joint" if self.is_joint else "log_likelihood"
        function = getattr(self.likelihood, "function", None)
        function = getattr(function, "given", function)
        name = getattr(function, "__qualname__", type(function).__name__)
        return f"Model({what}={name}, dim={self.dim}, batch_shape={self.batch_shape})"


def _one_function(log_joint: Any, log_likelihood: Any) -> tuple[str, Callable[..., Any]]:
    """The name of the argument that was given, and the function."""
    given = {"log_joint": log_joint, "log_likelihood": log_likelihood}
    found = [(name, value) for name, value in given.items() if value is not None]
    if len(found) != 1:
        what = "both" if found else "neither"
        raise InvalidInputError(
            "exactly one of log_joint, which is log p(x, z), and log_likelihood, which is "
            f"log p(x | z) and needs prior=, must be given; got {what}"
        )
    ((name, function),) = found
    if not callable(function):
        raise InvalidInputError(f"{name} must be a function, got {shown(function)}")
    return name, function


def _dim(is_joint: bool, prior: object, dim: Any) -> int:
    """D, from ``dim`` or from the prior."""
    if is_joint:
        if prior is not None:
            raise InvalidInputError(
                "prior must not be given with log_joint, which is log p(x, z) with the prior in "
                f"it; got {shown(prior)}. Give log_likelihood=, which is log p(x | z), with a prior"
            )
        if dim is None:
            raise InvalidInputError(
                "dim, the number of coordinates of z, must be given with log_joint"
            )
        return as_count(dim, "dim", below=MAX_DIM)
    if prior is None:
        raise InvalidInputError(
            "prior must be given with log_likelihood, as a distribution of z, such as "
            "fastelbo.Gaussian; or give log_joint=, which is log p(x, z), and dim="
        )
    if isinstance(prior, type) or not isinstance(prior, LogDensity):
        raise InvalidInputError(
            f"prior must be a Gaussian, StudentT or Mixture, got {shown(prior)}"
        )
    if dim is not None and as_count(dim, "dim") != prior.dim:
        raise InvalidInputError(f"dim must be that of the prior, {prior.dim}, got {dim}")
    return prior.dim


def _names(names: Any, dim: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    found = tuple(as_sequence(names, "names", "strings"))
    if not all(isinstance(each, str) for each in found):
        raise InvalidInputError(f"names must be strings, got {shown(names)}")
    if len(found) != dim or len(set(found)) != dim:
        raise InvalidInputError(
            f"names must be {dim} different strings, one a coordinate, got {shown(names)}"
        )
    return found


def _refuse_host_options(array_namespace: str, device: object, batch_size: object) -> None:
    given = {
        "array_namespace": None if array_namespace == "numpy" else array_namespace,
        "device": device,
        "batch_size": batch_size,
    }
    for name, value in given.items():
        if value is not None:
            raise InvalidInputError(
                f"{name} is for functions of many draws: give vectorized=True with it; got "
                f"{shown(value)}"
            )


def _compiled(name: str, function: Any, dim: int, data: Any, params: Any, grad: Any) -> LogDensity:
    return CompiledDensity(function, dim, data=data, params=params, argument=name, grad=grad)


def _on_host(
    name: str, function: Any, dim: int, data: Any, params: Any, **options: Any
) -> LogDensity:
    if len(as_sequence(params, "params", "numbers and arrays")):
        raise InvalidInputError(
            "params must be empty with vectorized=True, got "
            f"{shown(params)}: the function can take what it needs from where it is defined"
        )
    return HostDensity(function, dim, data=data, name=name, **options)
