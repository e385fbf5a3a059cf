"""How checkpoints stand in the file system: modes, links, leftovers, names."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import fastelbo as fe

posix = pytest.mark.skipif(os.name == "nt", reason="no modes, locks or links")


def accumulator(n=100):
    filled = fe.LogWeightAccumulator()
    filled.update(np.linspace(0.0, 1.0, n))
    return filled


@posix
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002, 0o000])
def test_the_umask_decides_the_mode(tmp_path, umask):
    path, before = tmp_path / "checkpoint", os.umask(umask)
    try:
        accumulator().save(path)
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask
        accumulator().save(path)
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)


@posix
def test_the_target_of_a_link_is_replaced(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target, link, second = folder / "target", tmp_path / "link", tmp_path / "second"
    link.symlink_to(os.path.join("elsewhere", "target"))
    second.symlink_to(link)
    for n, path in enumerate((link, second, link), start=1):
        accumulator(n).save(path)
        assert link.is_symlink()
        assert second.is_symlink()
        assert not target.is_symlink()
        assert fe.LogWeightAccumulator.load(target).n_samples == n
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(fe.errors.CheckpointError, match="loop"):
        accumulator().save(loop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "link", "loop", "second"]


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "[a-z]*?", ".hidden", "a b"])
def test_any_name_that_the_system_allows(tmp_path, name):
    path = tmp_path / name
    for n in (1, 2):
        accumulator(n).save(path)
        assert fe.LogWeightAccumulator.load(path).n_samples == n
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(fe.errors.CheckpointError, match="too long"):
        accumulator().save(tmp_path / ("a" * 256))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [True, 1, 0, 3.5, None, b"name"])
def test_only_paths_are_opened(path):
    for call in (fe.LogWeightAccumulator.load, accumulator().save):
        with pytest.raises(fe.errors.InvalidInputError, match=r"path must be a str or a Path, got"):
            call(path)
    os.fstat(1)


def test_a_name_that_no_file_can_have(tmp_path):
    with pytest.raises(fe.errors.CheckpointError, match="null"):
        accumulator().save(f"{tmp_path}/a\0b")
    with pytest.raises(fe.errors.CheckpointError, match="null"):
        fe.LogWeightAccumulator.load(f"{tmp_path}/a\0b")


# Says when it is in the middle of a checkpoint, and waits there.
WRITING = """
import sys
import numpy as np
import fastelbo as fe
filled = fe.LogWeightAccumulator()
filled.update(np.zeros(10))
def savez(file, **content):
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()
    file.seek(0)
    file.truncate()
    original(file, **content)
original, np.savez = np.savez, savez
filled.save(sys.argv[1])
"""


@posix
def test_temporary_files_of_a_killed_process_are_removed_and_others_left(tmp_path):
    path, other = tmp_path / "checkpoint", tmp_path / "checkpoint2"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITING, str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for target in (path, path, other)
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "writing\n"
        killed, alive, elsewhere = writers
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 3
        accumulator(5).save(path)
        # Those of the living, and of another name, are there yet.
        assert len(list(tmp_path.iterdir())) == 3
        for writer in (alive, elsewhere):
            writer.communicate("\n")
            assert writer.returncode == 0
        assert sorted(tmp_path.iterdir()) == [path, other]
        assert fe.LogWeightAccumulator.load(path).n_samples == 10
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_errors_say_what_is_wrong_and_name_no_temporary_file(tmp_path):
    other = tmp_path / "other.npz"
    np.savez(other, a=np.zeros(3))
    with pytest.raises(fe.errors.CheckpointError, match=r"other\.npz .* of other arrays"):
        fe.LogWeightAccumulator.load(other)
    for path in (tmp_path, tmp_path / "missing" / "checkpoint"):
        with pytest.raises(fe.errors.CheckpointError) as caught:
            accumulator().save(path)
        assert str(caught.value).startswith(f"checkpoint {path} cannot be written: ")
        assert "/." not in str(caught.value)


# Python tries to close it again when it is deleted, in vain.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_inside_an_archive_is_an_interrupt(tmp_path, monkeypatch):
    path, accumulator = tmp_path / "checkpoint", fe.LogWeightAccumulator()
    accumulator.update(np.zeros(10))
    accumulator.save(path)
    before = path.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    # zipfile counts an archive as open from before this call on, and refuses to close it.
    monkeypatch.setattr(zipfile._ZipWriteFile, "__init__", interrupted)
    accumulator.update(np.ones(10))
    with pytest.raises(KeyboardInterrupt):
        accumulator.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
