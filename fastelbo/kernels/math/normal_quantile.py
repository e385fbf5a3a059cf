"""The quantile of the standard normal distribution, under the rules of `scalar`."""

from __future__ import annotations

import math

from ..jit.compile import scalar
from .scalar import log_positive


@scalar
def _central(q):
    """The quantile of 1/2 + q, for |q| <= 0.425."""
    r = 0.180625 - q * q
    top = 2.5090809287301226727e3
    top = top * r + 3.3430575583588128105e4
    top = top * r + 6.7265770927008700853e4
    top = top * r + 4.5921953931549871457e4
    top = top * r + 1.3731693765509461125e4
    top = top * r + 1.9715909503065514427e3
    top = top * r + 1.3314166789178437745e2
    top = top * r + 3.3871328727963666080
    low = 5.2264952788528545610e3
    low = low * r + 2.8729085735721942674e4
    low = low * r + 3.9307895800092710610e4
    low = low * r + 2.1213794301586595867e4
    low = low * r + 5.3941960214247511077e3
    low = low * r + 6.8718700749205790830e2
    low = low * r + 4.2313330701600911252e1
    return q * top / (low * r + 1.0)


@scalar
def _outer(share):
    """Minus the quantile of a probability between exp(-25) and 0.075."""
    r = math.sqrt(-log_positive(share)) - 1.6
    top = 7.74545014278341407640e-4
    top = top * r + 2.27238449892691845833e-2
    top = top * r + 2.41780725177450611770e-1
    top = top * r + 1.27045825245236838258
    top = top * r + 3.64784832476320460504
    top = top * r + 5.76949722146069140550
    top = top * r + 4.63033784615654529590
    top = top * r + 1.42343711074968357734
    low = 1.05075007164441684324e-9
    low = low * r + 5.47593808499534494600e-4
    low = low * r + 1.51986665636164571966e-2
    low = low * r + 1.48103976427480074590e-1
    low = low * r + 6.89767334985100004550e-1
    low = low * r + 1.67638483018380384940
    low = low * r + 2.05319162663775882187
    return top / (low * r + 1.0)


@scalar
def normal_quantile(u: float) -> float:
    """The standard normal quantile of u in (exp(-25), 1 - exp(-25)).

    The rational approximations are those of Wichura (1988), algorithm AS 241, with an error of
    1e-16 besides rounding.
    """
    q = u - 0.5
    central = abs(q) <= 0.425
    share = u if q < 0.0 else 1.0 - u
    outer = _outer(share)
    outer = -outer if q < 0.0 else outer
    return _central(q) if central else outer
