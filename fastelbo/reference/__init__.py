"""Plain NumPy evaluation of every estimate: the oracle of the tests and ``backend="numpy"``.

It shares nothing with the kernels and imports nothing else of the package, so that an error in one
cannot hide in the other. It reads distributions and models through the attributes below. Their
leading axes are a batch and broadcast. The attribute ``family`` is one of these names:

``"gaussian"``
    ``mean (..., D)``, and either ``scale (..., D)`` or ``scale_tril (..., D, D)``, the other None.
``"student_t"``
    The same, and the degrees of freedom as ``parameter (...)``, which other families leave None.
``"mixture"``
    ``weights (..., C)`` and ``components``, one of the two above whose last batch axis is C.
``"categorical"``
    ``probs (..., C)``.
``"linear_gaussian"``
    A likelihood: ``x (..., P)``, ``loadings (P, D)``, ``noise_cov (P,)`` or ``(P, P)`` and
    ``offset (P,)``.
``"supplied"``
    A likelihood: ``values (..., K)``. The first value is that of the draw ``first_draw``.
``"zero"``
    The likelihood 1.

``"stratum"``
    ``own``, the distribution that makes the draws, and the mixture that weighs them: ``members``,
    each one of the first three, and their ``shares (J,)``.

A model has a ``prior``, one of the first three, and a ``likelihood``, one of the last three. A
mixture model has ``x (..., P)`` and ``mixture``.
"""

from .densities import log_likelihood, log_prob
from .draws import sample
from .estimates import elbo_terms, exact_mixture, responsibilities, summaries
from .stream import philox, standard_normals
from .tails import largest_share, pareto_k, plain_pareto_k

__all__ = [
    "elbo_terms",
    "exact_mixture",
    "largest_share",
    "log_likelihood",
    "log_prob",
    "pareto_k",
    "philox",
    "plain_pareto_k",
    "responsibilities",
    "sample",
    "standard_normals",
    "summaries",
]
