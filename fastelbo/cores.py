"""How many cores this process may use, and so how many threads it runs by default.

The least of

- the cores of the thread's affinity (``taskset``, a scheduler, ``os.sched_setaffinity``), asked for
  at each launch of several threads, as it may change;
- the quota of CPU time of the process's cgroup and of those around it, in cores, rounded up: what
  ``docker run --cpus``, a Kubernetes limit or a systemd slice sets;
- ``NUMBA_NUM_THREADS``, or else ``OMP_NUM_THREADS``, in the environment. Dask's workers, joblib's
  and batch systems set one of them where several processes share the cores.

Quota and environment are read once, at the first launch. A forked child keeps what its parent read.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

# The first that is a positive number counts.
VARIABLES = "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"


def cores() -> int:
    """Cores that the system lets this process use, whatever the environment says."""
    return min(_affinity(), _rounded_quota())


def core_limit() -> int:
    """The number of threads that this process runs at most, unless it is told otherwise."""
    return min(_affinity(), _fixed_limit())


def reasons() -> str:
    """What limits the number of threads, in words."""
    found = [f"affinity {_affinity()}"]
    if (quota := _quota()) is not None:
        found.append(f"cgroup quota {quota:g}")
    if (setting := _setting()) is not None:
        found.append("{} {}".format(*setting))
    return ", ".join(found)


@functools.cache
def _fixed_limit() -> int:
    setting = _setting()
    return _rounded_quota() if setting is None else min(_rounded_quota(), setting[1])


@functools.cache
def _setting() -> tuple[str, int] | None:
    """The variable of the environment that counts, and its number."""
    for name in VARIABLES:
        # OpenMP takes a list, of which the first number is that of the outer threads.
        text = os.environ.get(name, "").partition(",")[0].strip()
        if text.isdecimal() and int(text) > 0:
            return name, int(text)
    return None


def _count_of_system() -> Callable[[], int | None]:
    """What counts the cores of the affinity, or else all."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        count: Callable[[], int | None] = os.process_cpu_count
        return count
    if hasattr(os, "sched_getaffinity"):
        return lambda: len(os.sched_getaffinity(0))
    return os.cpu_count


_count = _count_of_system()


def _affinity() -> int:
    return _count() or 1


# --- cgroups ------------------------------------------------------------------------------------


@functools.cache
def _quota() -> float | None:
    return cgroup_quota()


@functools.cache
def _rounded_quota() -> int:
    quota = _quota()
    return _NO_LIMIT if quota is None else max(1, math.ceil(quota))


_NO_LIMIT = 2**31


# Three numbers, what is mounted, where, how, and what it is.
_MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .*- (cgroup2?) \S+ (\S+)")


def cgroup_quota(system: Path = Path("/")) -> float | None:
    """Cores' worth of time that the cgroups of this process allow, or None without a quota.

    Of version 1 or 2. The least of the process's own cgroup and of those around it counts, as far
    as they can be seen. ``system`` is where the files of Linux stand: elsewhere there are none.
    """
    found = (_quota_of(folder) for folder in _cgroups(system))
    return min((quota for quota in found if quota is not None), default=None)


def _cgroups(system: Path) -> Iterator[Path]:
    """The folders of the cgroups that share out CPU time to this process."""
    paths = {}
    for line in _text(system / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            paths["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = path
    for line in _text(system / "proc/self/mountinfo").splitlines():
        if (mount := _MOUNT.fullmatch(line)) is not None:
            root, point, kind, options = mount.groups()
            if kind == "cgroup2" or "cpu" in options.split(","):
                yield from _upwards(system / point[1:], paths.get(kind, "/"), root)


def _upwards(mounted: Path, path: str, root: str) -> Iterator[Path]:
    """The folder of a cgroup and those around it, where ``root`` is what is mounted.

    A container may see its own cgroup at the place of the root, under a path of the host.
    """
    below = PurePosixPath(path)
    below = below.relative_to(root) if below.is_relative_to(root) else PurePosixPath()
    if ".." not in below.parts:
        yield from (mounted / each for each in [below, *below.parents])
    else:
        yield mounted


def _quota_of(folder: Path) -> float | None:
    text = _text(folder / "cpu.max") or " ".join(
        _text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")
    )
    try:
        quota, period = map(float, text.split())
    except ValueError:  # no file, or "max"
        return None
    # -1 is no quota.
    return quota / period if quota > 0.0 and period > 0.0 else None


def _text(path: Path) -> str:
    """The content of a file, or nothing if it cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
