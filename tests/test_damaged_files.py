"""Files damaged in thousands of ways: the command line ends with one line of the library's own."""

import bz2
import functools
import gzip
import io
import lzma
import zipfile

import numpy as np
import pytest

from fastelbo import cli

WEIGHTS = 0.2 * np.random.default_rng(0).standard_normal((2, 40))
N_FILES = 2000
# Headers that other parsers take, or fail on in their own ways.
SHAPES = ["(True,)", "(-2, 40)", "(2, 40", "((2, 40)", "(2., 40)", "(10**9,)", "(2**70, 0)",
          "None", "(99999999999999999999,)", "(0, 99999999999999)", "2", "'a'", "()",
          "(2, 40, 1)"]  # fmt: skip
DTYPES = ["|O", "<f16", ">f8", "<c16", "<U4", "|V8", "|S0", "<M8[ns]", "<f9", "f8,f8",
          "[('a','<f8')]", "", "<i8", "|b1", "L"]  # fmt: skip


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(content, compression):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("a.npy", content)
    return stream.getvalue()


def text(names, array):
    stream = io.StringIO()
    np.savetxt(stream, array.T, delimiter=",", header=names, comments="")
    return stream.getvalue().encode()


@functools.cache
def whole_files():
    """One file of each kind that can be written without other libraries."""
    column = text("lw", WEIGHTS[:1])
    cmdstan = b"# method = pathfinder\n" + text("lp_approx__,lp__", WEIGHTS)
    return [
        npy(WEIGHTS), npy(np.asfortranarray(WEIGHTS)), npy(WEIGHTS.astype(">f4")),
        npz(npy(WEIGHTS), zipfile.ZIP_STORED), npz(npy(WEIGHTS), zipfile.ZIP_DEFLATED),
        npz(npy(WEIGHTS), zipfile.ZIP_BZIP2), npz(npy(WEIGHTS), zipfile.ZIP_LZMA),
        column, cmdstan, column.decode().encode("utf-16"), gzip.compress(column),
        gzip.compress(npy(WEIGHTS)), bz2.compress(column), lzma.compress(column),
    ]  # fmt: skip


def flip(rng, content):
    """Some bytes changed, more of them near the start, where headers are."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        place = int(len(content) * rng.random() ** rng.integers(1, 5))
        content[place] ^= rng.integers(1, 256)
    return bytes(content)


def cut(rng, content):
    return content[: int(len(content) * rng.random() ** 2)]


def moved(rng, content):
    """A part that is missing, or there twice."""
    start, stop = sorted(rng.integers(0, len(content), 2))
    return (
        content[:start] + (content[start:stop] * 2 if rng.random() < 0.5 else b"") + content[stop:]
    )


def other_header(rng, _):
    """A .npy file, in an archive or not, whose header has another shape or type."""
    header = f"{{'descr': {DTYPES[rng.integers(len(DTYPES))]!r}, 'fortran_order': False, 'shape': "
    header += SHAPES[rng.integers(len(SHAPES))] + (", }" if rng.random() < 0.9 else "")
    if rng.random() < 0.1:
        header = "(" * int(rng.integers(1, 9000)) + header
    version, size = (1, 2) if rng.random() < 0.7 else (int(rng.integers(1, 5)), 4)
    content = b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(size, "little")
    content += header.encode() + WEIGHTS.tobytes()
    return content if rng.random() < 0.5 else npz(content, zipfile.ZIP_STORED)


DAMAGES = [flip, flip, cut, moved, other_header]


def damaged_file(number):
    rng = np.random.default_rng(number)
    files = whole_files()
    return DAMAGES[number % len(DAMAGES)](rng, files[number // len(DAMAGES) % len(files)])


@pytest.mark.parametrize("number", range(len(whole_files())))
def test_files_are_read_where_they_are_not_damaged(number, tmp_path, capsys):
    content = whole_files()[number]
    (tmp_path / "weights").write_bytes(content)
    status = cli.main(["estimate", str(tmp_path / "weights")])
    assert status == 0, capsys.readouterr().err


def test_damaged_files_end_in_one_line(tmp_path, capsys):
    statuses = {0: 0, 2: 0}
    for number in range(N_FILES):
        path = tmp_path / "weights"
        path.write_bytes(damaged_file(number))
        status = cli.main(["estimate", str(path)])
        printed, error = capsys.readouterr()
        statuses[status] += 1
        where = f"file {number}: {error}"
        assert all(line.startswith("fastelbo: ") for line in error.splitlines()), where
        assert "pickle=" not in error, where
        assert "Traceback" not in error, where
        if status == 2:
            assert printed == "", where
            assert len(error.splitlines()) == 1, where
            assert len(error) < 500, where
            assert error[:-1].isprintable(), where
            assert "Errno" not in error or str(path) in error, where
    # Text that is cut, or has another digit, may be whole.
    assert statuses[2] > N_FILES / 2
