"""How long a mean-field fit of the digits takes to within 0.01 nats a data point of the optimum.

`benchmarks.report` makes a table of the traces, ``plots/fit.py`` a figure.
"""

import numpy as np
import pytest

from .mean_field import TRACES, Problem, seconds_to_target


@pytest.mark.parametrize("name", TRACES)
def test_mean_field_fit(timed, benchmark, small, name):
    problem = Problem(40 if small else 1797)
    trace = timed(lambda: TRACES[name](problem, small), "mean-field fit of the digits", rounds=1)
    gaps = np.array([look.gap for look in trace])
    assert gaps.min() > -1e-9
    assert gaps[-1] < 0.9 * gaps[0] or gaps[-1] < 1e-6
    if not benchmark.disabled:
        benchmark.extra_info |= {
            "fit": name, "trace": [list(look) for look in trace],
            "seconds_to_target": seconds_to_target(trace),
        }  # fmt: skip
