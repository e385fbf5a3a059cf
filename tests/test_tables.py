"""Printed results: classes of k-hat, tables for notebooks."""

import dataclasses
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo.results.reports import as_text
from fastelbo.tables import fixed, format_table, html_table, interval_cell, pareto_k_table
from fastelbo.weights.pareto import pareto_k_classes

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)


def cells(table):
    """Class, count and the rest of each line under the headings."""
    return [line.split("]")[-1].split(")", 1)[-1].split() for line in table.splitlines()[1:]]


def with_pareto_k(k):
    est = fe.summarize(np.random.default_rng(0).normal(size=(len(k), 10_000)))
    return dataclasses.replace(est, pareto_k=np.array(k))


def test_summary_leaves_out_what_log_weights_do_not_tell():
    est = with_pareto_k([0.1, 0.2])
    assert est.summary().split()[:3] == ["log_evidence", "elbo", "jensen_gap"]
    p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
    headings = fe.estimate(p, q, n_samples=100, rng=0).summary().splitlines()[0].split()
    assert headings[:4] == ["log_evidence", "elbo", "expected_log_likelihood", "kl"]


# --- width ----------------------------------------------------------------------------------------


def joined(table):
    """The cells of a table that continues below, its parts side by side again."""
    parts = [part.splitlines() for part in table.split("\n\n")]
    rows = [[re.split(r" {2,}", line.strip()) for line in part] for part in parts]
    first, *others = ([line for line in part if line[0][:3] != "..."] for part in rows)
    # The first heading is empty; the label stands before each part.
    return [
        line + [cell for part in others for cell in part[i][bool(i) :]]
        for i, line in enumerate(first)
    ]


@pytest.mark.parametrize("spread", [1e-9, 1.0, 30.0, 1e6, 1e200])
@pytest.mark.parametrize("centre", [0.0, -1.2345e15, 1e16, -1e300])
def test_a_summary_fits_100_columns(centre, spread):
    rng = np.random.default_rng(0)
    rows = centre + spread * rng.normal(size=(3, 2000))
    est = fe.summarize(rows, iw_sizes=(2, 10, 100, 500, 1000))
    p, q = fe.Gaussian([1e5], scale=1.0), fe.Gaussian([1e5], scale=[[1.25], [0.3]])
    for each in (est, fe.estimate(p, q, 1000, rng=0)):
        lines = each.summary().splitlines()
        assert max(map(len, lines)) <= 100
        assert max(map(len, repr(each.bounds()).splitlines())) <= 100
        assert max(map(len, each.pareto_k_table().splitlines())) <= 100


def test_a_summary_that_continues_below_loses_nothing():
    p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=[[1.25], [1.5], [2.0]])
    est = fe.estimate(p, q, 1000, rng=0)
    headings, *rows = joined(est.summary())
    assert headings == [*parsed(est._repr_html_())[0][1:]]
    for row, cells in zip(rows, parsed(est._repr_html_())[1:], strict=True):
        assert row == cells
    assert est.summary(2).splitlines()[-1] == "... 1 more"


def test_columns_of_a_table_that_is_too_wide():
    cells = [["", "a" * 60, "b" * 60, "c" * 30], ["label", "1", "2", "3"]]
    first, second = format_table(cells).split("\n\n")
    assert first.splitlines() == [f"{'':5}  {'a' * 60}", f"label  {'1':>60}"]
    assert second.splitlines()[1] == f"label  {'2':>60}  {'3':>30}"
    assert format_table([["", "x" * 200]]) == "  " + "x" * 200


# --- classes of k-hat -----------------------------------------------------------------------------


def test_borders_belong_to_the_better_class():
    k = np.array([-0.2, 0.7, np.nextafter(0.7, 1.0), 1.0, np.nextafter(1.0, 2.0), np.inf])
    assert cells(pareto_k_table(pareto_k_classes(k, 0.7))) == [
        ["good", "2", "33.3", "%"],
        ["bad", "2", "33.3", "%"],
        ["very", "bad", "2", "33.3", "%"],
    ]


def test_points_without_k_hat_are_a_class_of_their_own():
    lines = pareto_k_table(pareto_k_classes(np.array([np.nan, 0.1]), 0.7)).splitlines()
    assert lines[-1].split() == ["NaN", "unknown", "1", "50.0", "%"]


def test_no_points():
    assert cells(pareto_k_table(pareto_k_classes(np.zeros(0), 0.7)))[0] == ["good", "0", "0.0", "%"]


def test_least_effective_sample_size_of_a_class():
    est = with_pareto_k([0.1, 0.2, 0.9])
    good, bad, very_bad = cells(est.pareto_k_table())
    assert good[-1] == f"{est.ess[:2].min():.0f}"
    assert bad[-1] == f"{est.ess[2]:.0f}"
    assert very_bad[-1] == "-"


def test_threshold_is_that_of_the_draws():
    est = fe.summarize(np.random.default_rng(0).normal(size=(2, 100)))
    assert "(-inf, 0.50]" in est.pareto_k_table()


def test_without_draws_there_are_no_classes():
    model = fe.MixtureModel([[0.0]], fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0)))
    lines = fe.estimate(model, fe.Categorical([1.0])).pareto_k_table().splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["NaN", "unknown", "1"]]


def test_leave_one_out_prints_the_same_table():
    result = fe.loo(np.random.default_rng(0).normal(size=(1000, 4)) - 2.0)
    assert result.pareto_k_table() == pareto_k_table(
        pareto_k_classes(result.pareto_k, result.threshold)
    )


# --- notebooks ------------------------------------------------------------------------------------


def parsed(html):
    """The text of every row, from HTML that must be well formed."""
    table = xml.etree.ElementTree.fromstring(html)
    return [[cell.text or "" for cell in row] for row in table.iter("tr")]


def test_html_has_the_rows_of_the_summary():
    est = with_pareto_k([0.1, 0.2, 0.9])
    html = est._repr_html_()
    headings, *rows = parsed(html)
    lines = joined(est.summary())
    assert headings[1:] == lines[0]
    assert rows == lines[1:]


def test_html_shows_the_first_rows_and_counts_the_others():
    html = with_pareto_k([0.1] * 12)._repr_html_()
    assert len(parsed(html)) == 11
    assert "2 more data points" in html
    assert "more data points" not in with_pareto_k([0.1] * 10)._repr_html_()


def test_html_is_escaped_and_stands_alone():
    html = html_table([["<a>"], ["1 & 2"]], "<script>")
    assert "&lt;a&gt;" in html
    assert "1 &amp; 2" in html
    assert "<script>" not in html
    assert "http" not in with_pareto_k([0.1])._repr_html_()


@pytest.mark.parametrize("shape", [(), (0,), (2, 2)])
def test_html_of_any_batch(shape):
    est = fe.summarize(np.random.default_rng(0).normal(size=(*shape, 100)))
    assert len(parsed(est._repr_html_())) == 1 + est.log_evidence.size


@pytest.mark.parametrize("size", [1e16, 1e17, 1e99, 1e300, np.finfo(float).max])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_large_numbers_are_short(size, spread):
    rng = np.random.default_rng(0)
    for sign in (-1.0, 1.0):
        rows = sign * size * (1.0 - spread * rng.random((2, 100)))
        est = fe.summarize(rows)
        text = est.summary() + repr(est) + repr(est.bounds()) + as_text(est)
        text += re.sub("<[^>]*>", " ", est._repr_html_())
        cells = re.findall(r"[-+0-9.e]+", text)
        assert max(map(len, cells)) <= len(f"{-9e15:.4f}")
        # The number itself stands there, rounded to its digits.
        assert fixed(float(est.elbo[0]), 4).split(".")[0] in text


@pytest.mark.parametrize("number", [0.0, 1.5, -12.25, 9.9e15, -9.9e15, np.inf, -np.inf, np.nan])
def test_other_numbers_are_fixed(number):
    assert fixed(number, 2) == f"{number:.2f}"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-1.0, 3.0, "1.0 in [-1.0, 3.0]"),
        (-1.0, np.inf, "> -1.0"),
        (-np.inf, 3.0, "< 3.0"),
        (-np.inf, np.inf, ""),
        (np.nan, np.nan, ""),
    ],
)
def test_interval_cells(low, high, shown):
    assert interval_cell(*map(np.array, (1.0, low, high))) == shown


def test_decimals_beyond_the_digits_of_a_float_are_not_shown():
    assert fixed(123456789.123456789, 12) == "123456789.12345679"
    assert fixed(-1.25, 12) == "-1.250000000000"


# --- cross-validation -----------------------------------------------------------------------------


def cross_validation(n):
    rng = np.random.default_rng(0)
    return fe.loo(0.1 * rng.normal(size=(1000, n)) - 2.0)


@pytest.mark.parametrize("n", [0, 1, 3, 2000])
def test_cross_validation_prints_a_table(n):
    result = cross_validation(n)
    text = repr(result)
    assert text == str(result)
    assert len(text) < 500
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    count = "1 observation," if n == 1 else f"{n} observations,"
    assert f"cross-validation of {count} in nats" in lines[0]
    assert lines[3].split()[0] == "elpd_loo"
    assert float(lines[3].split()[1]) == pytest.approx(result.elpd_loo, abs=0.1)
    assert float(lines[4].split()[1]) == pytest.approx(result.p_loo, abs=0.1)
    assert text.endswith(result.pareto_k_table())


def test_cross_validation_in_notebooks():
    result = cross_validation(5)
    root = xml.etree.ElementTree.fromstring(result._repr_html_())
    rows = [[cell.text or "" for cell in row] for row in root.iter("tr")]
    assert [row[0] for row in rows] == [
        "", "elpd_loo", "p_loo", "Pareto k-hat", "(-inf, 0.67]", "(0.67, 1]", "(1, inf)",
    ]  # fmt: skip
    assert rows[4][2] == "5"


def test_cross_validation_as_a_frame():
    pytest.importorskip("pandas")
    result = cross_validation(5)
    frame = result.to_pandas()
    assert frame.index.name == "observation"
    for name in ("pointwise", "pareto_k", "min_draws"):
        np.testing.assert_array_equal(frame[name], getattr(result, name))
    assert frame.attrs["elpd_loo"] == result.elpd_loo
    assert set(frame.attrs) | set(frame.columns) == set(result._fields)
