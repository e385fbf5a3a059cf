"""The command line: what it prints, what it refuses, and how."""

import io
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from helpers import quiet

import fastelbo as fe
from fastelbo import cli, demo

PNG = b"\x89PNG"


@pytest.fixture
def short_demo(monkeypatch):
    """A demonstration without its tables, for tests of the output around them."""
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


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["no-such-command"], ["demo", "--no-such-option"], ["demo", "--cluster", "0"],
        ["demo", "--cluster", "two"],
    ],
)  # fmt: skip
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


def test_demo_on_a_cluster_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert cli.main(["demo", "--cluster", "2"]) == 2
    assert 'distributed; install it with: pip install "fastelbo[dask]"' in capsys.readouterr().err


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


# --- estimates of files ---------------------------------------------------------------------------


def log_weights(shape=(3, 2000)):
    return 0.2 * np.random.default_rng(0).standard_exponential(shape)


def write_header(path, shape):
    """A file whose header declares an array of this shape."""
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)


@pytest.fixture
def weights(tmp_path):
    """A file of log weights of three data points."""
    path = tmp_path / "weights.npy"
    np.save(path, log_weights())
    return path


def test_estimate_prints_summary_k_hat_and_total(weights, capsys):
    assert cli.main(["estimate", str(weights)]) == 0
    printed, error = capsys.readouterr()
    est = fe.summarize(log_weights())
    total = est.total()
    assert "3 data points, K = 2000 draws" in printed
    assert est.summary() in printed
    assert est.pareto_k_table() in printed
    assert f"{total.log_evidence:.4f} +- {total.log_evidence_se:.4f}" in printed
    assert "nats for its bias" in printed
    assert error == ""


def test_estimate_of_one_data_point_has_no_total(tmp_path, capsys):
    np.save(tmp_path / "one.npy", log_weights(1000))
    assert cli.main(["estimate", str(tmp_path / "one.npy")]) == 0
    printed = capsys.readouterr().out
    assert "1 data point, K = 1000" in printed
    assert "sum over" not in printed


def test_estimate_of_a_heavy_tail_prints_its_interval(tmp_path, capsys):
    rows = np.random.default_rng(4).standard_exponential((2, 2000)) * [[0.2], [0.9]]
    np.save(tmp_path / "heavy.npy", rows)
    assert cli.main(["estimate", str(tmp_path / "heavy.npy")]) == 0
    printed = capsys.readouterr().out
    with quiet():
        est = fe.summarize(rows)
    np.testing.assert_array_equal(np.isnan(est.log_evidence_se), [False, True])
    low, high = est.confidence_interval("log_evidence")
    assert high[1] == np.inf
    assert f"> {low[1]:.1f}" in printed
    assert "or > the lower end of a 95 % interval" in printed
    low, high = est.total().confidence_interval()
    assert high == np.inf
    assert f"> {low:.1f}" in printed.split("sum over 2 data points")[1]
    assert "nan" not in printed
    # A tail for which the interval has both ends.
    rows = np.random.default_rng(1).standard_exponential((2, 50_000)) * [[0.2], [0.74]]
    np.save(tmp_path / "heavy.npy", rows)
    assert cli.main(["estimate", str(tmp_path / "heavy.npy")]) == 0
    printed = capsys.readouterr().out
    with quiet():
        est = fe.summarize(rows)
    low, high = est.confidence_interval("log_evidence")
    assert np.isnan(est.log_evidence_se[1])
    assert f"{est.log_evidence[1]:.2f} in [{low[1]:.2f}, {high[1]:.2f}]" in printed
    assert "or in [95 % interval]" in printed
    with quiet():
        low, high = est.total().confidence_interval()
    assert printed.split("sum over 2 data points")[1].splitlines()[1].endswith(
        f"[{low:.2f}, {high:.2f}]"
    )  # fmt: skip


def test_shared_draws_have_no_total(weights, capsys):
    assert cli.main(["estimate", str(weights), "--shared"]) == 0
    assert "No total: the total adds data points with draws of their" in capsys.readouterr().out
    assert cli.main(["estimate", str(weights), "--shared", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] is None


def test_estimate_along_an_axis_with_sizes(tmp_path, capsys):
    path = tmp_path / "columns.npy"
    np.save(path, log_weights().T)
    assert cli.main(["estimate", str(path), "--axis", "0", "--k", "2,50"]) == 0
    assert fe.summarize(log_weights(), iw_sizes=(2, 50)).summary() in capsys.readouterr().out


def test_estimate_as_json(weights, capsys):
    assert cli.main(["estimate", str(weights), "--json", "--k", "5"]) == 0
    printed = json.loads(capsys.readouterr().out)
    est = fe.summarize(log_weights(), iw_sizes=[5])
    assert printed["batch_shape"] == [3]
    assert printed["iw_sizes"] == [5]
    assert printed["n_samples"] == 2000
    assert printed["version"] == fe.__version__
    assert printed["stream_version"] == est.stream_version
    assert printed["log_evidence"] == est.log_evidence.tolist()
    assert printed["iw_elbo_5_se"] == est.iw_elbo(5).se.tolist()
    low, high = est.confidence_interval("log_evidence")
    assert printed["log_evidence_interval"] == [low.tolist(), high.tolist()]
    # Log weights alone do not determine the KL divergence.
    assert printed["kl"] == [None] * 3
    assert printed["total"]["log_evidence"] == est.total().log_evidence
    assert printed["total"]["log_evidence_interval"] == list(est.total().confidence_interval())
    assert not any(name.startswith("_") for name in printed["total"])


def test_json_has_null_where_numbers_are_not_finite(tmp_path, capsys):
    zero = np.full((2, 100), -np.inf)
    zero[1] = np.linspace(0.0, 0.1, 100)
    np.save(tmp_path / "zero.npy", zero)
    assert cli.main(["estimate", str(tmp_path / "zero.npy"), "--json"]) == 0
    printed, error = capsys.readouterr()
    values = json.loads(printed, parse_constant=pytest.fail)
    assert values["log_evidence"][0] is None
    assert values["total"]["log_evidence"] is None
    assert values["total"]["log_evidence_interval"] == [None, None]
    assert all(line.startswith("fastelbo: ") for line in error.splitlines())
    assert "AllWeightsZeroWarning: every weight is 0" in error
    assert ".py" not in error


def test_total_of_a_point_without_a_positive_weight(tmp_path, capsys):
    zero = np.full((2, 100), -np.inf)
    zero[1] = np.linspace(0.0, 0.1, 100)
    np.save(tmp_path / "zero.npy", zero)
    assert cli.main(["estimate", str(tmp_path / "zero.npy")]) == 0
    printed = capsys.readouterr().out
    assert printed.split("sum over 2 data points")[1].split() == [
        "log_evidence", "elbo", "95", "%", "interval", "of", "log_evidence", "-inf", "-inf", "-"
    ]  # fmt: skip


def test_intervals_are_printed(tmp_path, capsys):
    rows = np.random.default_rng(4).standard_exponential((12, 2000))
    rows *= np.linspace(0.2, 0.9, 12)[:, None]
    np.save(tmp_path / "rows.npy", rows)
    assert cli.main(["estimate", str(tmp_path / "rows.npy")]) == 0
    printed = capsys.readouterr().out
    with quiet():
        est = fe.summarize(rows)
        total = est.total().confidence_interval()
    low, high = est.confidence_interval("log_evidence")
    table = printed.split("95 % interval of log_evidence\n")[1].splitlines()[:10]
    for i, line in enumerate(table):
        ends = line.split(maxsplit=1)
        assert ends[0] == str(i)
        got = [float(end) for end in ends[1].strip("[>]").split(",")]
        want = [low[i], high[i]] if np.isfinite(high[i]) else [low[i]]
        np.testing.assert_allclose(got, want, atol=0.06)
        assert ends[1].startswith("[" if np.isfinite(high[i]) else "> ")
    assert total[1] == np.inf
    assert printed.split("sum over")[1].splitlines()[1].endswith(f"> {total[0]:.1f}")


@pytest.mark.parametrize("content", ["lw\n0.1\n0.2\n0.3\n", "0.1 0.2 0.3\n"])
def test_standard_input(content, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert cli.main(["estimate", "-", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    with quiet():
        assert printed["log_evidence"] == fe.summarize([0.1, 0.2, 0.3]).log_evidence
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\0")))
    assert "fastelbo: standard input cannot be read" in refused(["estimate", "-"], capsys)


def test_columns_of_text(tmp_path, capsys):
    path = tmp_path / "table.csv"
    np.savetxt(path, log_weights().T, delimiter=",", header="a,b,c", comments="")
    with quiet():
        want = fe.summarize(log_weights())
    assert cli.main(["estimate", str(path), "--axis", "0"]) == 0
    assert want.summary() in capsys.readouterr().out
    for column in ("b", "2"):
        assert cli.main(["estimate", str(path), "--column", column, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["log_evidence"] == want.log_evidence[1]
    assert ": --column must be one of the columns in" in refused(["estimate", str(path)], capsys)


def test_too_few_draws_have_no_classes_of_k_hat(tmp_path, capsys):
    np.save(tmp_path / "few.npy", log_weights((5, 3)))
    assert cli.main(["estimate", str(tmp_path / "few.npy")]) == 0
    printed = capsys.readouterr().out
    assert "No Pareto k-hat: there are too few draws" in printed
    assert "(-inf" not in printed


def test_the_axis_is_left_to_the_library_where_no_flag_gives_it(weights, monkeypatch, capsys):
    def warn_without_axis(array, **options):
        if "axis" not in options:
            text = "log_weights has only 3 draws; say axis=0, else axis=1"
            warnings.warn(text, fe.errors.FastElboWarning, stacklevel=2)
        with quiet():
            return fe.summarize(array, **options)

    monkeypatch.setattr(cli, "summarize", warn_without_axis)
    assert cli.main(["estimate", str(weights)]) == 0
    shown = "fastelbo: FastElboWarning: WEIGHTS has only 3 draws; say --axis 0, else --axis 1\n"
    assert capsys.readouterr().err == shown
    assert cli.main(["estimate", str(weights), "--axis", "1"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("axis must be 1, got 2", "--axis must be 1, got 2"),
        ("log_weights: axis must be 1", "WEIGHTS: --axis must be 1"),
        ("column must be a, or axis must be 0", "--column must be a, or --axis must be 0"),
        ("say axis=0, or axis=-1", "say --axis 0, or --axis -1"),
        ("iw_sizes must be at most n_samples = 5", "--k must be at most K = 5"),
        ("the axis of the draws", "the axis of the draws"),
        ("--name must be given", "--name must be given"),
    ],
)
def test_messages_name_flags(message, shown, monkeypatch, capsys):
    def fail():
        raise fe.errors.InvalidInputError(message)

    monkeypatch.setattr(demo, "digits_report", fail)
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == f"fastelbo: {shown}\n"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "MemoryError"),
        (OverflowError("too much"), 2, "too much"),
        (FileNotFoundError(2, "No such file", "a.npy"), 2, "a.npy: No such file"),
    ],
)
def test_other_errors_are_one_line(error, status, line, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr(demo, "digits_report", fail)
    assert cli.main(["demo"]) == status
    assert capsys.readouterr().err == f"fastelbo: {line}\n"


def test_a_reader_that_has_seen_enough_is_no_error(weights):
    """As in ``fastelbo estimate weights.npy | head -0``."""
    command = [sys.executable, "-m", "fastelbo", "estimate", str(weights)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
    assert process.returncode == 0


def test_help_names_every_kind_of_file(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["estimate", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for word in (".npy", ".npz", "text", "CmdStan", "netCDF", "--column", "examples:"):
        assert word in shown


def test_estimate_of_an_archive(tmp_path, capsys):
    path = tmp_path / "weights.npz"
    np.savez(path, log_weights())
    assert cli.main(["estimate", str(path)]) == 0
    want = capsys.readouterr().out
    np.savez_compressed(path, a=log_weights(), b=np.zeros(3))
    assert cli.main(["estimate", str(path), "--name", "a"]) == 0
    assert capsys.readouterr().out == want
    error = refused(["estimate", str(path)], capsys)
    assert ": --name must be one of the arrays" in error
    assert "(a, b)" in error
    assert "(a, b), got 'c'" in refused(["estimate", str(path), "--name", "c"], capsys)


def test_estimate_writes_an_image(weights, tmp_path, capsys):
    image = tmp_path / "bounds.png"
    command = ["estimate", str(weights), "--plot", str(image)]
    assert cli.main(command) == 0
    assert image.read_bytes()[:4] == PNG
    capsys.readouterr()
    assert "--force" in refused(command, capsys)
    assert cli.main([*command, "--force"]) == 0


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("missing.npy", None, "No such file"),
        ("empty.npy", lambda path: path.write_bytes(b""), "cannot be read: it is empty"),
        ("text.npy", lambda path: path.write_text("1 2 x"), "seems to be a text file, but"),
        ("folder.npy", lambda path: path.mkdir(), "folder.npy: Is a directory"),
        ("object.npy", lambda path: np.save(path, np.array([{}])), "has Python objects"),
        ("huge.npy", lambda path: write_header(path, (10**30,)), "but 0 follow"),
        ("pickle.npy", lambda path: path.write_bytes(pickle.dumps([0.0])), "to be a pickle"),
        ("member.npz", lambda path: np.savez(path, np.array([{}])), "has Python objects"),
        ("none.npz", lambda path: np.savez(path), "has no arrays"),
        ("complex.npy", lambda path: np.save(path, np.zeros(9, complex)), "dtype complex128"),
        ("string.npy", lambda path: np.save(path, np.array(["a"])), "dtype <U1"),
        ("scalar.npy", lambda path: np.save(path, 1.0), "got a scalar"),
        ("draws.npy", lambda path: np.save(path, np.zeros((3, 0))), "number of draws"),
        ("nan.npy", lambda path: np.save(path, [0.0, np.nan]), "1 log weights are NaN"),
    ],
)
def test_estimate_refuses_a_file(name, write, message, tmp_path, capsys):
    path = tmp_path / name
    if write is not None:
        write(path)
    assert message in refused(["estimate", str(path)], capsys)


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.99])
def test_estimate_refuses_a_file_that_is_cut_off(ending, share, tmp_path, capsys):
    path = tmp_path / f"weights.{ending}"
    (np.save if ending == "npy" else np.savez)(path, log_weights())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "cannot be read" in refused(["estimate", str(path)], capsys)


def test_estimate_refuses_a_damaged_archive(tmp_path, capsys):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, log_weights())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    assert "zip archive, but cannot be read" in refused(["estimate", str(path)], capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--axis", "2"], ": --axis must name axes"),
        (["--axis", "9" * 30], ": --axis must name axes"),
        (["--axis", "-3"], ": --axis must name axes"),
        (["--k", "5000"], ": --k must be at most K = 2000, got 5000"),
        (["--k", "0"], ": --k must be at least 1, got 0"),
        (["--k", "9" * 30], ": --k must be at most"),
        (["--name", "a"], ": --name must not be given for a .npy file, got 'a'"),
        (["--column", "a"], ": --column must not be given for a .npy file"),
        (["--group", "a"], ": --group must not be given for a .npy file"),
        (["--var", "a"], ": --var must not be given for a .npy file"),
        (["--plot", "bounds.doc"], "must end in one of"),
    ],
)
def test_estimate_refuses_options(options, message, weights, capsys):
    assert message in refused(["estimate", str(weights), *options], capsys)


def test_sizes_that_are_no_numbers_are_a_usage_error(weights, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["estimate", str(weights), "--k", "1,x"])
    assert stop.value.code == 2
    assert "expected integers separated by commas" in capsys.readouterr().err


def test_weights_stay_on_the_disk(weights, monkeypatch):
    given = []
    monkeypatch.setattr(cli, "summarize", lambda array, *_, **__: given.append(array) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["estimate", str(weights)])
    assert isinstance(given[0], np.memmap)
    assert given[0].mode == "r"


@pytest.mark.parametrize("terminal", [True, False])
def test_bar_is_shown_on_a_terminal(terminal, weights, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert cli.main(["estimate", str(weights)]) == 0
    assert ("draw/s" in capsys.readouterr().err) == terminal


def test_no_bar_without_tqdm(weights, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["estimate", str(weights)]) == 0
    assert capsys.readouterr().err == ""
