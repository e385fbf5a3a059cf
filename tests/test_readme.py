"""The README: its examples run, its commands exist, its numbers are printed by one of them."""

import doctest
import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fastelbo import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
INLINE = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^ *```.*?```$", "", README))


def blocks(language):
    found = re.findall(rf"(?ms)^( *)```{language}\n(.*?)^ *```$", README)
    return [textwrap.dedent(text) for _, text in found]


def commands():
    """Every single command, from the blocks and from the text."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    shown = [part.strip() for line in [*lines, *INLINE] for part in line.split("&&")]
    return [shlex.split(part) for part in shown if re.match(r"(\.venv/bin/)?[a-z]+ ", part)]


def fastelbo_commands():
    return sorted({tuple(command[1:]) for command in commands() if command[0].endswith("fastelbo")})


@pytest.fixture(scope="module")
def demo_output():
    """What the command prints, run once."""
    capture = pytest.MonkeyPatch()
    printed = []
    capture.setattr("builtins.print", lambda *args, **_: printed.append(" ".join(map(str, args))))
    try:
        assert cli.main(["demo"]) == 0
    finally:
        capture.undo()
    return "\n".join(printed)


def test_python_examples_print_what_they_show():
    source = "\n".join(blocks("python"))
    example = doctest.DocTestParser().get_doctest(source, {}, "README.md", "README.md", 0)
    assert len(example.examples) > 10
    result = doctest.DocTestRunner().run(example)
    assert result.failed == 0


def test_the_two_first_commands_are_one_line_each():
    first, second = (block.strip() for block in blocks("console")[:2])
    assert "\n" not in first + second
    assert first.endswith(".venv/bin/fastelbo demo")
    assert second.endswith(".venv/bin/python -m pytest")


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


def test_pytest_options_shown_exist(pytestconfig):
    marks = {
        command[command.index("-m", 2) + 1]
        for command in commands()
        if "pytest" in command and "-m" in command[2:]
    }
    assert marks == {"slow", "gpu"}
    assert any(line.startswith("slow:") for line in pytestconfig.getini("markers"))


def test_extras_shown_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shown = set(re.findall(r"\.\[(\w+)\]", README))
    assert shown == {"export", "plot", "test", "bench", "cuda13", "ptx"}
    assert shown <= set(project["optional-dependencies"])


def test_tables_shown_are_printed_by_the_demo(demo_output):
    shown = blocks("text")
    assert len(shown) == 2
    for table in shown:
        assert table.strip("\n") in demo_output


def test_numbers_in_the_text_are_printed_by_the_demo(demo_output):
    shares = set(re.findall(r"\d+\.\d %", README))
    assert {"87.6 %", "94.4 %"} <= shares
    assert all(share in demo_output for share in shares)
    assert "219 of 1797 data points" in " ".join(demo_output.split())


def test_files_shown_exist():
    layout = README.split("## Layout")[1].split("##")[0]
    for name in re.findall(r"`([\w./]+(?:\.py|/))`", layout):
        assert (ROOT / name).exists() or (ROOT / "fastelbo" / name).exists(), name
    for name in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / name).exists(), name
