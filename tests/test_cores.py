"""How many cores a process may use, by fake files of Linux."""

import os
import subprocess
import sys

import pytest

from fastelbo import cores
from fastelbo.kernels.jit import threads

V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "32 31 0:29 {root} /sys/fs/cgroup/{name} rw shared:9 - cgroup cgroup rw,{name}"
ELSEWHERE = "40 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
NO_SOURCE = "41 31 0:50 / /sys/fs/fuse rw - fusectl"


def system(folder, cgroup, mounts, files):
    """Files of a system under a folder: what /proc says of this process, and quotas."""
    written = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": "\n".join(mounts)} | files
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def v2(path, files, root="/"):
    named = {f"sys/fs/cgroup/{name}cpu.max": text for name, text in files.items()}
    return f"0::{path}\n", [ELSEWHERE, V2_MOUNT.format(root=root)], named


def v1(path, quotas, root="/", name="cpu,cpuacct"):
    named = {}
    for folder, (quota, period) in quotas.items():
        named[f"sys/fs/cgroup/{name}/{folder}cpu.cfs_quota_us"] = quota
        named[f"sys/fs/cgroup/{name}/{folder}cpu.cfs_period_us"] = period
    cgroup = f"5:memory:/other\n4:{name}:{path}\n0::/unified\n"
    return cgroup, [ELSEWHERE, V1_MOUNT.format(root=root, name=name)], named


V2 = {
    "two of many": (v2("/", {"": "200000 100000\n"}), 2.0),
    "a part": (v2("/pod/box", {"pod/box/": "150000 100000"}), 1.5),
    "no quota": (v2("/pod/box", {"pod/box/": "max 100000", "pod/": "max 100000"}), None),
    "around it": (v2("/pod/box", {"pod/box/": "max 100000", "pod/": "50000 100000"}), 0.5),
    "the least": (v2("/a/b", {"a/b/": "300000 100000", "a/": "800000 200000"}), 3.0),
    "beside it": (v2("/a/b", {"a/c/": "100000 100000"}), None),
    "host's path": (v2("/docker/1f", {"": "200000 100000"}, root="/docker/1f"), 2.0),
    "below host's path": (v2("/pod/1f/own", {"own/": "200000 100000"}, root="/pod/1f"), 2.0),
    "outside": (v2("/../other", {"": "200000 100000"}), 2.0),
    "damaged": (v2("/", {"": "many 100000"}), None),
    "empty": (v2("/", {"": ""}), None),
}
V1 = {
    "two of many": (v1("/", {"": ("200000", "100000")}), 2.0),
    "no quota": (v1("/user", {"user/": ("-1", "100000"), "": ("-1", "100000")}), None),
    "nested": (v1("/a/b", {"a/b/": ("-1", "100000"), "a/": ("250000\n", "100000\n")}), 2.5),
    "alone": (v1("/a", {"a/": ("400000", "100000")}, name="cpu"), 4.0),
    "host's path": (v1("/docker/1f", {"": ("50000", "50000")}, root="/docker/1f"), 1.0),
    "path not mounted": (v1("/docker/1f", {"": ("50000", "50000")}), 1.0),
    "no period": (v1("/", {"": ("50000", "0")}), None),
}


@pytest.mark.parametrize(("files", "quota"), V2.values(), ids=V2)
def test_quotas_of_version_2(tmp_path, files, quota):
    assert cores.cgroup_quota(system(tmp_path, *files)) == quota


@pytest.mark.parametrize(("files", "quota"), V1.values(), ids=V1)
def test_quotas_of_version_1(tmp_path, files, quota):
    assert cores.cgroup_quota(system(tmp_path, *files)) == quota


def test_no_quota_where_nothing_can_be_read(tmp_path):
    assert cores.cgroup_quota(tmp_path) is None  # macOS and Windows
    system(tmp_path, *v2("/", {"": "200000 100000"}))
    assert cores.cgroup_quota(tmp_path) == 2.0
    # A folder in a file's place cannot be read, by whatever user.
    (tmp_path / "sys/fs/cgroup/cpu.max").unlink()
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir()
    assert cores.cgroup_quota(tmp_path) is None
    (tmp_path / "proc/self/mountinfo").write_bytes(b"\xff\xfe")
    assert cores.cgroup_quota(tmp_path) is None


def test_mounts_that_are_described_in_short_are_passed_over(tmp_path):
    cgroup, mounts, files = v2("/", {"": "200000 100000"})
    mounts = [NO_SOURCE, "", "nonsense", "1 2 3 - cgroup2 cgroup2 rw", *mounts]
    assert cores.cgroup_quota(system(tmp_path, cgroup, mounts, files)) == 2.0


# --- the least of all limits --------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Sets cores, quota and environment, as a new process would find them."""

    def found(affinity, quota=None, **environment):
        for name in cores.VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        monkeypatch.setattr(cores, "_affinity", lambda: affinity)
        monkeypatch.setattr(cores, "cgroup_quota", lambda: quota)
        forget()
        return cores.core_limit(), cores.cores()

    def forget():
        for each in (cores._fixed_limit, cores._setting, cores._quota, cores._rounded_quota):
            each.cache_clear()

    yield found
    forget()


def test_the_least_limit_counts(machine):
    assert machine(8) == (8, 8)
    assert machine(64, 2.0) == (2, 2)
    assert machine(64, 1.5) == (2, 2)
    assert machine(64, 0.1) == (1, 1)
    assert machine(4, 16.0) == (4, 4)
    # The environment is a wish, which an argument replaces.
    assert machine(64, 8.0, OMP_NUM_THREADS="3") == (3, 8)
    assert machine(8, OMP_NUM_THREADS="16") == (8, 8)
    assert machine(8, NUMBA_NUM_THREADS="4", OMP_NUM_THREADS="1") == (4, 8)
    assert machine(8, OMP_NUM_THREADS="2,4") == (2, 8)


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1.5", ","])
def test_a_number_that_is_none_is_passed_over(machine, text):
    assert machine(8, OMP_NUM_THREADS=text) == (8, 8)
    assert machine(8, NUMBA_NUM_THREADS=text, OMP_NUM_THREADS="2") == (2, 8)


def test_reasons_name_what_limits(machine):
    machine(64)
    assert cores.reasons() == "affinity 64"
    machine(64, 1.5, OMP_NUM_THREADS="4")
    assert cores.reasons() == "affinity 64, cgroup quota 1.5, OMP_NUM_THREADS 4"


def test_an_affinity_that_changes_counts_at_once(machine, monkeypatch):
    assert machine(8)[0] == 8
    monkeypatch.setattr(cores, "_affinity", lambda: 3)
    assert cores.core_limit() == 3
    assert min(3, threads.numba_threads()) == threads.available_threads()


def test_systems_without_affinity_count_all_cores(monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert cores._count_of_system()() == 3
    monkeypatch.delattr(os, "process_cpu_count")
    if hasattr(os, "sched_getaffinity"):
        assert cores._count_of_system()() == len(os.sched_getaffinity(0))
        monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores._count_of_system()() == 5
    monkeypatch.setattr(cores, "_count", lambda: None)
    assert cores._affinity() == 1


# --- a container with 2 of 64 cores -------------------------------------------------------------

# Prints the names of the threads of the process after calls on as many as there may be.
CONTAINER = """
import os, sys
from pathlib import Path

os.sched_getaffinity = lambda _: set(range(64))
import numpy as np
import fastelbo as fe
from fastelbo import cores

cores.cgroup_quota = lambda: 2.0
tasks = Path("/proc/self/task")
before = len(list(tasks.iterdir()))
for n_threads in (None, 64):
    p, q = fe.Gaussian(np.ones(3), scale=1.0), fe.Gaussian(np.zeros(3), scale=1.0)
    fe.estimate(p, q, 200_000, rng=0, n_threads=n_threads)
fe.summarize(np.random.default_rng(0).normal(size=(8, 20_000)))
print(len(list(tasks.iterdir())) - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by /proc")
def test_a_container_with_2_of_64_cores_starts_2_threads():
    environment = {k: v for k, v in os.environ.items() if k not in cores.VARIABLES}
    # The only layer of numba whose threads start when numba is asked for their number.
    environment |= {"NUMBA_THREADING_LAYER": "workqueue"}
    printed = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", CONTAINER], env=environment, text=True
    )
    # The two that work while the main thread waits for them.
    assert int(printed) <= 2
