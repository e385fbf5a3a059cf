"""Log weights from files: every kind that is read, what is chosen in them, and what is refused."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import threading
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest

import fastelbo as fe
from fastelbo.arrays.choice import Choice
from fastelbo.arrays.files import open_array
from fastelbo.errors import FastElboWarning, InvalidInputError

COLUMN = 0.2 * np.random.default_rng(0).standard_normal(50)
TABLE = 0.2 * np.random.default_rng(1).standard_normal((50, 3))
NAMES = ["a", "b c", "lw"]
FRAME = pd.DataFrame(TABLE, columns=NAMES)


def lines(values, head=""):
    return head + "".join(f"{value!r}\n" for value in values.tolist())


def r_table(frame, header):
    """As R's write.table writes it: quoted row names, which the header does not name."""
    rows = [f'"{i + 1}" {" ".join(map(repr, row))}' for i, row in enumerate(frame.values.tolist())]
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def written(tmp_path):
    """A function that writes a text, or bytes, and gives the path."""

    def write(content, name="weights.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize(
    "text",
    [
        lines(COLUMN),
        lines(COLUMN).replace("\n", "\r\n"),
        lines(COLUMN, "log_weight\n"),
        lines(COLUMN, "log weight\n"),
        lines(COLUMN, '"log weight, in nats"\n'),
        lines(COLUMN, "# größe\n\n# b = 1\nlw\n"),
        lines(COLUMN, "lw\n\n").replace("\n", "\n\n"),
        "# a comment\n" + lines(COLUMN) + "# the end\n",
        pd.DataFrame({"lw": COLUMN}).to_csv(),
        pd.DataFrame({"lw": COLUMN}).to_csv(sep=";"),
        pd.DataFrame({"lw": COLUMN}).to_csv(sep="\t", index=False),
        r_table(pd.DataFrame({"lw": COLUMN}), '"lw"'),
        " ".join(map(repr, COLUMN.tolist())),
        ", ".join(map(repr, COLUMN.tolist())) + "\n",
    ],
)
def test_one_column_or_row_of_text(text, encoding, written):
    np.testing.assert_array_equal(open_array(written(text, encoding=encoding)), COLUMN)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (FRAME.to_csv(index=False), ["a", "b c", "lw"]),
        (FRAME.to_csv(index=False), ["1", "2", "3"]),
        (FRAME.to_csv(), ["a", "b c", "lw"]),
        (FRAME.to_csv(), ["2", "3", "4"]),
        (FRAME.to_csv(index=False, header=False), ["1", "2", "3"]),
        (FRAME.to_csv(index=False, sep="\t"), NAMES),
        (r_table(FRAME, '"a" "b c" "lw"'), NAMES),
        (pd.DataFrame(TABLE).to_csv(), ["0", "1", "2"]),
    ],
)
def test_columns_of_text_are_chosen_by_name_or_number(text, columns, written):
    path = written(text)
    got = [open_array(path, Choice(column=column)) for column in columns]
    np.testing.assert_array_equal(np.transpose(got), TABLE)
    for axis in (0, 1):
        np.testing.assert_array_equal(open_array(path, Choice(axis=axis)), TABLE)
    with pytest.raises(InvalidInputError, match=r"column must be one of the columns in .* or axis"):
        open_array(path)
    with pytest.raises(
        InvalidInputError, match=r"column must be .* a number from 1 to \d, got '9'"
    ):
        open_array(path, Choice(column="9"))


def test_a_column_of_text_beside_another_of_words(written):
    rows = [f"point {i}, {value!r}" for i, value in enumerate(COLUMN.tolist())]
    path = written("\n".join(["name,lw", *rows]))
    np.testing.assert_array_equal(open_array(path, Choice(column="lw")), COLUMN)
    path = written("\n".join(rows))
    np.testing.assert_array_equal(open_array(path, Choice(column="2")), COLUMN)


@pytest.mark.parametrize("columns", [1, 3])
def test_numbers_of_columns_as_pandas_writes_them_are_no_weights(columns, written):
    path = written(pd.DataFrame(TABLE[:, :columns]).to_csv(index=False))
    with pytest.warns(FastElboWarning, match="numbers of columns, as pandas writes"):
        got = open_array(path, Choice(axis=0))
    np.testing.assert_array_equal(got, TABLE[:, :columns])


def test_a_first_line_of_numbers_is_kept(written):
    for text in ("0\n1\n0.5\n", "0.0\n0.5\n", "0 1\n1 2\n", "0 2\n0.5 1.5\n"):
        path = written(text)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = open_array(path, Choice(axis=0))
        np.testing.assert_array_equal(got, np.loadtxt(path, ndmin=2))


def test_weights_of_zero_and_infinities_of_text(written):
    text = "lw\n-inf\n-Inf\n-Infinity\n1e-3\n"
    np.testing.assert_array_equal(open_array(written(text)), [-np.inf] * 3 + [1e-3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NA\n0.5\n", "'NA' to float64 in row 1 of the numbers"),
        ("lw\n0.5\n\nNA\n", "'NA' to float64 in row 2 of the numbers"),
        ("0.5\nx\n", "'x' to float64"),
        ("lw\n", "no numbers"),
        ("# nothing\n", "no numbers"),
        ("\n \n", "no numbers"),
        ("1,2\n1,2,3\n", "2 and 3 columns"),
        ("1,2\n1,2\n1\n", "columns"),
        ("# a\n0.5,\n0.6,\n", "columns"),
        ("(lp0\nF0.5\na.", "could not convert"),
    ],
)
def test_text_that_is_refused(text, message, written):
    with pytest.raises(InvalidInputError, match=message):
        open_array(written(text), Choice(axis=0) if "1\n" in text else Choice())


def test_text_with_rows_of_other_lengths_is_refused(written):
    with pytest.raises(InvalidInputError, match="number of columns changed from 2 to 3 in row 3"):
        open_array(written("1,2\n1,2\n1,2,3\n"), Choice(axis=0))


# --- compression, pipes, streams ------------------------------------------------------------------


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files(compress, written):
    for content in (lines(COLUMN).encode(), npy_bytes(COLUMN), npy_bytes(np.asfortranarray(TABLE))):
        got = open_array(written(compress(content), "weights"))
        want = TABLE if content == npy_bytes(np.asfortranarray(TABLE)) else COLUMN
        np.testing.assert_array_equal(got, want)
        with pytest.raises(InvalidInputError, match="compressed twice"):
            open_array(written(compress(compress(content)), "weights"))
        with pytest.raises(InvalidInputError, match="cannot be read"):
            open_array(written(compress(content)[:-20], "weights"))


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("content", [lines(COLUMN).encode(), npy_bytes(COLUMN)])
def test_streams_and_pipes_with_a_writer(content, tmp_path):
    np.testing.assert_array_equal(open_array(io.BytesIO(content)), COLUMN)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    np.testing.assert_array_equal(open_array(path), COLUMN)
    writer.join()


def test_a_pipe_without_a_writer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fastelbo.arrays.streams._PATIENCE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="a pipe into which nothing writes"):
        open_array(tmp_path / "pipe")


def test_devices_are_refused():
    with pytest.raises(InvalidInputError, match="a device or a socket"):
        open_array(os.devnull)


# --- NumPy's files --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f2", "<i4", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (0, 4), (2, 3, 4)])
def test_arrays_of_every_layout(dtype, order, shape, tmp_path):
    array = np.array(10 * np.random.default_rng(0).random(shape)).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array)
    mapped = open_array(tmp_path / "a.npy")
    for got in (mapped, open_array(tmp_path / "a.npz"), open_array(io.BytesIO(npy_bytes(array)))):
        assert got.dtype == array.dtype
        assert not got.flags.writeable or not got.size
        np.testing.assert_array_equal(got, array)
    assert isinstance(mapped, np.memmap) == bool(array.size)


@pytest.mark.parametrize(
    "shape", ["(True,)", "(-5,)", "(5.0,)", "5", "(1000000000000000000000000,)", "(6,)", "(4,)",
              "()", "(5, 0)", "(((((5", "('5',)", "[5]"]
)  # fmt: skip
def test_headers_that_lie_are_refused(shape, written):
    content = npy_bytes(np.zeros(5))
    text = content.replace(b"(5,)", shape.encode()[:20].ljust(4))
    with pytest.raises(InvalidInputError, match="the header of its array") as caught:
        open_array(written(text, "weights.npy"))
    assert "pickle" not in str(caught.value)


def test_objects_are_never_unpickled(tmp_path, written):
    bomb = np.array([Bomb()])
    np.save(tmp_path / "a.npy", bomb)
    np.savez(tmp_path / "a.npz", bomb)
    for path in ("a.npy", "a.npz"):
        with pytest.raises(InvalidInputError, match="Python objects"):
            open_array(tmp_path / path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for content in (pickle.dumps(Bomb(), protocol), pickle.dumps(bomb, protocol)):
            with pytest.raises(InvalidInputError, match="pickle" if protocol > 1 else "read"):
                open_array(written(content, "a"))
            with pytest.raises(InvalidInputError, match="pickle" if protocol > 1 else "read"):
                open_array(written(gzip.compress(content), "a"))


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


@pytest.mark.parametrize(
    "compression",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
)
def test_archives_of_every_compression(compression, tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("notes.txt", "not an array")
        archive.writestr("lw.npy", npy_bytes(TABLE))
    np.testing.assert_array_equal(open_array(path), TABLE)
    content = bytearray(path.read_bytes())
    content[content.index(b"lw.npy") + 30] ^= 255
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="zip archive, but cannot be read"):
        open_array(path)


@pytest.mark.parametrize("field", [("flag", 6, 1), ("method", 8, 77)])
def test_encrypted_and_unknown_archives_are_refused(field, tmp_path):
    _, offset, value = field
    path = tmp_path / "a.npz"
    np.savez(path, TABLE)
    content = bytearray(path.read_bytes())
    content[offset] = value
    content[content.index(b"PK\x01\x02") + offset + 2] = value
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"encrypted|compression method"):
        open_array(path)


# --- other kinds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"ARROW1\0\0", "an Arrow or Feather file"),
        (b"RDX3\nX\n", "an R data file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel"),
        (b"[0.1, 0.2]", "in brackets, as in JSON"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
        (b"\0\1\2\3", "of no kind"),
        (COLUMN.tobytes(), "of no kind"),
        (b"", "it is empty"),
    ],
)
def test_other_kinds_are_named(content, kind, written):
    for each in (content, gzip.compress(content)):
        path = written(each, "weights.npy")
        with pytest.raises(InvalidInputError, match=kind) as caught:
            fe.summarize(path)
        assert str(caught.value).startswith(f"log_weights: {path} ")
        assert "allow_pickle" not in str(caught.value)


def test_python_reads_what_the_command_line_reads(written):
    path = written(gzip.compress(lines(COLUMN).encode()))
    want = fe.summarize(COLUMN, pareto_k=False)
    got = fe.summarize(path, pareto_k=False)
    assert got.log_evidence == want.log_evidence
    assert fe.ess(written(lines(COLUMN))) == fe.ess(COLUMN)
    with pytest.raises(InvalidInputError, match="open_array takes the choice"):
        fe.summarize(written(FRAME.to_csv()))


def test_a_choice_of_another_kind_of_file_is_refused(tmp_path, written):
    np.save(tmp_path / "a.npy", COLUMN)
    np.savez(tmp_path / "a.npz", COLUMN)
    for path, allowed in (
        (tmp_path / "a.npy", ""), (tmp_path / "a.npz", "name"), (written(lines(COLUMN)), "column")
    ):  # fmt: skip
        for name in {"name", "column", "group", "var"} - {allowed}:
            with pytest.raises(InvalidInputError, match=f"{name} must not be given"):
                open_array(path, Choice(**{name: "x"}))


# --- CmdStan --------------------------------------------------------------------------------------

LOG_P = (-7.0 + TABLE[:, 0]).round(6)
LOG_Q = (-6.0 + TABLE[:, 1]).round(6)


def cmdstan(method, columns, rows, settings=""):
    """A file in CmdStan's layout, comments between names and numbers included."""
    comments = f"# stan_version_major = 2\n# method = {method}\n#   {method}\n{settings}"
    values = "".join(", ".join(map(repr, row)) + "\n" for row in np.transpose(rows).tolist())
    return f"{comments}{columns},theta.1\n# eta = 1\n{values}# \n#  Elapsed Time: 0.1 seconds\n"


def test_draws_of_the_sampler_have_no_log_weights(written):
    names, columns = "lp__,accept_stat__,stepsize__", [[-7.5, -7.0], [0.9, 1.0], [0.8, 0.8]]
    path = written(cmdstan("sample", names, [*columns, [0.1, 0.2]]))
    for choice in (Choice(), Choice(axis=0)):
        with pytest.raises(InvalidInputError, match=r"sampler, which have no log weights"):
            open_array(path, choice)
    np.testing.assert_array_equal(open_array(path, Choice(column="theta.1")), [0.1, 0.2])


def test_sentences_are_no_table(written):
    with pytest.raises(InvalidInputError, match="its first lines have 2 and 3 columns"):
        open_array(written("hello world\nthis is text\n"))


def test_log_weights_of_pathfinder(written):
    rows = [LOG_Q, LOG_P, np.ones(50), np.zeros(50)]
    for settings in (
        "#     num_paths = 1\n", "#     num_paths = 4 (Default)\n#     psis_resample = 0\n",
        "#     num_paths = 4 (Default)\n#     psis_resample = false\n",
    ):  # fmt: skip
        path = written(cmdstan("pathfinder", "lp_approx__,lp__,path__", rows, settings))
        np.testing.assert_array_equal(open_array(path), LOG_P - LOG_Q)


@pytest.mark.parametrize("resample", ["", "#     psis_resample = 1 (Default)\n"])
def test_draws_that_pathfinder_has_resampled_have_no_weights(resample, written):
    settings = f"#     num_paths = 4 (Default)\n{resample}"
    rows = [LOG_Q, LOG_P, np.zeros(50)]
    path = written(cmdstan("pathfinder", "lp_approx__,lp__", rows, settings))
    with pytest.raises(InvalidInputError, match=r"resampled its draws .* psis_resample=0"):
        open_array(path)
    np.testing.assert_array_equal(open_array(path, Choice(column="lp__")), LOG_P)


def test_log_weights_of_variational_leave_out_the_mean(written):
    rows = [np.zeros(51), np.append(0.0, LOG_P), np.append(0.0, LOG_Q), np.zeros(51)]
    path = written(cmdstan("variational", "lp__,log_p__,log_g__", rows))
    with pytest.warns(FastElboWarning, match="normalising constant out of log_g__"):
        got = open_array(path)
    np.testing.assert_array_equal(got, LOG_P - LOG_Q)


def test_log_weights_of_laplace(written):
    path = written(cmdstan("laplace", "log_p__,log_q__", [LOG_P, LOG_Q, np.zeros(50)]))
    with pytest.warns(FastElboWarning, match="normalising constant out of log_q__"):
        got = open_array(path)
    np.testing.assert_array_equal(got, LOG_P - LOG_Q)


def test_an_unnormalised_approximation_shifts_bounds_alone(written):
    path = written(cmdstan("laplace", "log_p__,log_q__", [LOG_P, LOG_Q, np.zeros(50)]))
    with pytest.warns(FastElboWarning):
        shifted = fe.summarize(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastElboWarning)
        right = fe.summarize(LOG_P - LOG_Q + 2.5)
    for name in ("jensen_gap", "ess", "pareto_k", "log_evidence_se"):
        np.testing.assert_allclose(getattr(shifted, name), getattr(right, name), rtol=1e-9)
    for name in ("log_evidence", "elbo"):
        np.testing.assert_allclose(getattr(right, name) - getattr(shifted, name), 2.5, rtol=1e-12)


# --- netCDF ---------------------------------------------------------------------------------------

DRAWS = 0.2 * np.random.default_rng(2).standard_normal((4, 20, 3))


def test_netcdf_of_one_variable(tmp_path):
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "a.nc"
    for dims in (("chain", "draw", "y"), ("draw", "y", "chain"), ("y", "sample", "z")):
        xarray.Dataset({"lw": (dims, DRAWS)}).to_netcdf(path, engine="scipy")
        want = xarray.DataArray(DRAWS, dims=dims)
        names = [name for name in ("chain", "draw", "sample") if name in dims]
        stacked = want.stack(all_draws=names).transpose(..., "all_draws").values
        np.testing.assert_array_equal(open_array(path), stacked)
        with pytest.raises(InvalidInputError, match="axis must not be given where"):
            open_array(path, Choice(axis=0))
    xarray.Dataset({"lw": (("a", "b", "c"), DRAWS)}).to_netcdf(path, engine="scipy")
    np.testing.assert_array_equal(open_array(path, Choice(axis=0)), DRAWS)


def test_netcdf_with_groups(tmp_path):
    pytest.importorskip("h5netcdf")
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "a.nc"
    groups = {
        "posterior": {"mu": (("chain", "draw"), DRAWS[:, :, 0])},
        "log_likelihood": {
            "y": (("chain", "draw", "y_dim"), DRAWS), "z": (("chain", "draw"), DRAWS[..., 1]),
        },
    }  # fmt: skip
    tree = xarray.DataTree.from_dict({name: xarray.Dataset(d) for name, d in groups.items()})
    tree.to_netcdf(path, engine="h5netcdf")
    want = DRAWS.reshape(80, 3).T
    got = open_array(path, Choice(group="log_likelihood", var="y"))
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        open_array(path, Choice(group="/posterior")), DRAWS[..., 0].ravel()
    )
    for choice, message in (
        (Choice(), r"group must be one of the groups .* \(posterior, log_likelihood\), got None"),
        (Choice(group="log_likelihood"), r"var must be one of the variables in group .* \(y, z\)"),
        (Choice(group="log_likelihood", var="x"), r"\(y, z\), got 'x'"),
        (Choice(group="x"), "group must be one of"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            open_array(path, choice)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidInputError, match="a netCDF file, but cannot be read"):
        open_array(path, Choice(group="posterior"))


@pytest.mark.parametrize("missing", ["xarray", "h5netcdf"])
def test_netcdf_says_which_extra_it_needs(missing, written, monkeypatch):
    pytest.importorskip("xarray")
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    path = written(b"\x89HDF\r\n\x1a\n" + bytes(100), "a.nc")
    with pytest.raises(ImportError, match=rf"needs {missing}.*fastelbo\[export\]"):
        open_array(path)
