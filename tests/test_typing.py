"""Types as users see them: every example shown checks strictly under mypy and pyright."""

import ast
import doctest
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import get_args, get_origin

import numpy as np
import pytest

import fastelbo as fe

PACKAGE = Path(fe.__file__).parent
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


NAMES = """
import fastelbo as fe
import numpy as np
from numpy.typing import NDArray
from typing import Any, assert_type

Floats = NDArray[np.float64]
x, loadings = [[1.0], [2.0]], [[1.0]]
model = fe.LinearGaussian(x, loadings, noise_cov=1.0)
p = fe.Gaussian([0.0], scale=1.0)
mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[-1.0], [1.0]], scale=1.0))
mixed = fe.LinearGaussian(x, loadings, noise_cov=1.0, prior=mixture)
rows: Floats = 0.1 * np.arange(80.0).reshape(2, 40) % 1.0
single = rows.astype(np.float32)
unknown: NDArray[Any] = np.asarray(rows)
"""

# What type checkers are to say of an expression.
STATED = {
    "model": "fe.LinearGaussian[fe.Gaussian]",
    "model.exact_posterior()": "fe.Gaussian",
    "model.exact_posterior().mean": "Floats",
    "fe.LinearGaussian(x, loadings, noise_cov=1.0, prior=p).exact_posterior().mean": "Floats",
    "mixed.exact_posterior()": "fe.Mixture",
    "mixed.exact_posterior().weights": "Floats",
    "fe.Mixture(logits=[0.0, 1.0], components=mixture.components).mean": "Floats",
    "mixture.cov": "Floats",
    "mixture.sample(2)": "Floats",
    "mixture.sample(2, return_component=True)": "tuple[Floats, NDArray[np.int64]]",
    "fe.Gaussian([0.0], precision=[[1.0]]).precision": "Floats",
    "fe.StudentT(3.0, [0.0], cov=[[1.0]]).cov": "Floats",
    "fe.summarize(rows) - fe.summarize(0.5 * rows)": "fe.Difference",
    "fe.loo(rows.T) - fe.loo(0.5 * rows.T)": "fe.Difference",
    "fe.loo_compare([fe.loo(rows.T), fe.loo(0.5 * rows.T)])": "fe.LooComparison",
    "fe.bridge_log_ratios(rows, rows[0], n_eff=80)": "fe.BridgeEstimate",
    "fe.bayes_factor(fe.summarize(rows), fe.summarize(0.5 * rows))": "fe.Difference",
    "(fe.summarize(rows) - fe.summarize(0.5 * rows)).confidence_interval().low": "Floats",
    "p.log_prob([0.0])": "Floats",
    "p.log_prob(rows[0, :1])": "Floats",
    "fe.estimate(mixed, mixture, 50, backend='numpy')": "fe.Estimate",
    "fe.log_weights(model, p, 2, backend='numpy', first_index=5)": "Floats",
    "fe.ess([0.0, 0.1])": "np.float64",
    "fe.ess([[0.0, 0.1]])": "Floats",
    "fe.ess(rows)": "Floats",
    "fe.ess(unknown, axis=0)": "Floats",
    "fe.pareto_k([0.1 * k for k in range(40)])": "np.float64",
    "fe.pareto_k(rows)": "Floats",
    "fe.logsumexp([0.0, 0.1])": "np.float64",
    "fe.logsumexp(rows)": "np.float64",
    "fe.logsumexp(single)": "np.float32",
    "fe.logsumexp(single, b=single)": "np.float32",
    "fe.logsumexp(single, axis=0)": "NDArray[np.float32]",
    "fe.logsumexp(rows, axis=0)": "Floats",
    "fe.logsumexp(rows, axis=(0, 1), keepdims=True)": "Floats",
    "fe.logsumexp([0.0, 1.0], b=[1, -1], return_sign=True)": "tuple[np.float64, np.float64]",
    "fe.logsumexp(rows, axis=1, return_sign=True)": "tuple[Floats, Floats]",
    "fe.logmeanexp([0.0, 0.1])": "np.float64",
    "fe.logmeanexp(rows, axis=1)": "Floats",
    "fe.logmeanexp(rows, keepdims=True)": "Floats",
    "fe.iw_elbo(rows, np.arange(1, 5))": "fe.Bound",
    "fe.summarize(piece for piece in [rows, rows])": "fe.Estimate",
    "fe.datasets.load_digits().images": "Floats",
    "fe.errors.InvalidInputError()": "fe.errors.InvalidInputError",
    "fe.__version__": "str",
}
# Where they are to complain.
REFUSED = [
    "fe.estimat",
    "fe.LinearGaussian(x, loadings)",
    "fe.log_weights(model, p, 2, threads=3)",
    "mixed.exact_posterior().scale",
    "fe.Mixture([0.5, 0.5])",
    "fe.Mixture(components=p)",
    "fe.summarize(rows) - fe.loo(rows)",
]


def script(examples):
    """The examples as a user would write them in a file: what is only looked at is printed."""
    lines = []
    for example in examples:
        [statement] = ast.parse(example.source).body
        looked_at = isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Call)
        source = example.source.rstrip("\n")
        lines.append(f"print({source})" if looked_at else source)
    return "\n".join([*lines, ""])


def shown_scripts():
    """A script for the README, and for each docstring of the modules that public names are from."""
    parser, finder = doctest.DocTestParser(), doctest.DocTestFinder(exclude_empty=True)
    blocks = re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", README)
    readme = "\n".join(map(textwrap.dedent, blocks))
    # In xarray, the types of some methods are known in part.
    untyped = "# pyright: reportUnknownMemberType=false\n"
    scripts = {"readme": untyped + script(parser.get_examples(readme))}
    public = [getattr(fe, name) for name in fe.__all__]
    modules = {thing if inspect.ismodule(thing) else inspect.getmodule(thing) for thing in public}
    for module in sorted(modules, key=lambda module: module.__name__):
        for test in finder.find(module):
            if test.examples:
                scripts[test.name.replace(".", "_")] = script(test.examples)
    return scripts


def stated_script():
    stated = [f"assert_type({expression}, {kind})" for expression, kind in STATED.items()]
    refused = [f"print({expression})  # type: ignore" for expression in REFUSED]
    return "\n".join([NAMES, *stated, *refused, ""])


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder of a user's scripts."""
    folder = tmp_path_factory.mktemp("user")
    for name, text in shown_scripts().items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "stated.py").write_text(stated_script(), encoding="utf-8")
    return folder


def fits(value, kind):
    """Whether a value is of the type that is written so."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return all(map(fits, value, arguments))
    if origin is np.ndarray:
        [scalar] = get_args(arguments[1])
        return isinstance(value, np.ndarray) and value.dtype == scalar
    return isinstance(value, origin or kind)


def needs(*distributions):
    """Skip the test where one of them is not installed."""
    for name in distributions:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed")


def check(folder, *command):
    """Run a type checker over the folder, which finds the package as an installed one."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout


def test_every_example_is_checked(scripts):
    names = {path.stem for path in scripts.iterdir()}
    assert {"readme", "fastelbo_engine_estimation_estimate"} <= names
    assert len(names) > len(fe.__all__)


@pytest.mark.filterwarnings("ignore::fastelbo.errors.FastElboWarning")
@pytest.mark.parametrize("expression", STATED)
def test_what_types_say_is_so(expression):
    names = {}
    exec(NAMES, names)
    assert fits(eval(expression, names), eval(STATED[expression], names))


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_mypy(scripts):
    needs("mypy")
    check(scripts, "mypy", "--strict", ".")


def test_pyright(scripts):
    needs("pyright", "pandas-stubs", "matplotlib", "xarray")
    rules = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": True}
    (scripts / "pyrightconfig.json").write_text(json.dumps(rules))
    check(scripts, "pyright", "--pythonpath", sys.executable)
