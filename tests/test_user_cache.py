"""The disk cache of users' functions: what changes compiles again, what does not is loaded."""

import functools
import json
import subprocess
import sys
import types

import numpy as np
import pytest
from numba.core import event

import fastelbo as fe
from fastelbo.kernels.vectors.fingerprint import NoFingerprintError, fingerprint
from fastelbo.kernels.vectors.snapshot import snapshot

pytestmark = pytest.mark.compiler

SCRIPT = """
import json, sys
import fastelbo as fe
import own
from numba.core import event

def made(function):
    with event.install_recorder("numba:compile") as recorder:
        model = fe.Model(log_joint=function, dim=2)
        value = float(model.log_joint([1.0, 2.0]))
    names = [each.data["dispatcher"].py_func.__module__ for _, each in recorder.buffer]
    return value, any(not name.startswith("fastelbo") for name in names)

found = {name: made(function) for name, function in own.FUNCTIONS.items()}
print(json.dumps([found, "fastelbo.kernels.vectors.block" in sys.modules]))
"""
HELPER = """
import numba

WEIGHT = CHANGED

def plain(z):
    return CHANGED * z[0] ** 2

@numba.njit
def compiled(z):
    return CHANGED * z[0] ** 2

@numba.njit
def inner(z):
    return CHANGED * z[0] ** 2

@numba.njit
def outer(z):
    return inner(z)
"""
OWN = """
import functools
import numpy as np
import helper
from helper import compiled, outer, plain

NUMBER, ARRAY = CHANGED, np.array([1.0, CHANGED])

def itself(z):
    return -CHANGED * z[0] ** 2 - z[1] ** 2

def calls_plain(z):
    return -plain(z) - z[1] ** 2

def calls_compiled(z):
    return -compiled(z) - z[1] ** 2

def calls_through(z):
    return -outer(z) - z[1] ** 2

def calls_by_module(z):
    return -helper.plain(z) - z[1] ** 2

def reads_module(z):
    return -helper.WEIGHT * z[0] ** 2 - z[1] ** 2

def reads_number(z):
    return -NUMBER * z[0] ** 2 - z[1] ** 2

def reads_array(z):
    return -ARRAY[1] * z[0] ** 2 - z[1] ** 2

def closed():
    weights = np.array([1.0, CHANGED])
    return lambda z: -weights[1] * z[0] ** 2 - z[1] ** 2

def default(z, w=CHANGED):
    return -w * z[0] ** 2 - z[1] ** 2

def by_keyword(z, *, w):
    return -w * z[0] ** 2 - z[1] ** 2

def untouched(z):
    return -KEPT * z[0] ** 2 - z[1] ** 2

FUNCTIONS = {
    each.__name__: each
    for each in (
        itself, calls_plain, calls_compiled, calls_through, calls_by_module, reads_module,
        reads_number, reads_array, default, untouched,
    )
}
FUNCTIONS["closed"] = closed()
FUNCTIONS["partial"] = functools.partial(default, w=CHANGED)
FUNCTIONS["partial by keyword"] = functools.partial(by_keyword, w=CHANGED)
"""
# The value of a partial's argument is read by the same machine code.
SAME_CODE = {"partial"}


def test_an_edit_is_never_missed_and_the_rest_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    # Not in the cache already.
    before, after = (float(each) for each in np.random.default_rng().uniform(1.0, 9.0, 2))
    texts = {"own": OWN.replace("KEPT", str(before)), "helper": HELPER}

    def run(number):
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text.replace("CHANGED", str(number)))
        output = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True, cwd=tmp_path)
        found, compiler_was_imported = json.loads(output)
        values, were_compiled = zip(*found.values(), strict=True)
        expected = [-before - 4.0 if name == "untouched" else -number - 4.0 for name in found]
        np.testing.assert_allclose(values, expected, rtol=1e-15)
        names = {name for name, each in zip(found, were_compiled, strict=True) if each}
        return names, compiler_was_imported, set(found)

    compiled, _, everything = run(before)
    assert compiled == everything - SAME_CODE
    assert run(before)[:2] == (set(), False)
    # Each function depends on one of the places, all of which change.
    compiled, _, _ = run(after)
    assert compiled == everything - SAME_CODE - {"untouched"}
    assert run(after)[:2] == (set(), False)


def test_the_same_process_loads_it_too():
    def density(z):
        return -0.5 * (z[0] ** 2 + 1.25 * z[1] ** 2)

    first = fe.Model(log_joint=density, dim=2)
    with event.install_recorder("numba:compile") as recorder:
        again = fe.Model(log_joint=density, dim=2)
    assert recorder.buffer == []
    assert first.likelihood._built.keep is not again.likelihood._built.keep
    assert first.log_joint([1.0, 2.0]) == again.log_joint([1.0, 2.0])


# --- fingerprints -------------------------------------------------------------------------------

NUMBER, ARRAY = 1.0, np.array([1.0, 2.0])


def reads_number(z):
    return NUMBER * z[0]


def reads_array(z):
    return ARRAY[0] * z[0]


def calls(z):
    return reads_number(z)


def of_object(z):
    return OBJECT.value * z[0]


class OBJECT:
    value = 1.0


@pytest.mark.parametrize("function", [reads_number, calls])
def test_a_global_that_changes_changes_the_fingerprint(function, monkeypatch):
    before = fingerprint(function)
    assert fingerprint(function) == before
    monkeypatch.setitem(globals(), "NUMBER", 2.0)
    assert fingerprint(function) != before


def test_an_array_counts_by_its_content(monkeypatch):
    before = fingerprint(reads_array)
    monkeypatch.setitem(globals(), "ARRAY", ARRAY.copy())
    assert fingerprint(reads_array) == before
    ARRAY[1] += 1.0
    assert fingerprint(reads_array) != before
    ARRAY[1] -= 1.0
    assert fingerprint(reads_array) == before


@pytest.mark.parametrize("other", [np.float32([1.0, 2.0]), np.array([[1.0, 2.0]]), 1.0, 1, (1.0,)])
def test_types_count(other, monkeypatch):
    before = fingerprint(reads_array)
    monkeypatch.setitem(globals(), "ARRAY", other)
    assert fingerprint(reads_array) != before


def test_constants_and_defaults_count():
    made = [lambda z: 1.0 * z[0], lambda z: 2.0 * z[0], lambda z, w=1.0: w * z[0]]
    made += [lambda z, w=2.0: w * z[0], lambda z: 1 * z[0], lambda z: 1.0 * z[1]]
    assert len({fingerprint(each) for each in made}) == len(made)


def test_what_has_no_fingerprint():
    with pytest.raises(NoFingerprintError):
        fingerprint(of_object)


def test_a_decorator_that_names_another_package_hides_no_edit():
    made = []
    for factor in ("1.0", "2.0"):
        scope = {"functools": functools, "np": np}
        exec(f"@functools.wraps(np.iterable)\ndef own(z):\n    return {factor} * z[0]", scope)
        assert scope["own"].__module__.startswith("numpy")
        made.append(fingerprint(scope["own"]))
    assert made[0] != made[1]


def test_modules_may_name_each_other():
    package, part = types.ModuleType("package"), types.ModuleType("package.part")
    package.part, part.package, part.weight = part, package, 2.0
    found = set()
    for weight in (2.0, 2.0, 3.0):
        scope = {"package": package}
        part.weight = weight
        exec("def own(z):\n    return package.part.weight * z[0]", scope)
        found.add(fingerprint(scope["own"]))
        assert snapshot(scope["own"])([1.0]) == weight
    assert len(found) == 2
