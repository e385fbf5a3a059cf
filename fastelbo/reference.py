"""Plain NumPy evaluation of every estimate: the oracle of the tests and ``backend="numpy"``.

Nothing is shared with the kernels, and nothing of the package is imported, so that an error in one cannot hide in the
other.  Distributions and models are read through these attributes, whose leading axes are a batch and broadcast:

======================= ==========================================================================================
``family``              attributes
======================= ==========================================================================================
``"gaussian"``          ``mean (..., D)`` and either ``scale (..., D)`` or ``scale_tril (..., D, D)``, the other None
``"student_t"``         the same and ``df (...)``
``"mixture"``           ``weights (..., C)``, ``components``: one of the two above, its last batch axis of length C
``"categorical"``       ``probs (..., C)``
``"linear_gaussian"``   ``x (N, P)``, ``loadings (P, D)``, ``noise_cov (P,)`` or ``(P, P)``, ``offset (P,)``, ``prior``
``"mixture_model"``     ``x (N, P)``, ``mixture``
======================= ==========================================================================================

The first three are models too: the likelihood is one, the prior the distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular  # type: ignore[import-untyped, unused-ignore]
from scipy.special import poch, rel_entr  # type: ignore[import-untyped, unused-ignore]

Array: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[Any]  # of uint64, which NumPy's stubs lose in every shift

NORMAL, CHOICE, GAMMA_NORMAL, GAMMA_UNIFORM = range(4)
GAMMA_ATTEMPTS = 16
LOW_WORD = 0xFFFFFFFF
EVENT_AXES = {"mean": 1, "scale": 1, "scale_tril": 2, "df": 0}
# Numbers in the largest temporary.  About ten of them live at once, 80 MB; longer blocks are no faster.
BLOCK_LENGTH = 2**20


def philox(counter_words: Iterable[ArrayLike], key_words: Iterable[ArrayLike]) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 (Salmon et al. 2011, with the constants of Random123).

    Parameters
    ----------
    counter_words, key_words
        Four and two integers or arrays of integers below 2**32, which broadcast.

    Returns
    -------
    tuple of four arrays
        32-bit words, held in uint64 so that products and shifts do not overflow.
    """
    counter: list[Words] = [np.asarray(word, dtype=np.uint64) for word in counter_words]
    key: list[Words] = [np.asarray(word, dtype=np.uint64) for word in key_words]
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & LOW_WORD, (a >> 32) ^ c3 ^ k1, a & LOW_WORD
        k0, k1 = (k0 + 0x9E3779B9) & LOW_WORD, (k1 + 0xBB67AE85) & LOW_WORD
    return c0, c1, c2, c3


def standard_normals(key: int, index: ArrayLike, draw: ArrayLike, dim: int) -> Array:
    """Standard normals at the addresses (index, draw).

    Parameters
    ----------
    key
        64-bit key of the stream.
    index, draw
        Data points below 2**32 and draws below 2**40, which broadcast to a shape S.
    dim
        Number of coordinates D.

    Returns
    -------
    array of shape S + (D,)
        Coordinates 2p and 2p + 1 are ``r cos theta`` and ``r sin theta`` of the Philox call of pair p.
    """
    index, draw = _address(index, 32, "index"), _address(draw, 40, "draw")
    pair = _address(np.arange((dim + 1) // 2), 24, "pair of coordinates")
    words = _words(key, index[..., None], draw[..., None], NORMAL, pair=pair)
    return np.stack(_normal_pair(words), axis=-1).reshape(*words[0].shape[:-1], 2 * pair.size)[..., :dim]


def _address(value: ArrayLike, bits: int, name: str) -> Words:
    array = np.asarray(value)
    if np.any((array < 0) | (array >= 1 << bits)):
        raise OverflowError(f"{name} must lie in [0, 2**{bits})")
    return array.astype(np.uint64)


def _words(
    key: int, index: Words, draw: Words, purpose: int, *, pair: Words | int = 0, attempt: int = 0
) -> tuple[Words, Words, Words, Words]:
    counter = (draw & LOW_WORD, (draw >> 32) | (pair << 8), index, purpose | (attempt << 8))
    return philox(counter, (int(key) & LOW_WORD, int(key) >> 32))


def _word53(high: Words, low: Words) -> Words:
    return (high << 21) | (low >> 11)


def _uniform(high: Words, low: Words) -> Array:
    """Uniform on (0, 1], a multiple of 2**-53."""
    return np.asarray((_word53(high, low) + 1) * 2.0**-53)


def _normal_pair(words: tuple[Words, Words, Words, Words]) -> tuple[Array, Array]:
    radius = np.sqrt(-2.0 * np.log(_uniform(words[0], words[1])))
    # The angle is an integer quadrant and a remainder in [-pi/4, pi/4).  Only the remainder meets floating point: the
    # cosine of a rounded angle near pi/2 would have lost its leading digits.
    quadrant = words[2] >> 30
    remainder = (((words[2] << 32) | words[3]) >> 10) & (2**52 - 1)
    angle = (remainder * 2.0**-52 - 0.5) * (np.pi / 2.0)
    cos, sin = np.cos(angle), np.sin(angle)
    odd = (quadrant & 1) == 1
    cos, sin = np.where(odd, sin, cos), np.where(odd, cos, sin)
    cos = np.where((quadrant == 1) | (quadrant == 2), -cos, cos)
    sin = np.where(quadrant >= 2, -sin, sin)
    return radius * cos, radius * sin


def _chi_square(key: int, index: Words, draw: Words, df: Array) -> Array:
    """Chi-square with ``df`` degrees of freedom by Marsaglia and Tsang (2000); the arguments broadcast."""
    index, draw, df = np.broadcast_arrays(index, draw, df)
    shape, index, draw, a = df.shape, index.ravel(), draw.ravel(), df.ravel() / 2.0
    d = np.where(a < 1.0, a + 1.0, a) - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    gamma, boost = np.empty_like(a), np.ones_like(a)
    pending = np.arange(a.size)
    for attempt in range(GAMMA_ATTEMPTS):
        x, _ = _normal_pair(_words(key, index[pending], draw[pending], GAMMA_NORMAL, attempt=attempt))
        words = _words(key, index[pending], draw[pending], GAMMA_UNIFORM, attempt=attempt)
        if attempt == 0:
            # The method needs a shape of 1 or more: Gamma(a) is Gamma(a + 1) U^(1/a).
            small = a < 1.0
            boost[small] = _uniform(words[2], words[3])[small] ** (1.0 / a[small])
        root = 1.0 + c[pending] * x
        cube = root * root * root
        v = np.where(cube > 0.0, cube, 1.0)
        bound = 0.5 * x * x + d[pending] - d[pending] * v + d[pending] * np.log(v)
        accepted = (cube > 0.0) & (np.log(_uniform(words[0], words[1])) < bound)
        accepted |= attempt == GAMMA_ATTEMPTS - 1
        gamma[pending[accepted]] = d[pending[accepted]] * v[accepted]
        pending = pending[~accepted]
        if pending.size == 0:
            break
    # The floor keeps 1 / chi-square and its square finite.
    return np.maximum(2.0 * gamma * boost, 2.0**-1000).reshape(shape)


def sample(q: Any, key: int, index: ArrayLike, draw: ArrayLike) -> Array:
    """Draws ``z ~ q``; each is a function of (key, index, draw) alone.

    Parameters
    ----------
    q
        Gaussian, StudentT or Mixture with batch shape () or (n,).
    key
        64-bit key of the stream.
    index, draw
        Data points, shape (n,), and draws, shape (K,).

    Returns
    -------
    array of shape (n, K, D)
        ``mean + L eps sqrt(df / chi2)``, without the root for a Gaussian; mean, L and df are those of the component
        that a draw chooses from a mixture.
    """
    index, draw = _address(index, 32, "index")[:, None], _address(draw, 40, "draw")[None, :]
    y = standard_normals(key, index, draw, _simple(q).mean.shape[-1])
    if q.family != "mixture":
        return _affine(q, y if q.family == "gaussian" else _widen(y, key, index, draw, np.asarray(q.df)[..., None]))
    words, n_components = _words(key, index, draw, CHOICE), q.weights.shape[-1]
    choice = _choose(q.weights, _word53(words[0], words[1]))
    if q.components.family == "student_t":
        df = np.broadcast_to(q.components.df, (len(index), n_components))
        y = _widen(y, key, index, draw, np.take_along_axis(df, choice, axis=-1))
    z = np.empty_like(y)
    for c in range(n_components):
        np.copyto(z, _affine(_component(q, c), y), where=(choice == c)[..., None])
    return z


def _widen(eps: Array, key: int, index: Words, draw: Words, df: Array) -> Array:
    """Standard Student t from standard normals: one chi-square a draw, shared by the coordinates."""
    return eps * np.sqrt(df / _chi_square(key, index, draw, df))[..., None]


def _choose(weights: Array, word: Words) -> NDArray[np.intp]:
    """Component of each draw, (n, K), by integer thresholds, so that every device chooses alike."""
    cumulative = np.cumsum(weights, axis=-1)
    thresholds = np.floor(cumulative / cumulative[..., -1:] * 2.0**53).astype(np.uint64)
    return np.asarray((word[..., None] >= thresholds[..., None, :-1]).sum(axis=-1))


def _affine(dist: Any, y: Array) -> Array:
    """``mean + L y`` for y (n, K, D) and a batch of () or (n,)."""
    stretched = y * dist.scale[..., None, :] if dist.scale is not None else y @ np.swapaxes(dist.scale_tril, -1, -2)
    return np.asarray(dist.mean[..., None, :] + stretched)


def _simple(dist: Any) -> Any:
    """The Gaussian or StudentT that a distribution is or is made of."""
    return dist.components if dist.family == "mixture" else dist


def _with_parameters(dist: Any, change: Callable[[Array, int], Array]) -> Any:
    """The Gaussian or StudentT whose parameters are change(parameter, number of its event axes)."""
    parameters = {name: getattr(dist, name, None) for name in EVENT_AXES}
    changed = {name: None if p is None else change(np.asarray(p), EVENT_AXES[name]) for name, p in parameters.items()}
    return SimpleNamespace(family=dist.family, **changed)


def _stacked(parameter: Array, event_axes: int, n_components: int) -> Array:
    """The parameter with its component axis of full length, where it only broadcast along that axis too."""
    split = parameter.ndim - event_axes
    lead = np.broadcast_shapes(parameter.shape[:split], (n_components,))
    return np.broadcast_to(parameter, lead + parameter.shape[split:])


def _component(mixture: Any, c: int) -> Any:
    n_components = mixture.weights.shape[-1]
    return _with_parameters(
        mixture.components,
        lambda p, event_axes: np.moveaxis(_stacked(p, event_axes, n_components), -1 - event_axes, 0)[c],
    )


def _rows(dist: Any, shape: tuple[int, ...], rows: NDArray[np.intp]) -> Any:
    """Those rows of the batch, broadcast to ``shape`` and flattened; a parameter without a batch stays as it is."""
    if dist.family != "mixture":
        return _with_parameters(dist, lambda p, event_axes: _take(p, event_axes, shape, rows))
    n_components = dist.weights.shape[-1]
    components = _with_parameters(
        dist.components,
        lambda p, event_axes: _take(_stacked(p, event_axes, n_components), event_axes + 1, shape, rows),
    )
    return SimpleNamespace(family="mixture", weights=_take(dist.weights, 1, shape, rows), components=components)


def _take(array: NDArray[Any], event_axes: int, shape: tuple[int, ...], rows: NDArray[np.intp]) -> NDArray[Any]:
    split = array.ndim - event_axes
    if split == 0:
        return array
    return np.asarray(np.broadcast_to(array, shape + array.shape[split:])[np.unravel_index(rows, shape)])


def log_prob(dist: Any, z: Array) -> Array:
    """Log density, as ``scipy.stats.multivariate_normal`` and ``multivariate_t`` define it.

    Parameters
    ----------
    dist
        Gaussian, StudentT or Mixture.
    z
        Points, shape (..., D); the leading axes broadcast against the batch.

    Returns
    -------
    array
        With ``y = L^-1 (z - mean)``: ``-(y'y + D log 2 pi) / 2 - log det L`` for a Gaussian; ``log Gamma((df + D) / 2)
        - log Gamma(df / 2) - (D / 2) log(df pi) - log det L - (df + D) / 2 log(1 + y'y / df)`` for a Student t;
        ``log sum_c w_c p_c(z)`` for a mixture.
    """
    if dist.family == "mixture":
        return _log_mean(dist.weights, _component_log_prob(dist, z))
    if dist.scale is not None:
        y, diagonal = (z - dist.mean) / dist.scale, dist.scale
    else:
        y, diagonal = _solve_lower(dist.scale_tril, z - dist.mean), np.diagonal(dist.scale_tril, axis1=-2, axis2=-1)
    square, log_det, dim = np.einsum("...d,...d->...", y, y), np.log(diagonal).sum(axis=-1), z.shape[-1]
    if dist.family == "gaussian":
        return np.asarray(-0.5 * (square + dim * np.log(2.0 * np.pi)) - log_det)
    df = np.asarray(dist.df)
    return np.asarray(_t_log_constant(df, dim) - log_det - 0.5 * (df + dim) * np.log1p(square / df))


def _component_log_prob(mixture: Any, z: Array) -> Array:
    """Log density of each component, the components on the last axis."""
    components = [log_prob(_component(mixture, c), z) for c in range(mixture.weights.shape[-1])]
    return np.stack(np.broadcast_arrays(*components), axis=-1)


def _log_mean(weights: ArrayLike, logs: Array) -> Array:
    """``log sum weights exp(logs)`` over the last axis; -inf where all terms are zero."""
    with np.errstate(divide="ignore"):
        terms = np.log(weights) + logs
        top = terms.max(axis=-1, keepdims=True)
        top[np.isneginf(top)] = 0.0
        return np.asarray(top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1)))


def _solve_lower(lower: Array, b: Array) -> Array:
    if lower.ndim == 2:
        solved = solve_triangular(lower, b.reshape(-1, b.shape[-1]).T, lower=True, check_finite=False)
        return np.asarray(solved.T.reshape(b.shape))
    # Forward substitution on the whole batch at once: a batched solver would factorise L again for every draw.
    y = np.empty(np.broadcast_shapes(b.shape, lower.shape[:-1]))
    for i in range(b.shape[-1]):
        done = np.einsum("...j,...j->...", lower[..., i, :i], y[..., :i])
        y[..., i] = (b[..., i] - done) / lower[..., i, i]
    return y


def _t_log_constant(df: Array, dim: int) -> Array:
    """``log Gamma((df + D) / 2) - log Gamma(df / 2) - (D / 2) log(df pi)``.

    By Gamma(a + 1) = a Gamma(a), since the two log Gammas of a large df would cancel.
    """
    a, half = 0.5 * df, 0.5 * (dim % 2)
    steps = np.log1p((half + np.arange(dim // 2)) / a[..., None]).sum(axis=-1)
    return np.asarray(np.log(poch(a, half) / a**half) + steps - 0.5 * dim * np.log(2.0 * np.pi))


def log_likelihood(model: Any, z: Array, rows: NDArray[np.intp]) -> Array:
    """``log p(x_rows | z)``, which is 0 for a plain distribution.

    Parameters
    ----------
    model
        LinearGaussian, or a distribution.
    z
        Latent points, shape (n, K, D).
    rows
        Rows of x, shape (n,).

    Returns
    -------
    array of shape (n, K)
        ``log N(x - offset - W z; 0, noise_cov)``, from the residual in data space.
    """
    if model.family != "linear_gaussian":
        return np.zeros(z.shape[:-1])
    diagonal = model.noise_cov.ndim == 1
    noise = SimpleNamespace(
        family="gaussian",
        mean=z @ model.loadings.T,
        scale=np.sqrt(model.noise_cov) if diagonal else None,
        scale_tril=None if diagonal else np.linalg.cholesky(model.noise_cov),
    )
    return log_prob(noise, (model.x[rows] - model.offset)[:, None, :])


def elbo_terms(model: Any, q: Any, n_samples: int, key: int, first_index: int = 0) -> tuple[Array, Array, Array]:
    """Terms of the log weights of draws ``z_ik ~ q_i``.

    Parameters
    ----------
    model
        LinearGaussian, or a distribution.
    q
        Gaussian, StudentT or Mixture.
    n_samples
        Number of draws K a data point.
    key
        64-bit key of the stream.
    first_index
        Address of the first data point.

    Returns
    -------
    log_likelihood, log_prior, log_q : arrays of shape (N, K)
        ``log p(x_i | z_ik)``, ``log p(z_ik)`` and ``log q_i(z_ik)``; N is the length of the two batches, broadcast
        and flattened, 1 for none.
    """
    is_linear = model.family == "linear_gaussian"
    prior = model.prior if is_linear else model
    shape = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    n_points = int(np.prod(shape, dtype=np.int64))
    _address([first_index, first_index + max(n_points, 1) - 1], 32, "index")
    _address(n_samples - 1, 40, "draw")

    # Neither the numbers of a draw times draws and points, nor the parameters of the points, may outgrow a block.
    dim = _simple(q).mean.shape[-1]
    n_components = max(dist.weights.shape[-1] if dist.family == "mixture" else 1 for dist in (q, prior))
    is_full = any(_simple(dist).scale_tril is not None for dist in (q, prior))
    width = max(dim, n_components, model.loadings.shape[0] if is_linear else 1)
    draw_step = min(n_samples, max(1, BLOCK_LENGTH // width))
    point_step = max(1, BLOCK_LENGTH // max(width * draw_step, n_components * dim * (dim if is_full else 1)))
    likelihood, log_prior, log_q = (np.empty((n_points, n_samples)) for _ in range(3))
    for i in range(0, n_points, point_step):
        points = np.arange(i, min(i + point_step, n_points))
        data_rows = _take(np.arange(len(model.x)), 0, shape, points) if is_linear else points
        prior_rows, q_rows = _rows(prior, shape, points), _rows(q, shape, points)
        for k in range(0, n_samples, draw_step):
            draws = np.arange(k, min(k + draw_step, n_samples))
            block = np.s_[i : i + points.size, k : k + draws.size]
            z = sample(q_rows, key, first_index + points, draws)
            likelihood[block] = log_likelihood(model, z, data_rows)
            # With the draws in front, a batch of points lines up with z.
            log_prior[block] = log_prob(prior_rows, z.swapaxes(0, 1)).T
            log_q[block] = log_prob(q_rows, z.swapaxes(0, 1)).T
    return likelihood, log_prior, log_q


def moments(log_likelihood: Array, log_prior: Array, log_q: Array, iw_sizes: Iterable[int] = ()) -> dict[str, Any]:
    """Summaries of each row of draws, in two passes.

    Parameters
    ----------
    log_likelihood, log_prior, log_q
        Terms of the log weight ``l = log_likelihood + log_prior - log_q``, shape (N, K).
    iw_sizes
        Group sizes k of importance-weighted bounds; those above K are left out.

    Returns
    -------
    dict
        ``n_samples`` (K), ``iw`` ({k: (value, se)}, over the disjoint groups ``[g k, (g + 1) k)``) and arrays of shape
        (N,).  With w = exp(l): ``n_zero`` (count of w = 0), ``log_evidence`` = log mean w, ``relative_variance`` v =
        Var(w) / mean(w)^2, ``log_evidence_se`` = sqrt(v / K), ``ess`` = (sum w)^2 / sum w^2, and with their ``_se``
        ``elbo`` = mean l, ``expected_log_likelihood``, ``kl`` = mean(log_q - log_prior) and ``jensen_gap`` =
        log_evidence - elbo.  A standard error that a single draw or an infinite value does not allow is NaN.
    """
    log_weights = log_likelihood + log_prior - log_q
    n_samples, is_zero = log_weights.shape[-1], np.isneginf(log_weights)
    shift = np.where(is_zero.all(axis=-1), 0.0, log_weights.max(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(log_weights - shift[:, None])
        mean = weights.mean(axis=-1)
        relative = weights / mean[:, None]
        ess = n_samples / (1.0 + _variance(relative, ddof=0))
        result: dict[str, Any] = {
            "n_samples": n_samples,
            "n_zero": is_zero.sum(axis=-1),
            "log_evidence": shift + np.log(mean),
            "relative_variance": _variance(relative, ddof=1),
            "ess": np.where(is_zero.all(axis=-1), 0.0, ess),
        }
        result["log_evidence_se"] = np.sqrt(result["relative_variance"] / n_samples)
        means = {"elbo": log_weights, "expected_log_likelihood": log_likelihood, "kl": log_q - log_prior}
        for name, terms in means.items():
            result[name], result[f"{name}_se"] = _mean_and_se(terms)
        result["jensen_gap"] = result["log_evidence"] - result["elbo"]
        # To first order, log mean w - mean l moves as the mean of w / E(w) - l.
        result["jensen_gap_se"] = _mean_and_se(relative - log_weights)[1]
    result["iw"] = {}
    for size in iw_sizes:
        n_groups = n_samples // size
        if n_groups > 0:
            groups = log_weights[:, : n_groups * size].reshape(-1, n_groups, size)
            result["iw"][size] = _mean_and_se(_log_mean(1.0 / size, groups))
    return result


def _variance(a: Array, ddof: int) -> Array:
    if a.shape[-1] <= ddof:
        return np.full(a.shape[:-1], np.nan)
    return np.asarray(np.square(a - a.mean(axis=-1, keepdims=True)).sum(axis=-1) / (a.shape[-1] - ddof))


def _mean_and_se(a: Array) -> tuple[Array, Array]:
    mean = a.mean(axis=-1)
    with np.errstate(invalid="ignore"):
        return mean, np.where(np.isfinite(mean), np.sqrt(_variance(a, ddof=1) / a.shape[-1]), np.nan)


def exact_mixture(model: Any, q: Any) -> dict[str, Array]:
    """Log evidence and ELBO of a latent component, summed over the components.

    Parameters
    ----------
    model
        MixtureModel of x (N, P) and weights w (C,).
    q
        Categorical with probabilities (C,) or (N, C).

    Returns
    -------
    dict of arrays of shape (N,)
        ``log_evidence`` = log sum_c w_c p(x | c), ``expected_log_likelihood`` = sum_c q_c log p(x | c), ``kl`` =
        sum_c q_c log(q_c / w_c) and ``elbo``, their difference, with 0 log 0 = 0.  Where q puts mass on a component of
        weight zero, kl is inf and elbo -inf.
    """
    logs = _component_log_prob(model.mixture, model.x)
    expected = (q.probs * np.where(q.probs > 0.0, logs, 0.0)).sum(axis=-1)
    kl = np.zeros_like(expected) + rel_entr(q.probs, model.mixture.weights).sum(axis=-1)
    log_evidence = np.zeros_like(expected) + _log_mean(model.mixture.weights, logs)
    return {"log_evidence": log_evidence, "elbo": expected - kl, "expected_log_likelihood": expected, "kl": kl}
