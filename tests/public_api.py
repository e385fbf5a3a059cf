"""Every public function, class, method and property by name, and what a call gave."""

import contextlib
import functools
import inspect
import warnings
from collections.abc import Mapping

import numpy as np

import fastelbo as fe
from fastelbo.results.bound_tables import BoundTable
from fastelbo.weights.intervals import Interval

# What methods return without being public by name.
_RETURNED = {"BoundTable": BoundTable, "Interval": Interval}
# Of the names that begin with an underscore, those by which values are shown or combined.
_SPECIAL = {"__repr__", "__str__", "_repr_html_", "__sub__", "__rsub__", "__add__", "__len__"}
_ACCESSORS = (property, functools.cached_property)
_METHODS = (classmethod, staticmethod, type(lambda: None))


# Functions that need other libraries and their models.
BRIDGES = {"from_bridgestan", "from_numpyro", "from_pymc", "from_torch"}


def functions():
    """Functions of the package and of its public modules, by path."""
    return {path: value for path, value in _contents() if inspect.isfunction(value)}


def classes():
    """Public classes, and those of what public methods return, without exceptions."""
    found = {path.split(".")[-1]: value for path, value in _contents() if inspect.isclass(value)}
    return found | _RETURNED


def is_result(kind):
    """Whether the library makes the instances of a class, not its users."""
    return issubclass(kind, tuple) or hasattr(kind, "__dataclass_fields__")


def members(kind):
    """Methods and properties of a class that are written in this package."""
    for name in dir(kind):
        if name.startswith("_") and name not in _SPECIAL:
            continue
        owner = next(base for base in kind.__mro__ if name in vars(base))
        if owner.__module__.startswith("fastelbo") and isinstance(
            vars(owner)[name], _ACCESSORS + _METHODS
        ):
            yield name


def is_accessor(kind, name):
    """Whether a member is read, not called."""
    return isinstance(inspect.getattr_static(kind, name), _ACCESSORS)


def parameters(function):
    """Names of the parameters of a function, or of a method of an instance."""
    return list(inspect.signature(function).parameters)


def public_names():
    """``function``, ``module.function``, ``Class`` for its constructor, and ``Class.member``."""
    kinds = classes()
    made = [name for name, kind in kinds.items() if not is_result(kind)]
    return [
        *functions(),
        *made,
        *(f"{name}.{member}" for name, kind in kinds.items() for member in members(kind)),
    ]


def _contents():
    for name in dir(fe):
        value = getattr(fe, name)
        if not inspect.ismodule(value):
            yield name, value
        elif value is not fe.errors:
            yield from ((f"{name}.{part}", getattr(value, part)) for part in value.__all__)


@contextlib.contextmanager
def strict():
    """NumPy raises at every floating-point flag, and so does every warning not of the library."""
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", fe.errors.FastElboWarning)
        yield


def leaves(value, name=""):
    """The arrays, numbers and texts in a result, with the names of the fields they are in."""
    kind = type(value).__name__
    if isinstance(value, (str, bytes, bool, int, float, np.ndarray, np.generic)):
        yield name, np.asarray(value)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from leaves(value._asdict())
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from leaves(part, name)
    elif isinstance(value, Mapping) or kind == "DataFrame":
        for key, part in value.items():
            yield from leaves(part, str(key))
    elif kind in ("DataArray", "Series"):
        yield name, np.asarray(value)
    elif type(value).__module__.startswith("fastelbo"):
        yield from leaves({key: part for key, part in vars(value).items() if key[0] != "_"})
