"""Printed results: classes of k-hat, tables for notebooks."""

import dataclasses
import re
import xml.etree.ElementTree

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo.results.reports import as_text
from fastelbo.tables import fixed, html_table, pareto_k_table
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
    lines = est.summary().splitlines()
    assert [word for cell in headings for word in cell.split()] == lines[0].split()
    for row, line in zip(rows, lines[1:], strict=True):
        assert " ".join(row).split() == line.split()


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
