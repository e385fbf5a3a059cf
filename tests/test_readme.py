"""The README and the benchmarks' README: examples run, commands and links exist, numbers agree."""

import doctest
import importlib.util
import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import report
from fastelbo import cli

ROOT = Path(__file__).parent.parent
README, BENCHMARKS = "README.md", "benchmarks/README.md"
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in (README, BENCHMARKS)}
INLINE = [
    code
    for text in PAGES.values()
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^ *```.*?```$", "", text))
]
LINKS = [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\((.+?)\)", text)]


def blocks(language):
    """Blocks of this language; those of the README come first."""
    text = "\n".join(PAGES.values())
    found = re.findall(rf"(?ms)^( *)```{language}\n(.*?)^ *```$", text)
    return [textwrap.dedent(block) for _, block in found]


def commands():
    """Every command, from the blocks and from the text."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    shown = [part.strip() for line in [*lines, *INLINE] for part in line.split("&&")]
    return [
        shlex.split(part, comments=True)
        for part in shown
        if re.match(r"(\.venv/bin/)?[a-z]+ ", part)
    ]


def fastelbo_commands():
    return sorted({tuple(command[1:]) for command in commands() if command[0].endswith("fastelbo")})


def python_commands():
    return [command[1:] for command in commands() if command[0].endswith("python")]


def speeds(page):
    """{workload: {implementation: ratio}} of the page's first table of ratios, as written."""
    table = PAGES[page][PAGES[page].index("| time over fastelbo's") :].split("\n\n")[0]
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    )
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def anchors(text):
    """The names that a link can have after "#": the headings of a page, as GitHub writes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def demo_output():
    """The output of the command, which runs once."""
    capture = pytest.MonkeyPatch()
    printed = []
    capture.setattr("builtins.print", lambda *args, **_: printed.append(" ".join(map(str, args))))
    try:
        assert cli.main(["demo"]) == 0
    finally:
        capture.undo()
    return "\n".join(printed)


def test_the_readme_is_short():
    assert len(PAGES[README].splitlines()) < 250


def test_python_examples_print_what_they_show():
    source = "\n".join(blocks("python"))
    example = doctest.DocTestParser().get_doctest(source, {}, README, README, 0)
    assert len(example.examples) > 10
    result = doctest.DocTestRunner().run(example)
    assert result.failed == 0


def test_the_quick_start_begins_with_a_model_of_ones_own():
    section = PAGES[README].partition("## Quick start\n")[2]
    first = re.search(r"(?s)```python\n(.*?)```", section)[1]
    assert any("fe.Model(" in line for line in first.splitlines()[:8])


def test_the_two_first_commands_are_one_line_each():
    first, second = (block.strip() for block in blocks("console")[:2])
    assert "\n" not in first + second
    assert first.endswith(".venv/bin/fastelbo demo")
    assert second.endswith(".venv/bin/python -m pytest -n auto")


def test_the_ci_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a checkout")
    assert blocks("console")[1].strip() in script.read_text().splitlines()


def test_every_fastelbo_command_shown_runs(tmp_path, monkeypatch):
    shown = fastelbo_commands()
    assert ("demo",) in shown
    assert ("info",) in shown
    monkeypatch.chdir(tmp_path)
    np.save("weights.npy", 0.1 * np.random.default_rng(0).random((1000, 1000)))
    monkeypatch.setattr("fastelbo.demo.digits_report", lambda: "")
    for arguments in shown:
        assert cli.main(arguments) == 0, arguments


def test_modules_and_scripts_shown_exist():
    shown = python_commands()
    modules = {command[1] for command in shown if command[0] == "-m"}
    scripts = {command[0] for command in shown if command[0] != "-m"}
    assert {"benchmarks.report", "benchmarks.gpu_report"} <= modules
    assert all(importlib.util.find_spec(name) for name in modules)
    assert scripts == {"plots/throughput.py", "plots/fit.py"}
    for name in scripts | {code for code in INLINE if re.fullmatch(r"plots/\w+\.py", code)}:
        assert (ROOT / name).is_file(), name


def test_the_tables_are_written_where_the_command_says():
    (target,) = (command[-1] for command in python_commands() if "--write" in command)
    assert target == BENCHMARKS
    assert report.replace_block(PAGES[target], "tables").count("tables\n") == 1


def test_pytest_options_shown_exist(pytestconfig):
    marks = {
        command[command.index("-m", 2) + 1]
        for command in commands()
        if "pytest" in command and "-m" in command[2:]
    }
    assert marks == {"slow or compiler or statistical or simulator", "cluster or soak", "gpu"}
    known = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert known >= {mark for each in marks for mark in each.split(" or ")}


def test_extras_shown_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shown = {extra for text in PAGES.values() for extra in re.findall(r"\.\[(\w+)\]", text)}
    assert shown == {"export", "plot", "test", "bench", "dask", "cuda13", "ptx"}
    assert shown <= set(project["optional-dependencies"])


def test_numbers_in_the_text_are_printed_by_the_demo(demo_output):
    shares = set(re.findall(r"\d+\.\d %", PAGES[README]))
    assert shares == {"87.6 %", "97.0 %"}
    assert all(share in demo_output for share in shares)


def test_speeds_in_the_readme_are_those_of_the_benchmarks():
    shown, measured = speeds(README), speeds(BENCHMARKS)
    assert len(shown) > 5
    for workload, ratios in shown.items():
        assert ratios.items() <= measured[workload].items(), workload


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_somewhere(page, link):
    name, _, anchor = link.partition("#")
    target = (ROOT / page).parent / name
    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def test_folders_of_the_layout_exist():
    layout = PAGES[README].split("## Layout")[1].split("##")[0]
    names = re.findall(r"`([\w./]+/)`", layout)
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).is_dir()] == []


def test_files_that_a_contributor_is_sent_to_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([\w./]+(?:\.py|/))`", text))
    assert len(names) > 40
    places = (ROOT, ROOT / "fastelbo", ROOT / "fastelbo" / "kernels")
    assert [n for n in sorted(names) if not any((place / n).exists() for place in places)] == []
