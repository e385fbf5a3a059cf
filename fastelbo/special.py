"""Functions of `scipy.special`, which takes a tenth of a second to import: with the first call."""

from __future__ import annotations

from typing import Any


class _Late:
    """A function of `scipy.special`, by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        from scipy import special

        return getattr(special, self._name)(*args, **options)


entr = _Late("entr")
gammaincinv = _Late("gammaincinv")
gammaln = _Late("gammaln")
log_expit = _Late("log_expit")
log_ndtr = _Late("log_ndtr")
logsumexp = _Late("logsumexp")
ndtr = _Late("ndtr")
ndtri = _Late("ndtri")
ndtri_exp = _Late("ndtri_exp")
rel_entr = _Late("rel_entr")
softmax = _Late("softmax")
stdtrit = _Late("stdtrit")
