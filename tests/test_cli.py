"""The command line: what it prints, what it refuses, and how."""

import subprocess
import sys

import pytest

import fastelbo as fe
from fastelbo import cli, demo

PNG = b"\x89PNG"


@pytest.fixture
def short_demo(monkeypatch):
    """A demonstration without its tables, for tests of what is around them."""
    monkeypatch.setattr(demo, "digits_report", lambda: "digits")
    monkeypatch.setattr(demo, "galaxies_report", lambda: "galaxies")


def refused(arguments, capsys):
    """The line on stderr with which a command ends."""
    assert cli.main(arguments) == 2
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith("fastelbo: ")
    assert len(error.splitlines()) == 1
    return error


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fastelbo {fe.__version__}\n"


def test_python_m_fastelbo():
    command = [sys.executable, "-m", "fastelbo", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"fastelbo {fe.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["demo", "--no-such-option"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: fastelbo" in capsys.readouterr().err


def test_info(capsys):
    assert cli.main(["info"]) == 0
    assert "threading layer" in capsys.readouterr().out


def test_demo_prints_both_reports(capsys):
    assert cli.main(["demo"]) == 0
    printed, error = capsys.readouterr()
    assert "Digits." in printed
    assert "Galaxies." in printed
    assert error == ""


def test_demo_writes_an_image(short_demo, tmp_path, capsys):
    image = tmp_path / "convergence.png"
    assert cli.main(["demo", "--plot", str(image)]) == 0
    assert image.read_bytes()[:4] == PNG
    assert capsys.readouterr().out.endswith(f"Wrote {image}.\n")


def test_demo_overwrites_an_image_only_when_forced(short_demo, tmp_path, capsys):
    image = tmp_path / "convergence.png"
    image.write_text("precious")
    assert "--force" in refused(["demo", "--plot", str(image)], capsys)
    assert image.read_text() == "precious"
    assert cli.main(["demo", "--plot", str(image), "--force"]) == 0
    assert image.read_bytes()[:4] == PNG


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convergence.doc", "must end in one of"),
        ("convergence", "must end in one of"),
        ("no-such-folder/convergence.png", "is not a folder"),
        ("folder.png", "is a folder"),
    ],
)
def test_demo_refuses_an_image_that_cannot_be_written(name, message, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    assert message in refused(["demo", "--plot", str(tmp_path / name), "--force"], capsys)


def test_demo_without_matplotlib_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = refused(["demo", "--plot", str(tmp_path / "convergence.png")], capsys)
    assert 'pip install "fastelbo[plot]"' in error


def test_errors_of_the_library_are_one_line(monkeypatch, capsys):
    def fail():
        raise fe.errors.InvalidInputError("x must be\n  finite")

    monkeypatch.setattr(demo, "digits_report", fail)
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == "fastelbo: x must be finite\n"
