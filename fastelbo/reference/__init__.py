"""Plain NumPy evaluation of every estimate: the oracle of the tests and ``backend="numpy"``.

Nothing is shared with the kernels, and nothing else of the package is imported, so that an error
in one cannot hide in the other. Distributions and models are read through these attributes, whose
leading axes are a batch and broadcast:

``"gaussian"``
    ``mean (..., D)`` and either ``scale (..., D)`` or ``scale_tril (..., D, D)``, the other None.
``"student_t"``
    The same and ``df (...)``.
``"mixture"``
    ``weights (..., C)`` and ``components``: one of the two above, C its last batch axis.
``"categorical"``
    ``probs (..., C)``.
``"linear_gaussian"``
    A likelihood: ``x (..., P)``, ``loadings (P, D)``, ``noise_cov (P,)`` or ``(P, P)`` and
    ``offset (P,)``.
``"supplied"``
    A likelihood: ``values (..., K)``, the first of them that of the draw ``first_draw``.
``"zero"``
    The likelihood 1.

The name is in ``family``. A model has a ``prior``, one of the first three, and a ``likelihood``,
one of the last three. A mixture model has ``x (..., P)`` and ``mixture``.
"""

from .densities import log_likelihood, log_prob
from .draws import sample
from .estimates import elbo_terms, exact_mixture, summaries
from .stream import philox, standard_normals
from .tails import pareto_k, plain_pareto_k

__all__ = [
    "elbo_terms",
    "exact_mixture",
    "log_likelihood",
    "log_prob",
    "pareto_k",
    "philox",
    "plain_pareto_k",
    "sample",
    "standard_normals",
    "summaries",
]
