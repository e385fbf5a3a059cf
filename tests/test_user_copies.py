"""Models of users' functions, and their copies, after what the functions read has changed."""

import contextlib
import copy
import enum
import math
import os
import pickle
import subprocess
import sys
import types
from unittest import mock

import numba
import numpy as np
import pytest

import fastelbo as fe

WEIGHT = 2.0
ARRAY = np.array([1.0, 2.0])
PAIR = (ARRAY, 1)
SETTINGS = types.ModuleType("settings")
SETTINGS.weight = 2.0
Q = fe.Gaussian([0.0], scale=1.0)
HERE = sys.modules[__name__]


def reads_number(z):
    return -WEIGHT * z[0] ** 2


def reads_array(z):
    return -ARRAY[1] * z[0] ** 2


def reads_tuple(z):
    return -PAIR[0][1] * z[0] ** 2


def reads_module(z):
    return -SETTINGS.weight * z[0] ** 2


def helper(v):
    return WEIGHT * v


@numba.njit
def compiled_helper(v):
    return WEIGHT * v


def calls(z):
    return -helper(z[0] ** 2)


def calls_compiled(z):
    return -compiled_helper(z[0] ** 2)


def calls_inside(z):
    return -sum([compiled_helper(v * v) for v in z])


@numba.njit
def compiled(z):
    return -compiled_helper(z[0] ** 2)


def default(z, w=2.0):
    return -w * z[0] ** 2


def by_keyword(z, *, w=2.0):
    return -w * z[0] ** 2


def other_helper(v):
    return 7.0 * v


@contextlib.contextmanager
def changed_array():
    ARRAY[1] = 7.0
    yield
    ARRAY[1] = 2.0


def changed(target, name, value=7.0):
    return lambda: mock.patch.object(target, name, value)


CHANGES = [
    (reads_number, changed(HERE, "WEIGHT")),
    (reads_array, changed_array),
    (reads_tuple, changed_array),
    (reads_module, changed(SETTINGS, "weight")),
    (calls, changed(HERE, "WEIGHT")),
    (calls, changed(HERE, "helper", other_helper)),
    (calls_compiled, changed(HERE, "WEIGHT")),
    (calls_inside, changed(HERE, "WEIGHT")),
    (compiled, changed(HERE, "WEIGHT")),
    (default, changed(default, "__defaults__", (7.0,))),
    (by_keyword, changed(by_keyword, "__kwdefaults__", {"w": 7.0})),
]


def values(model):
    """The density in plain Python and compiled, at 1 and at draws."""
    by_python = fe.log_weights(model, Q, 3, rng=0, backend="numpy")
    np.testing.assert_allclose(fe.log_weights(model, Q, 3, rng=0), by_python, rtol=1e-13)
    assert model.likelihood.plain_log_prob(np.ones(1), 0) == model.log_joint([1.0])
    return float(model.log_joint([1.0])), *by_python


@pytest.mark.parametrize(("function", "change"), CHANGES)
def test_a_change_after_the_model_was_made_is_not_seen(function, change):
    model = fe.Model(log_joint=function, dim=1)
    expected, kept = values(model), pickle.dumps(model)
    assert expected[0] == -2.0
    assert values(pickle.loads(kept)) == expected
    with change():
        assert float(fe.Model(log_joint=function, dim=1).log_joint([1.0])) == -7.0
        for each in (model, copy.copy(model), copy.deepcopy(model)):
            assert values(each) == expected
        with pytest.raises(fe.errors.InvalidInputError, match=r"log_joint .*make the model again"):
            pickle.loads(kept)
    assert values(pickle.loads(kept)) == expected


def test_what_is_closed_over_is_kept():
    def made(weight, array):
        def set_weight(value):
            nonlocal weight
            weight = value

        return lambda z: -weight * array[0] * z[0] ** 2, set_weight

    array = np.array([2.0])
    function, set_weight = made(1.0, array)
    model = fe.Model(log_joint=function, dim=1)
    expected = values(model)
    set_weight(3.0)
    array[0] = 5.0
    for each in (model, copy.deepcopy(model)):
        assert values(each) == expected
    assert array.flags.writeable


class Kind(enum.Enum):
    A = 2.0
    B = 3.0


def reads_enum(z):
    return -(z[0] ** 2) if Kind.A is Kind.A else math.inf


def test_what_cannot_be_compared_cannot_be_pickled():
    model = fe.Model(log_joint=reads_enum, dim=1)
    assert values(copy.deepcopy(model)) == values(model)
    with pytest.raises(fe.errors.InvalidInputError, match=r"cannot be pickled: it reads .*Enum"):
        pickle.dumps(model)


DUMPS = """
import pickle, sys, own, fastelbo as fe
sys.stdout.buffer.write(pickle.dumps(fe.Model(log_joint=own.density, dim=1)))
"""
LOADS = """
import pickle, sys
print(float(pickle.loads(sys.stdin.buffer.read()).log_joint([1.0])))
"""


def test_a_pickled_model_in_another_process(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "helper.py").write_text("def f(v):\n    return 2.0 * v\n")
    (tmp_path / "own.py").write_text(
        "import helper\ndef density(z):\n    return -helper.f(z[0] ** 2)\n"
    )

    def run(script, given=None):
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, input=given, capture_output=True, cwd=tmp_path, check=False
        )  # fmt: skip

    kept = run(DUMPS).stdout
    assert float(run(LOADS, kept).stdout) == -2.0
    (tmp_path / "helper.py").write_text("def f(v):\n    return 3.0 * v\n")
    assert b"make the model again" in run(LOADS, kept).stderr
