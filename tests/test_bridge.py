"""Bridge sampling against known answers, quadrature, its coverage, and draws that mislead it."""

import math
import re
import warnings

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, quiet
from scipy.integrate import quad
from scipy.signal import lfilter
from scipy.stats import chi2, norm

import fastelbo as fe
from fastelbo import errors
from fastelbo.arrays.chains import read_chains

TOY = (0.08, 0.11, 0.2, 0.25), (0.04, 0.11, 0.11, 0.16)


def iterated(l1, l2, n_eff):
    """log r by Meng and Wong's iteration, and the relative mean squared error, in plain NumPy."""
    l1, l2 = np.ravel(l1), np.asarray(l2)
    s1, s2 = n_eff / (n_eff + len(l2)), len(l2) / (n_eff + len(l2))
    shift, r = np.median(l1), 1.0
    e1, e2 = np.exp(l1 - shift), np.exp(l2 - shift)
    for _ in range(2000):
        r = np.mean(e2 / (s1 * e2 + s2 * r)) / np.mean(1.0 / (s1 * e1 + s2 * r))
    f1, f2 = (e2 / r) / (s1 * e2 / r + s2), 1.0 / (s1 * e1 / r + s2)
    relative = [f.var(ddof=1) / f.mean() ** 2 for f in (f1, f2)]
    return np.log(r) + shift, relative[0] / len(l2) + relative[1] / n_eff, f1.mean()


def chains(rng, shape, phi):
    """Exact stationary chains z' = phi z + sqrt(1 - phi^2) e of standard normals."""
    noise = rng.normal(size=shape)
    noise[:, 1:] *= np.sqrt(1.0 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise, axis=1)


# --- the core -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_toy():
    result = fe.bridge_log_ratios(*TOY, n_eff=4)
    assert abs(result.log_evidence - 0.132489796182) < 1e-12
    assert abs(result.relative_mse - 0.000553924049) < 1e-12
    assert result.n_eff == 4
    assert (result.n_draws, result.n_proposal, result.evaluations) == (4, 4, 8)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize(("n1", "n2", "n_eff"), [(50, 70, 50), (400, 20, 90), (30, 3000, 200)])
@pytest.mark.parametrize(("shift", "spread"), [(0.0, 0.5), (-4000.0, 2.0), (1e6, 0.01)])
def test_against_the_iteration(n1, n2, n_eff, shift, spread):
    rng = np.random.default_rng([n1, n2])
    l1, l2 = (shift + spread * rng.normal(size=n) for n in (n1, n2))
    result = fe.bridge_log_ratios(l1, l2, n_eff=n_eff)
    log_r, mse, overlap = iterated(l1, l2, n_eff)
    assert abs(result.log_evidence - log_r) < 1e-12 * max(1.0, abs(shift))
    assert result.relative_mse == pytest.approx(mse, rel=1e-8)
    assert result.overlap == pytest.approx(overlap, rel=1e-8)
    in_chains = fe.bridge_log_ratios(l1.reshape(2, -1), l2, n_eff=n_eff)
    assert in_chains.log_evidence == result.log_evidence
    # 0 at a draw of q where p is 0.
    zeros = np.append(l2, [-np.inf] * 5)
    assert np.isfinite(fe.bridge_log_ratios(l1, zeros, n_eff=n_eff).log_evidence)


def test_ratios_move_the_evidence_and_nothing_else():
    p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.5], scale=1.25)
    l1, l2 = log_ratios(p, q, 2000)
    first, moved = (fe.bridge_log_ratios(l1 + c, l2 + c) for c in (0.0, -1234.5))
    assert moved.log_evidence == pytest.approx(first.log_evidence - 1234.5, abs=1e-9)
    assert moved.relative_mse == pytest.approx(first.relative_mse, rel=1e-8)
    # p and q in each other's place: 1 / Z.
    turned = fe.bridge_log_ratios(-l2, -l1, n_eff=2000)
    assert turned.log_evidence == pytest.approx(
        -float(fe.bridge_log_ratios(l1, l2, n_eff=2000).log_evidence), abs=1e-12
    )


def log_ratios(p, q, n, seed=0):
    points = p.sample(n, rng=2 * seed), q.sample(n, rng=2 * seed + 1)
    return tuple(p.log_prob(z) - q.log_prob(z) for z in points)


# --- the error ----------------------------------------------------------------------------------


def standard(dim, mean=0.0, scale=1.0):
    return fe.Gaussian(np.full(dim, mean), scale=scale)


def overlap_by_quadrature(dim, mean, scale):
    """int p q / (p/2 + q/2) of N(0, I) and N(mean, scale^2 I), for D = 1 or a mean of 0."""
    if dim == 1:
        p, q = norm(0.0, 1.0).pdf, norm(mean, scale).pdf
        return quad(lambda z: p(z) * q(z) / (0.5 * p(z) + 0.5 * q(z)), -12, 12, epsabs=1e-12)[0]

    # A function of the square s of the radius, which has a chi-square law under p.
    def part(s):
        log_ratio = 0.5 * s * (1.0 - scale**-2) - dim * math.log(scale)
        return chi2.pdf(s, dim) * 2.0 / (1.0 + math.exp(-log_ratio))

    return quad(part, 0.0, 10.0 * dim, epsabs=1e-12, limit=500)[0]


@pytest.mark.parametrize(
    ("dim", "mean", "scale", "overlap", "mse"),
    [
        (1, 1.0, 1.0, 0.7959457344, 0.51273411),
        (1, 0.0, 1.25, 0.9771059223, 0.04686099),
        (1, 0.0, 0.6, 0.9014368833, 0.21868002),
        (10, 0.0, 1.25, 0.8021967249, 0.49315403),
        (50, 0.0, 1.1, 0.8127072444, 0.46091076),
    ],
)
def test_errors_of_known_overlaps(dim, mean, scale, overlap, mse):
    exact = overlap_by_quadrature(dim, mean, scale)
    assert exact == pytest.approx(overlap, rel=1e-8)
    assert 2.0 * (1.0 / exact - 1.0) == pytest.approx(mse, rel=1e-6)
    n = 40_000
    result = fe.bridge_log_ratios(*log_ratios(standard(dim), standard(dim, mean, scale), n))
    assert n * result.relative_mse == pytest.approx(mse, rel=0.05)
    assert result.overlap == pytest.approx(overlap, abs=0.01)
    assert not result.flagged
    assert abs(result.log_evidence) < 4.0 * result.log_evidence_se


# 1 + b z is log-normal: skewed, with a known norm, and 0 beyond z = -1 / b.
SKEW = 0.2


def skewed(z, b=SKEW):
    inside = np.log(np.maximum(1.0 + b * z, 1e-300))
    total = -0.5 * ((inside / b) ** 2 + math.log(2.0 * math.pi)) - inside
    return np.where((1.0 + b * z > 0.0).all(axis=-1), total.sum(axis=-1), -np.inf)


def repeated(dim, n, phi, repeats, b=SKEW, n_chains=4, q_of=None, seed=0):
    """Estimates of a log evidence of 0, each from draws of its own."""
    model = fe.Model(log_joint=lambda z: skewed(z, b), dim=dim, vectorized=True)
    rng = np.random.default_rng([seed, dim, n])
    results = []
    for _ in range(repeats):
        draws = np.expm1(b * chains(rng, (n_chains, n // n_chains, dim), phi)) / b
        # Chains of this length have R-hats above 1.01 now and then.
        with quiet():
            results.append(fe.bridge(draws, model, q_of and q_of(draws), rng=rng))
    return results


def in_errors(results):
    """Estimates, and the same in units of their errors, which there must be."""
    values, errors_of = (
        np.array([float(getattr(each, name)) for each in results])
        for name in ("log_evidence", "log_evidence_se")
    )
    assert np.isfinite(errors_of).all()
    return values, values / errors_of


CASES = {"iid": (10, 2000, 0.0), "AR(1)": (10, 4000, 0.7), "D = 50": (50, 8000, 0.0)}


@pytest.mark.statistical
@pytest.mark.parametrize("case", ["iid", "AR(1)"])
def test_coverage_in_short(case):
    _, z = in_errors(repeated(*CASES[case], repeats=200))
    # Binomial of 200 at .95, four standard deviations.
    assert 0.888 < np.mean(np.abs(z) < 1.96) < 1.0
    assert 0.8 < np.sqrt(np.mean(z**2)) < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_coverage(case):
    b = 0.1 if case == "D = 50" else SKEW
    values, z = in_errors(repeated(*CASES[case], repeats=1000, b=b, seed=1))
    assert 0.93 < np.mean(np.abs(z) < 1.96) < 0.97
    assert abs(np.mean(values)) < 0.2 * np.std(values)


@pytest.mark.statistical
def test_q_fitted_to_what_it_bridges_is_biased_and_a_split_one_is_not():
    def fitted(draws):
        rows = draws.reshape(-1, 50)
        return fe.Gaussian(rows.mean(axis=0), cov=np.cov(rows, rowvar=False))

    results = repeated(50, 2000, 0.0, repeats=30, b=0.1, q_of=fitted)
    same = np.array([float(each.log_evidence) for each in results])
    assert np.mean(same) < -3.0 * np.std(same)
    # What the draws say of the overlap is not what those of q say, and the results say so.
    assert all("not of p" in each.problems[-1] for each in results)
    split, _ = in_errors(repeated(50, 2000, 0.0, repeats=30, b=0.1))
    assert abs(np.mean(split)) < 4.0 * np.std(split) / np.sqrt(30)


@pytest.mark.statistical
def test_coverage_where_overlaps_are_small():
    """Up to the largest relative error that is not flagged."""
    hits = []
    for seed in range(400):
        ratios = log_ratios(standard(1), standard(1, 3.2), 150, seed)
        with quiet():
            result = fe.bridge_log_ratios(*ratios, n_eff=150)
        hits.append(abs(result.log_evidence) < 1.96 * math.sqrt(result.relative_mse))
    assert 0.04 < result.relative_mse < 0.12
    assert 0.90 < np.mean(hits) < 0.99


# --- draws that mislead -------------------------------------------------------------------------

PAIR = fe.Mixture([0.5, 0.5], fe.Gaussian([[-4.0], [4.0]], scale=1.0))


def caught(function, *args, **options):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        result = function(*args, **options)
    assert all(each.filename == __file__ for each in record)
    return result, [(each.category, str(each.message)) for each in record]


def test_good_draws_have_no_warning():
    draws = standard(2).sample(4000, rng=0).reshape(4, 1000, 2)
    result, record = caught(fe.bridge, draws, standard(2), rng=1)
    assert (record, result.flagged, result.problems) == ([], False, ())
    assert result.r_hat < 1.01
    assert result.ess_bulk > 1500


def test_chains_in_different_modes():
    draws = np.stack([PAIR.components.sample(1000, rng=0)[:, k] for k in (0, 1)])
    result, record = caught(fe.bridge, draws, PAIR, rng=1)
    assert {kind for kind, _ in record} >= {errors.ChainsWarning}
    assert result.r_hat > 1.5
    assert np.isnan(result.log_evidence_se)
    assert "R-hat is" in result.problems[0]
    assert "log_evidence_se is NaN" in record[0][1]
    low, high = result.confidence_interval()
    assert (low, high) == (-np.inf, np.inf)


def test_chains_that_miss_a_mode_that_q_has():
    draws = PAIR.components.sample(2000, rng=0)[:, 0]
    # Nearer to the mode that is missed: what two modes say of q would be the same from the middle.
    q = fe.StudentT(4.0, [2.0], scale=3.5)
    result, record = caught(fe.bridge, draws, PAIR, q, rng=1)
    assert [kind for kind, _ in record] == [errors.OverlapWarning]
    assert "not of p, or miss a part of it" in record[0][1]
    assert np.isnan(result.log_evidence_se)
    # Draws of both modes are fine with a q that covers one.
    both, record = caught(
        fe.bridge, PAIR.sample(4000, rng=0), PAIR, fe.Gaussian([-4.0], scale=1.0), rng=1
    )
    assert not record
    assert abs(both.log_evidence) < 4.0 * both.log_evidence_se


def test_draws_of_another_distribution():
    model = standard(2)
    draws = 1.3 * model.sample(4000, rng=0).reshape(4, 1000, 2)
    result, record = caught(fe.bridge, draws, model, rng=1)
    assert [kind for kind, _ in record] == [errors.OverlapWarning]
    assert np.isnan(result.log_evidence_se)


def test_p_and_q_apart():
    result, record = caught(fe.bridge, standard(1).sample(1000, rng=0), standard(1), far(40.0))
    assert [kind for kind, _ in record] == [errors.OverlapWarning]
    assert np.isnan(result.log_evidence_se)
    # Each of few numbers is near to the others, and all of them say nothing.
    rng = np.random.default_rng(0)
    l1, l2 = 1e6 + rng.normal(size=1000), -1e6 + rng.normal(size=1000)
    result, record = caught(fe.bridge_log_ratios, l1, l2)
    assert [kind for kind, _ in record] == [errors.OverlapWarning]
    assert result.overlap == 0.0
    nowhere, record = caught(fe.bridge_log_ratios, l1, np.full(100, -np.inf))
    assert nowhere.log_evidence == -np.inf
    assert "p is 0, or nearly, at all draws of q" in record[0][1]


def far(mean):
    return fe.Gaussian([mean], scale=1.0)


def test_few_effective_draws():
    draws = chains(np.random.default_rng(0), (2, 2000, 1), 0.97)
    result, record = caught(fe.bridge, draws, standard(1), fe.Gaussian([0.1], scale=1.1), rng=1)
    assert errors.ChainsWarning in {kind for kind, _ in record}
    assert result.ess_bulk < 200
    assert any(
        re.match(r"there are \d+ effective draws, fewer than 100", p) for p in result.problems
    )
    # By the autocorrelation of f2, which is less than that of z.
    assert 40 < result.n_eff < 1000


def test_short_chains():
    result, record = caught(fe.bridge_log_ratios, np.zeros((2, 6)), np.zeros(12))
    assert record[0][0] is errors.ChainsWarning
    assert "too short to tell" in result.problems[0]
    assert np.isnan(result.log_evidence_se)


@pytest.mark.parametrize("draws", [1, 2, 9, 15])
@pytest.mark.parametrize("n_eff", [None, 1.0])
def test_few_draws_are_never_without_a_word(draws, n_eff):
    zeros = np.zeros(draws)
    result, record = caught(fe.bridge_log_ratios, zeros, zeros, n_eff=n_eff)
    assert record
    assert result.flagged
    assert np.isnan(result.log_evidence_se)
    assert abs(result.log_evidence) < 1e-15


def test_q_that_is_the_posterior():
    model = fe.LinearGaussian([1.0, 2.0], [[1.0, 0.5], [0.0, 1.0]], noise_cov=1.0)
    q = model.exact_posterior()
    result, record = caught(fe.bridge, q.sample(1000, rng=0), model, q, rng=1)
    assert not record
    assert abs(result.log_evidence - model.exact_log_evidence()) < 1e-12
    assert result.overlap == pytest.approx(1.0, abs=1e-12)


# --- models and draws ---------------------------------------------------------------------------


def test_halves_of_each_chain():
    model, rng = standard(2), np.random.default_rng(5)
    draws = rng.normal(size=(4, 501, 2))
    first = draws[:, :250].reshape(-1, 2)
    q = fe.Gaussian(first.mean(axis=0), cov=np.cov(first, rowvar=False))
    with quiet():
        result, by_hand = fe.bridge(draws, model, rng=3), fe.bridge(draws[:, 250:], model, q, rng=3)
    assert result.log_evidence == by_hand.log_evidence
    assert (result.n_draws, result.n_proposal) == (4 * 251, 4 * 251)
    wide = fe.StudentT(5.0, first.mean(axis=0), cov=np.cov(first, rowvar=False) * 0.6)
    with quiet():
        got = fe.bridge(draws, model, df=5.0, n_proposal=700, rng=3)
        expected = fe.bridge(draws[:, 250:], model, wide, n_proposal=700, rng=3)
    assert got.log_evidence == pytest.approx(float(expected.log_evidence), abs=1e-12)
    assert got.n_proposal == 700


def test_seeds():
    draws = standard(1).sample(1000, rng=0)
    one, same, other = (fe.bridge(draws, standard(1), rng=seed) for seed in (1, 1, 2))
    assert one.log_evidence == same.log_evidence != other.log_evidence
    generator = np.random.default_rng(0)
    first, second = (fe.bridge(draws, standard(1), rng=generator) for _ in range(2))
    assert first.log_evidence != second.log_evidence


def compiled(z, y):
    return -0.5 * (z[0] ** 2 + z[1] ** 2 + (y - z[0] - z[1]) ** 2)


def test_compiled_and_host_models():
    exact = math.log(2.0 * math.pi) - 0.5 * math.log(3.0) - 0.5 * 0.7**2 / 3.0
    cov = np.linalg.inv(np.eye(2) + 1.0)
    posterior = fe.Gaussian(cov @ [0.7, 0.7], cov=cov)
    draws = posterior.sample(4000, rng=0).reshape(4, 1000, 2)
    own = fe.Model(log_joint=compiled, dim=2, params=(0.7,))
    host = fe.Model(
        log_joint=lambda z: -0.5 * ((z**2).sum(-1) + (0.7 - z.sum(-1)) ** 2), dim=2, vectorized=True
    )
    first, second = (fe.bridge(draws, model, rng=1) for model in (own, host))
    assert first.log_evidence == pytest.approx(float(second.log_evidence), abs=1e-12)
    assert abs(first.log_evidence - exact) < 4.0 * first.log_evidence_se
    assert repr(first).splitlines()[0] == "Bridge sampling, in nats"


# --- named draws --------------------------------------------------------------------------------

NAMED = np.random.default_rng(0).normal(size=(2, 50, 4))


def test_variables_of_arviz():
    xarray = pytest.importorskip("xarray")
    dims = ("chain", "draw")
    data = xarray.Dataset(
        {
            "theta": ((*dims, "school"), NAMED[..., :3]),
            "mu": (dims, NAMED[..., 3]),
        }
    )
    tree = xarray.DataTree.from_dict({"posterior": data, "prior": data + 1.0})
    for value in (data, tree, data.transpose("school", "draw", "chain")):
        got, named = read_chains(value, 4)
        assert named
        np.testing.assert_array_equal(got, NAMED)
    last = NAMED[..., [3, 0, 1, 2]]
    names = ("mu", "theta[0]", "theta[1]", "theta[2]")
    np.testing.assert_array_equal(read_chains(tree, 4, names)[0], last)
    stan = ("mu", "theta.1", "theta.2", "theta.3")
    np.testing.assert_array_equal(read_chains(tree, 4, stan)[0], last)
    np.testing.assert_array_equal(read_chains(tree, 4, None, ["mu", "theta"])[0], last)
    np.testing.assert_array_equal(read_chains(tree, 1, ("mu",))[0], last[..., :1])
    one = data.isel(chain=0)
    np.testing.assert_array_equal(read_chains(one, 4)[0], NAMED[:1])
    for given, message in [
        ((3,), r"3 coordinates, as many as the model, got 4; the variables .* theta \(3\), mu"),
        ((2, ("mu", "nu")), "none with the names 'nu' among 'theta\\[0\\]'"),
        ((4, None, ["nu"]), "var must name variables of draws, which has 'theta', 'mu'; got 'nu'"),
        ((4, None, ["mu"]), "var must have 4 coordinates, as many as the model, got 1"),
        ((4, None, "mu"), "var must be a sequence"),
    ]:
        with pytest.raises(errors.InvalidInputError, match=message):
            read_chains(tree, *given)
    with pytest.raises(
        errors.InvalidInputError, match=r"must have a group 'posterior', got .*prior"
    ):
        read_chains(xarray.DataTree.from_dict({"prior": data}), 4)
    with pytest.raises(
        errors.InvalidInputError, match="dimensions 'chain' and 'draw', got 'school'"
    ):
        read_chains(data.isel(chain=0, draw=0), 4)
    with pytest.raises(
        errors.InvalidInputError, match=r"var must be None, got .*: draws is an array"
    ):
        read_chains(NAMED, 4, None, ["mu"])


def csv(path, values, names, *, warmup=0, save_warmup="0", thin=1):
    head = "# stan_version_major = 2\n#   num_samples = 1000 (Default)\n"
    head += f"#     num_warmup = {warmup}\n#     save_warmup = {save_warmup}\n#     thin = {thin}\n"
    lines = [",".join(["lp__", "accept_stat__", *names])]
    lines += [",".join(map(repr, [-1.0, 0.9, *map(float, row)])) for row in values]
    lines.insert(1, "# Adaptation terminated\n# Step size = 0.9")
    path.write_text(head + "\n".join([*lines, "# ", "#  Elapsed Time: 0.1 seconds", ""]))
    return path


def test_files_of_cmdstan(tmp_path):
    names = ("theta.1", "theta.2", "theta.3", "mu")
    paths = [csv(tmp_path / f"{k}.csv", NAMED[k], names) for k in (0, 1)]
    np.testing.assert_array_equal(read_chains(paths, 4)[0], NAMED)
    np.testing.assert_array_equal(read_chains(str(paths[0]), 4)[0], NAMED[:1])
    np.testing.assert_array_equal(read_chains(paths, 1, ("theta.2",))[0], NAMED[..., 1:2])
    # In brackets too, Stan counts from 1.
    np.testing.assert_array_equal(read_chains(paths, 1, ("theta[1]",))[0], NAMED[..., :1])
    np.testing.assert_array_equal(read_chains(paths, 1, None, ["theta[3]"])[0], NAMED[..., 2:3])
    with pytest.raises(errors.InvalidInputError, match=r"none with the names 'theta\[0\]'"):
        read_chains(paths, 2, ("theta[0]", "theta[1]"))
    np.testing.assert_array_equal(
        read_chains(paths, 2, None, ["mu", "theta.1"])[0], NAMED[..., [3, 0]]
    )
    warm = [
        csv(tmp_path / "warm.csv", NAMED[0], names, warmup=21, save_warmup=saved, thin=2)
        for saved in ("1", "true", "0", "false")[:1]
    ]
    np.testing.assert_array_equal(read_chains(warm, 4)[0], NAMED[:1, 11:])
    kept = csv(tmp_path / "kept.csv", NAMED[0], names, warmup=21, save_warmup="false (Default)")
    np.testing.assert_array_equal(read_chains(kept, 4)[0], NAMED[:1])
    short = csv(tmp_path / "short.csv", NAMED[0, :40], names)
    other = csv(tmp_path / "other.csv", NAMED[0], ("a", "b", "c", "d"))
    plain = tmp_path / "plain.csv"
    plain.write_text("a,b\n1,2\n3,4\n")
    empty = csv(tmp_path / "empty.csv", NAMED[0], names, warmup=100, save_warmup="1")
    for value, message in [
        ([paths[0], short], r"equally many draws, got \[40, 50\]"),
        ([paths[0], other], "files of one model, got other columns in .*other.csv"),
        (plain, "plain.csv must be a CSV file of draws of CmdStan's sampler, but it has no column"),
        (empty, "empty.csv has no draws after the warmup"),
    ]:
        with pytest.raises(errors.InvalidInputError, match=message):
            read_chains(value, 4)
    with pytest.raises(FileNotFoundError):
        read_chains(tmp_path / "missing.csv", 4)
    array = tmp_path / "draws.npy"
    np.save(array, NAMED)
    np.testing.assert_array_equal(read_chains(array, 4)[0], NAMED)


class LogNormalStan:
    """A Stan model of x ~ N(0, 1) and tau = exp(u), u ~ N(0, 1), as `models.stan` asks for it."""

    def param_names(self):
        return ["x", "tau"]

    def param_unconstrain(self, theta):
        return np.array([theta[0], math.log(theta[1])])


def test_constrained_draws_of_a_stan_program(tmp_path):
    from fastelbo.models.stan import StanDensity

    density = StanDensity(LogNormalStan(), 2)
    assert density.constraint.names == ("x", "tau")
    model = fe.Model(log_joint=lambda z: standard(2).log_prob(z), dim=2, vectorized=True)
    vars(model.likelihood)["constraint"] = density.constraint
    z = standard(2).sample(2000, rng=0).reshape(2, 1000, 2)
    given = np.stack([z[..., 0], np.exp(z[..., 1])], axis=-1)
    # Generated quantities stand beside the parameters.
    columns = np.concatenate([z[..., :1] ** 2, given], axis=-1)
    paths = [csv(tmp_path / f"{k}.csv", columns[k], ("square", "x", "tau")) for k in (0, 1)]
    named, plain = fe.bridge(paths, model, rng=1), fe.bridge(z, model, rng=1)
    assert named.log_evidence == pytest.approx(float(plain.log_evidence), abs=1e-12)
    columns[1, 7, 2] = -1.0
    csv(paths[1], columns[1], ("square", "x", "tau"))
    with pytest.raises((errors.InvalidInputError, ValueError)):
        fe.bridge(paths, model, rng=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_constrained_draws_of_numpyro():
    xarray, jax = pytest.importorskip("xarray"), pytest.importorskip("jax")
    numpyro = pytest.importorskip("numpyro")
    jax.config.update("jax_enable_x64", True)

    def program():
        numpyro.sample("tau", numpyro.distributions.HalfNormal(2.0))
        numpyro.sample("a_simplex", numpyro.distributions.Dirichlet(np.ones(3)))

    model = fe.from_numpyro(program)
    assert model.dim == 3
    rng = np.random.default_rng(0)
    dims = ("chain", "draw")
    data = xarray.Dataset(
        {
            "tau": (dims, np.abs(2.0 * rng.normal(size=(2, 1000)))),
            "a_simplex": ((*dims, "k"), rng.dirichlet(np.ones(3), (2, 1000))),
        }
    )
    result = fe.bridge(data, model, rng=1)
    assert not result.flagged
    assert abs(result.log_evidence) < 4.0 * result.log_evidence_se


# --- Bayes factors ------------------------------------------------------------------------------

ESTIMATE = fe.estimate(standard(1), fe.Gaussian([0.1], scale=1.2), 2000, rng=0)
BRIDGE = fe.bridge_log_ratios(*log_ratios(standard(1), far(0.5), 2000), n_eff=2000)


with quiet():
    SEVERAL = fe.summarize(np.zeros((3, 30)))


class Fitted:
    """As an adaptation of q: it holds an estimate, and says whether it can be trusted."""

    estimate, flagged = ESTIMATE, True


class Number:
    log_evidence, log_evidence_se = 2.0, 0.5


def test_bayes_factors_of_all_kinds():
    difference = fe.bayes_factor(BRIDGE, ESTIMATE)
    assert difference.quantity == "log_evidence"
    value = float(BRIDGE.log_evidence) - float(ESTIMATE.log_evidence)
    assert float(difference.value) == value
    errors_of = BRIDGE.log_evidence_se, ESTIMATE.log_evidence_se
    assert float(difference.se) == pytest.approx(np.hypot(*errors_of), rel=1e-12)
    low, high = difference.confidence_interval()
    assert low < value < high
    back = fe.bayes_factor(ESTIMATE, BRIDGE)
    assert float(back.value) == -value
    np.testing.assert_allclose(back.confidence_interval(), (-high, -low), rtol=1e-12)
    other = fe.estimate(standard(1), far(0.1), 2000, rng=1)
    both, plain = fe.bayes_factor(ESTIMATE, other), ESTIMATE - other
    assert (both.value, both.se, both.flagged) == (plain.value, plain.se, plain.flagged)
    number = fe.bayes_factor(Number(), Fitted())
    assert float(number.se) == pytest.approx(np.hypot(0.5, float(ESTIMATE.log_evidence_se)))
    assert number.flagged
    assert fe.bayes_factor(Fitted(), other).flagged
    assert not difference.flagged


def test_flagged_bridges_have_no_interval():
    with quiet():
        flagged = fe.bridge_log_ratios(np.zeros(5), np.zeros(5))
    difference = fe.bayes_factor(flagged, BRIDGE)
    assert difference.flagged
    assert np.isnan(difference.se)
    assert difference.confidence_interval() == (-np.inf, np.inf)


def test_bayes_factors_need_draws_of_their_own():
    draws = standard(1).sample(1000, rng=0)
    first, second = fe.bridge(draws, standard(1), rng=1), fe.bridge(draws[::-1], standard(1), rng=1)
    for a, b in [(first, second), (BRIDGE, BRIDGE), (ESTIMATE, ESTIMATE)]:
        with pytest.raises(errors.InvalidInputError, match="must have draws of their own"):
            fe.bayes_factor(a, b)
    assert np.isfinite(fe.bayes_factor(first, fe.bridge(draws, standard(1), rng=2)).se)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (BRIDGE, 3.0, "b must be a result with log_evidence and log_evidence_se, .* got 3.0"),
        (None, BRIDGE, "a must be a result"),
        (fe.BridgeEstimate, BRIDGE, "a must be a result"),
        (BRIDGE, SEVERAL, "of one shape"),
    ],
)
def test_bad_bayes_factors(a, b, message):
    with pytest.raises(errors.InvalidInputError, match=message):
        fe.bayes_factor(a, b)


# --- bad arguments ------------------------------------------------------------------------------

OK = np.zeros(50)


@pytest.mark.parametrize(
    ("l1", "l2", "n_eff", "message"),
    [
        (
            np.zeros((2, 3, 4)),
            OK,
            None,
            r"l1 must have shape \(draws,\) or .*got shape \(2, 3, 4\)",
        ),
        ([], OK, None, "l1 must have shape .* at least one draw"),
        (0.0, OK, None, r"l1 must have shape .* got shape \(\)"),
        (np.zeros((50, 4)), OK, None, "got 50 chains of 4 draws; transpose it"),
        (OK, np.zeros((2, 25)), None, r"l2 must have shape \(n,\) .* got shape \(2, 25\)"),
        (OK, [], None, "l2 must have shape"),
        ([0.0, np.nan], OK, None, r"l1 must be finite, .* the first, nan, at index \(0, 1\)"),
        ([0.0, -np.inf], OK, None, "l1 must be finite"),
        (OK, [0.0, np.inf], None, "l2 must be neither NaN nor .inf, got 1 .* the first, inf"),
        (OK, [np.nan], None, "l2 must be neither"),
        (OK, OK, 0.0, "n_eff must be from 1 to 500, 10 times the draws of l1, got 0.0"),
        (OK, OK, 501, "n_eff must be from 1 to 500"),
        (OK, OK, np.nan, "n_eff must be from 1"),
        (OK, OK, "many", "n_eff must be a real number"),
    ],
)
def test_bad_log_ratios(l1, l2, n_eff, message):
    with pytest.raises(errors.InvalidInputError, match=message):
        fe.bridge_log_ratios(l1, l2, n_eff=n_eff)


DRAWS = standard(2).sample(100, rng=0)
BATCH = fe.Gaussian(np.zeros((3, 2)), scale=1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"draws": DRAWS[:, :1]}, r"\(chains, draws, 2\) or \(draws, 2\), .* got shape \(100, 1\)"),
        ({"draws": DRAWS[0]}, "draws must have shape"),
        ({"draws": np.zeros((0, 2))}, "draws must have at least one draw"),
        ({"draws": np.zeros((60, 4, 2))}, "got 60 chains of 4 draws; swap its first axes"),
        ({"draws": np.where(DRAWS > 2.0, np.nan, DRAWS)}, "draws must be finite"),
        ({"draws": DRAWS[:6]}, "draws must be more than 6 for a q of dimension 2"),
        ({"draws": DRAWS * [1.0, 0.0]}, "draws must have a positive definite covariance"),
        ({"model": BATCH}, r"model must have no batch of data points, .* batch shape \(3,\)"),
        ({"model": fe.Gaussian}, "model must be a Model, .* got the class Gaussian"),
        ({"model": len}, "model must be a Model"),
        ({"model": fe.MixtureModel([[0.0]], PAIR)}, "model must be"),
        ({"q": standard(3)}, "q must have the dimension of the model, 2, and no batch"),
        ({"q": BATCH}, "q must have the dimension of the model"),
        ({"q": fe.Categorical([0.5, 0.5])}, "q must be a Gaussian, StudentT or Mixture, got Categ"),
        ({"q": standard(2), "df": 5.0}, "df is of a q that is fitted, got 5.0 with q"),
        ({"df": 2.0}, "df must be above 2 and finite, got 2.0"),
        ({"df": np.inf}, "df must be above 2 and finite, got inf"),
        ({"n_proposal": 0}, "n_proposal must be at least 1, got 0"),
        ({"var": ["mu"]}, "var must be None"),
        ({"rng": "x"}, "rng must be"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(errors.InvalidInputError, match=message):
        fe.bridge(**({"draws": DRAWS, "model": standard(2)} | given))


@pytest.mark.parametrize(
    ("value", "of", "message"),
    [
        (-np.inf, 1.0, "at 1 draws it is not: they are not of its posterior, the first, -inf, at"),
        (np.nan, 1.0, "at 1 draws it is not: they are not of its posterior, the first, nan, at"),
        (np.nan, 50.0, r"at \d+ draws of q it is not, the first, nan"),
        (np.inf, 50.0, r"at \d+ draws of q it is not, the first, inf"),
    ],
)
def test_bad_log_densities(value, of, message):
    """At a draw of the posterior, or at those of a q so wide that some are beyond 9."""

    def log_joint(z):
        total = standard(2).log_prob(z)
        return np.where(z[..., 0] > 9.0, value, total)

    draws = np.array(DRAWS)
    if of == 1.0:
        draws[70, 0] = 10.0
    model = fe.Model(log_joint=log_joint, dim=2, vectorized=True)
    with pytest.raises(errors.InvalidWeightError, match=message):
        fe.bridge(draws, model, standard(2, 0.0, of), rng=0)


def test_a_bayes_factor_takes_no_totals():
    total = ESTIMATE.total()
    for name, given in (("a", (total, BRIDGE)), ("b", (ESTIMATE, total))):
        with pytest.raises(
            errors.InvalidInputError, match=rf"{name} must be an Estimate, got its Total.*pass the"
        ):
            fe.bayes_factor(*given)


def test_copies_of_a_chain():
    model = standard(2)
    draws = model.sample(400, rng=0).reshape(4, 100, 2)
    draws[3] = draws[1]
    with pytest.raises(errors.InvalidInputError, match=r"draws .*same draws in the chains 1 and 3"):
        fe.bridge(draws, model, rng=1)
    with pytest.raises(errors.InvalidInputError, match=r"log_likelihood .*the chains 1 and 3"):
        fe.loo(draws)
    # Equal last draws, or draws that are all equal, are no copies.
    draws[3, 0] += 1.0
    fe.loo(0.1 * draws)
    assert fe.loo(np.zeros((4, 100, 2))).elpd_loo == 0.0


@pytest.mark.parametrize("count", [1, 5, 19])
def test_few_draws_of_q(count):
    model = standard(1)
    draws = model.sample(4000, rng=0).reshape(4, 1000, 1)
    result, record = caught(fe.bridge, draws, model, model, n_proposal=count, rng=1)
    assert result.problems == (f"there are too few draws of q: {count}, fewer than 20",)
    assert [kind for kind, _ in record] == [errors.OverlapWarning]
