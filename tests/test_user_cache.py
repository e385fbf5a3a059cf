"""The disk cache of users' functions: what changes compiles again, what does not is loaded."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.kernels.vectors.fingerprint import NoFingerprintError, fingerprint

SCRIPT = """
import json, sys, time
import fastelbo as fe
from numba.core import event
import own

with event.install_recorder("numba:compile") as compiled:
    start = time.perf_counter()
    model = fe.Model(log_joint=own.density, dim=2)
    seconds = time.perf_counter() - start
print(json.dumps([float(model.log_joint([1.0, 2.0])), len(compiled.buffer) > 0, seconds]))
"""
OWN = """
import numpy as np
from helper import shift

SCALE = 2.0

def made():
    weights = np.array([1.0, 3.0])
    def density(z):
        return -SCALE * (weights[0] * (z[0] - shift(z)) ** 2 + weights[1] * z[1] ** 2)
    return density

density = made()
"""
HELPER = "def shift(z):\n    return 0.25 * z[1]\n"
EDITS = {
    "the function": ("own", "z[0] - shift(z)", "z[0] + shift(z)"),
    "a helper": ("helper", "0.25", "0.5"),
    "a closed-over array": ("own", "[1.0, 3.0]", "[1.0, 4.0]"),
    "a global": ("own", "SCALE = 2.0", "SCALE = 1.0"),
}


def expected(shift=-0.5, last=3.0, scale=2.0):
    return -scale * ((1.0 + shift) ** 2 + last * 4.0)


VALUES = {
    "the function": expected(shift=0.5),
    "a helper": expected(shift=-1.0),
    "a closed-over array": expected(last=4.0),
    "a global": expected(scale=1.0),
}


def run(folder):
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, cwd=folder
    ).stdout
    return json.loads(output)


def test_an_edit_is_never_missed_and_the_rest_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    files = {"own": textwrap.dedent(OWN), "helper": HELPER}

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    for name, text in files.items():
        write(name, text)
    value, _, _ = run(tmp_path)
    assert value == expected()
    value, compiled, _ = run(tmp_path)
    assert (value, compiled) == (expected(), False)
    for name, (file, old, new) in EDITS.items():
        assert old in files[file]
        write(file, files[file].replace(old, new))
        value, _, _ = run(tmp_path)
        assert value == VALUES[name], name
        write(file, files[file])


def test_loading_is_fast():
    # Several times what it takes: the bound says that nothing is compiled, not how fast it is.
    def density(z):
        return -0.5 * (z[0] ** 2 + 1.25 * z[1] ** 2)

    first = fe.Model(log_joint=density, dim=2)
    again = fe.Model(log_joint=density, dim=2)
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
