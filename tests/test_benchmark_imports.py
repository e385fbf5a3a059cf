"""Imports of the benchmarks point one way and form no circle.

The test reads them from the source. It does not follow `importlib`, with which
`benchmarks.implementations` finds the modules of its own folder.
"""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "benchmarks"

# Layers, from the inside out. A file or folder imports only from the lines above its own. Files of
# one folder may import each other.
LAYERS = [
    {
        "inputs",
        "machine",
        "side_by_side",
        "gpu_machine",
        "gpu_workloads",
        "user_models",
        "mean_field",
    },
    {"gpu_user_models"},
    {"forms"},
    {"implementations"},
    {"checks"},
    {"workloads"},
    {
        "conftest",
        "bench_workloads",
        "bench_scaling",
        "bench_startup",
        "bench_cuda",
        "bench_user_models",
        "bench_mean_field",
    },
    {"report", "gpu_report", "registers"},
]
DEPTH = {f"benchmarks.{name}": depth for depth, layer in enumerate(LAYERS) for name in layer}
# Every import runs the package's own `__init__` first, so `__init__` imports nothing.
DEPTH["benchmarks"] = -1


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
SOURCES = {name: path.read_text("utf-8") for name, path in PATHS.items()}


def parents(name):
    """The packages around a module: Python imports them before the module."""
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts))}


def targets(name, node):
    """The full names of what an import statement of a module imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    base = [node.module] if node.module else []
    if node.level:
        parts = name.split(".")
        depth = node.level - (PATHS[name].name == "__init__.py")
        base = parts[: len(parts) - depth] + base
    # "from . import x" imports a module if a module of that name exists.
    return {".".join([*base, alias.name]) for alias in node.names} | {".".join(base)}


def imports(name, source):
    """The benchmark modules that a module imports, at its top or inside a function."""
    nodes = (n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.Import, ast.ImportFrom)))
    found = set().union(*(targets(name, node) for node in nodes))
    return (found & set(PATHS)) - {name}


def layer(name):
    """The file or folder of the package to which a module belongs."""
    return ".".join(name.split(".")[:2])


def arrows_up(sources):
    """The imports that do not point from an outer layer to an inner one."""
    return [
        f"{name} imports {target}"
        for name, source in sources.items()
        for target in sorted(imports(name, source))
        if layer(target) != layer(name) and DEPTH[layer(target)] >= DEPTH[layer(name)]
    ]


def circle(sources):
    """The modules of a circle of imports, or None."""
    graph = {}
    for name, source in sources.items():
        found = imports(name, source)
        graph[name] = found.union(parents(name), *map(parents, found)) - {name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_every_file_has_a_layer():
    assert {layer(name) for name in PATHS} == set(DEPTH)


def test_arrows_point_one_way():
    assert arrows_up(SOURCES) == []


def test_no_circles():
    assert circle(SOURCES) is None


LATE = "def late():\n    "


def with_line(name, line):
    """The sources, with one line more in one of them."""
    return SOURCES | {name: f"{SOURCES[name]}\n{line}\n"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("benchmarks", "from . import machine"),
        ("benchmarks.inputs", "from . import workloads"),
        ("benchmarks.inputs", "from .forms import forms"),
        ("benchmarks.checks", f"{LATE}from .workloads import WORKLOADS"),
        ("benchmarks.implementations", "from ..workloads import WORKLOADS"),
        ("benchmarks.implementations.with_numpy", f"{LATE}import benchmarks.checks"),
        ("benchmarks.implementations.with_numpy", "from benchmarks import checks"),
        ("benchmarks.machine", "from .inputs import Floats"),
    ],
)
def test_an_arrow_up_is_found(name, line):
    assert len(arrows_up(with_line(name, line))) == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("benchmarks.inputs", "from .forms import forms"),
        ("benchmarks.implementations", "from ..checks import Check"),
        ("benchmarks.implementations.with_jax", f"{LATE}from .with_numpyro import dist"),
        ("benchmarks.implementations", "from .with_numpy import log_weights"),
    ],
)
def test_a_circle_is_found(name, line):
    assert circle(with_line(name, line)) is not None
