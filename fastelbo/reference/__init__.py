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
    ``x (..., P)``, ``loadings (P, D)``, ``noise_cov (P,)`` or ``(P, P)``, ``offset (P,)``,
    ``prior``.
``"mixture_model"``
    ``x (..., P)`` and ``mixture``.

The name is in ``family``. The first three are models too: the likelihood is 1, the prior the
distribution.
"""

from .densities import log_likelihood, log_prob
from .draws import sample
from .estimates import elbo_terms, exact_mixture, summaries
from .stream import philox, standard_normals
from .tails import pareto_k

__all__ = [
    "elbo_terms",
    "exact_mixture",
    "log_likelihood",
    "log_prob",
    "pareto_k",
    "philox",
    "sample",
    "standard_normals",
    "summaries",
]
