"""Rules of the layout, read from the source: imports, compiler options, docstrings, import time."""

import ast
import doctest
import graphlib
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastelbo as fe

ROOT = Path(fe.__file__).parent


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}
each_module = pytest.mark.parametrize("name", SOURCES)


def targets(name, node):
    """Full names of what an import statement of a module imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = name.split(".")
        depth = node.level - (SOURCES[name].name == "__init__.py")
        package = parts[: len(parts) - depth]
        base = ".".join([*package, *filter(None, [node.module])])
    # "from . import x" imports a module if one has that name.
    return [full if (full := f"{base}.{a.name}") in SOURCES else base for a in node.names]


def type_only(node):
    """Whether the statement imports for type checkers alone."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(name, *, eager=False, types=False):
    """The imports of a module at run time; with ``eager``, only those when it is imported.

    With ``types``, those for type checkers too.
    """
    found, queue = set(), [TREES[name]]
    while queue:
        node = queue.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(targets(name, node))
        lazy = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if (types or not type_only(node)) and not (eager and lazy):
            queue.extend(ast.iter_child_nodes(node))
    return found


GRAPH = {name: imports(name) & set(SOURCES) for name in SOURCES}


def roots(names):
    return {name.partition(".")[0] for name in names}


# --- who imports what ---------------------------------------------------------------------------


@each_module
def test_numba_only_under_kernels(name):
    if not name.startswith("fastelbo.kernels"):
        assert not roots(imports(name)) & {"numba", "llvmlite"}


@each_module
def test_reference_is_independent(name):
    if name.startswith("fastelbo.reference"):
        outside = {i for i in imports(name) if not i.startswith("fastelbo.reference")}
        assert roots(outside) <= {"numpy", "scipy"} | sys.stdlib_module_names


@each_module
def test_nothing_imports_tests_or_scripts(name):
    assert not roots(imports(name)) & {"tests", "benchmarks", "plots", "cases", "helpers", "pytest"}


@each_module
def test_only_declared_dependencies(name):
    # Optional packages are imported where they are used.
    eager = {"fastelbo", "numpy", "scipy", "numba", "llvmlite"}
    assert roots(imports(name, eager=True)) <= eager | sys.stdlib_module_names
    optional = {"tqdm", "matplotlib", "pandas", "xarray", "dask", "distributed"}
    assert roots(imports(name)) <= eager | optional | sys.stdlib_module_names


@pytest.mark.parametrize("types", [False, True])
def test_no_circles(types):
    graph = {name: imports(name, types=types) & set(SOURCES) for name in SOURCES}
    circle = None
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
    assert circle is None


# Rooms (folders and files), from the inside out. A room imports itself and the rooms on the lines
# before its own. Rooms on one line do not import each other.
ROOMS = [
    ["version", "errors", "caching", "inner_warnings"],
    ["validation", "optional", "frozen", "special", "cores"],
    ["random", "progress"],
    ["kernels", "reference"],
    ["arrays", "tables", "versions", "datasets"],
    ["models", "weights", "math"],
    ["plotting"],
    ["results"],
    ["engine"],
    ["demo", "warmup"],
    ["__init__"],
    ["cli"],
    ["__main__"],
]
# The files of the engine, and its cluster, are one room: the path of an estimate.
ENGINE_ROOMS = [["__init__"], ["gradients", "adaptation"], ["fits"]]
KERNEL_ROOMS = [["jit"], ["math"], ["vectors"], ["draws"], ["state"], ["cpu", "cuda"], ["info"]]


def arrows_up(package, rooms, graph):
    """Imports of a package that do not point from a room to an earlier one."""
    level = {room: depth for depth, line in enumerate(rooms) for room in line}

    def room_of(name):
        room = name.removeprefix(package).lstrip(".").partition(".")[0]
        return room if room in level else "__init__"

    found = []
    for name, targets in graph.items():
        for target in targets:
            if not all(f"{each}.".startswith(f"{package}.") for each in (name, target)):
                continue
            source, room = room_of(name), room_of(target)
            if source != room and not level[room] < level[source]:
                found.append(f"{name} imports {target}")
    return found


def test_every_file_has_a_room():
    rooms = {name.split(".")[1] for name in SOURCES if "." in name}
    assert rooms | {"__init__"} == {room for line in ROOMS for room in line}


@pytest.mark.parametrize(
    ("package", "rooms"),
    [("fastelbo", ROOMS), ("fastelbo.engine", ENGINE_ROOMS), ("fastelbo.kernels", KERNEL_ROOMS)],
)
def test_no_arrow_points_up(package, rooms):
    assert arrows_up(package, rooms, GRAPH) == []


def test_an_arrow_that_points_up_inside_the_engine_is_found():
    name, target = "fastelbo.engine.estimation", "fastelbo.engine.fits.fitting"
    graph = GRAPH | {name: GRAPH[name] | {target}}
    assert arrows_up("fastelbo.engine", ENGINE_ROOMS, graph) == [f"{name} imports {target}"]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("fastelbo.arrays.inputs", "fastelbo.engine.states"),
        ("fastelbo.weights.bounds", "fastelbo.models.lowering"),
        ("fastelbo.plotting", "fastelbo"),
    ],
)
def test_an_arrow_that_points_up_is_found(name, target):
    graph = GRAPH | {name: GRAPH[name] | {target}}
    assert arrows_up("fastelbo", ROOMS, graph) == [f"{name} imports {target}"]


def test_a_circle_is_found():
    graph = GRAPH | {"fastelbo.errors": {"fastelbo.validation"}}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


def test_only_the_engine_imports_the_reference():
    for name, targets in GRAPH.items():
        if not name.startswith(("fastelbo.engine", "fastelbo.reference")):
            assert not any(target.startswith("fastelbo.reference") for target in targets), name


# --- compiler options ---------------------------------------------------------------------------

OPTIONS = {
    "fastmath", "forceinline", "error_model", "inline", "nogil", "parallel", "cache", "boundscheck",
}  # fmt: skip
DECORATORS = {"jit", "njit", "vectorize", "guvectorize", "cfunc", "stencil", "register_jitable"}


@each_module
def test_only_compile_names_options(name):
    # A device's kernels are compiled in device.py, the only file that imports numba.cuda. Whether
    # numba compiles fragments is tried in internals.py.
    compilers = ("jit.compile", "jit.internals", "cuda.device")
    if name.removeprefix("fastelbo.kernels.") in compilers:
        return
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            given = {keyword.arg for keyword in node.keywords}
            assert not given & OPTIONS, f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba"):
            assert not {alias.name for alias in node.names} & DECORATORS
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).startswith("numba"):
            assert node.attr not in DECORATORS


@each_module
def test_no_call_changes_the_filters_of_warnings(name):
    # They are of the whole process. What has it for itself, or imports, may change them.
    if name.removeprefix("fastelbo.") not in ("cli", "demo", "kernels.cuda.device"):
        assert "catch_warnings(" not in SOURCES[name].read_text("utf-8")


@each_module
def test_cached_properties_hold_no_lock(name):
    if name != "fastelbo.caching":
        text = SOURCES[name].read_text("utf-8")
        assert "functools.cached_property" not in text
        assert "functools import cached_property" not in text


# --- docstrings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in SOURCES if not n.endswith("__main__")])
def test_doctests(name):
    # By import: a function of the same name may hide the submodule.
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0


PUBLIC = [name for name in fe.__all__ if not inspect.ismodule(getattr(fe, name))]


@pytest.mark.parametrize("name", fe.__all__)
def test_public_names_are_documented(name):
    assert (inspect.getdoc(getattr(fe, name)) or "").strip()


def public_docstrings():
    """Each public docstring by its name: functions, classes and their public methods."""
    for name in PUBLIC:
        thing = getattr(fe, name)
        yield name, thing
        if inspect.isclass(thing):
            own = [n for n in dir(thing) if not n.startswith("_") and hasattr(thing, n)]
            yield from ((f"{name}.{n}", inspect.getattr_static(thing, n)) for n in own)


DOCSTRINGS = {name: inspect.getdoc(thing) or "" for name, thing in public_docstrings()}


def test_no_public_docstring_needs_another_document():
    # A standard, or a section of some specification, that a reader would have to look up.
    bare = re.compile(r"\b(?:SPEC|PEP|NEP|RFC|ISO|BDA3?) ?-?\d*\b")
    assert len(DOCSTRINGS) > 2 * len(PUBLIC)
    assert {name: found for name, doc in DOCSTRINGS.items() if (found := bare.findall(doc))} == {}


@pytest.mark.parametrize("option", ["backend", "method"])
def test_an_automatic_choice_is_explained_where_it_can_be_made(option):
    told = []
    for name in PUBLIC:
        thing = getattr(fe, name)
        parameters = {} if inspect.isclass(thing) else inspect.signature(thing).parameters
        if option in parameters and parameters[option].default == "auto":
            told.append(name)
            [sentence, *_] = re.findall(r'"auto"`* (?:is|uses|chooses)[^.]*\.', DOCSTRINGS[name])
            assert len(sentence) > 40
    assert told


def test_every_parameter_of_a_function_is_documented():
    for name in PUBLIC:
        thing = getattr(fe, name)
        if inspect.isfunction(thing):
            section = DOCSTRINGS[name].partition("Parameters\n")[2].partition("\nReturns")[0]
            heads = re.findall(r"(?m)^\*{0,2}(\w[\w, *]*?)(?: : .*)?$", section)
            documented = {word for head in heads for word in head.split(", ")}
            assert set(inspect.signature(thing).parameters) <= documented, name


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_examples(name):
    doc = inspect.getdoc(getattr(fe, name))
    assert "Examples\n--------\n>>> " in doc


# --- importing ----------------------------------------------------------------------------------

IMPORT = """
import json, sys
import numba
from numba.core import event

with event.install_recorder("numba:compile") as compiled:
    import fastelbo
optional = "matplotlib", "tqdm", "pandas", "xarray", "dask", "distributed", "cloudpickle"
slow = "scipy.special", "scipy.linalg", "scipy.optimize", "scipy.stats", "numba.np.arrayobj"
loaded = [name for name in optional + slow if name in sys.modules]
print(json.dumps([len(compiled.buffer), loaded]))
"""


def test_importing_is_light():
    """Nothing is compiled, and nothing slow imported; benchmarks/bench_startup.py times it."""
    printed = subprocess.check_output([sys.executable, "-c", IMPORT], text=True)
    assert json.loads(printed) == [0, []]
