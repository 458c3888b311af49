"""Who takes more than it was given is stopped, and the cgroup tells of it."""

from __future__ import annotations

import errno
import resource
import subprocess
from pathlib import Path

import pytest

from runtime import Cgroup, CgroupLayout
from tests.integration.runtime.cgroup_helpers import MIB, PATIENCE_S, SPIN, needs, run, running

pytestmark = pytest.mark.root

GREEDY = """
import os
os.write(1, b"ready\\n")
os.read(0, 1)
hoard = []
while True:
    hoard.append(b"x" * (1 << 20))
"""

FORK_UNTIL_REFUSED = """
import os, signal
children = []
try:
    while len(children) < 100:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        children.append(pid)
except OSError as error:
    print(len(children), error.errno)
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"""


def test_memory_ends_in_an_oom_kill_that_is_seen(group: Cgroup, layout: CgroupLayout) -> None:
    needs(layout, "memory")
    child = group.child("x", memory=32 * MIB)
    with running(child, GREEDY) as process, child.watch() as watch:
        assert watch.read() == []
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
        kinds: set[str] = set()
        while "oom" not in kinds:
            events = watch.wait(PATIENCE_S)
            assert events, f"no event within {PATIENCE_S} s; so far {kinds}"
            kinds |= {event.kind for event in events}
        assert process.wait(PATIENCE_S) == -9
        usage = child.usage()
        assert usage.memory is not None
        assert usage.memory.oom_kills == 1
        if layout.where("memory") == layout.v2:
            assert usage.memory.failures > 0  # v1 does not count the last one, which kills
        assert usage.memory.peak is None or usage.memory.peak <= 32 * MIB
    child.remove()


def test_nothing_is_swapped_out_that_no_swap_was_given_for(
    group: Cgroup, layout: CgroupLayout
) -> None:
    """Said by the limit itself, as this host may have no swap to try it with."""
    needs(layout, "memory")
    child = group.child("x", memory=32 * MIB)
    usage = child.usage()
    assert usage.memory is not None
    assert usage.memory.limit == 32 * MIB
    if "memory.swap" not in child.unenforced and usage.memory.swap is not None:
        assert usage.memory.swap_limit == 0
    child.remove()


def test_a_spinning_process_is_throttled_to_its_share(group: Cgroup, layout: CgroupLayout) -> None:
    """A tenth of a CPU: of the CPU time that 10 periods can give it takes no more than a part.
    Periods are counted, not seconds: a busy machine makes it slower, and no different."""
    needs(layout, "cpu")
    child = group.child("x", cpus=0.1)
    with running(child, SPIN) as process:
        before = child.usage().cpu
        assert before is not None
        while True:
            now = child.usage().cpu
            assert now is not None
            if now.periods - before.periods >= 10:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        periods, used = now.periods - before.periods, now.usage_ns - before.usage_ns
        assert now.throttled_periods > before.throttled_periods
        assert now.throttled_ns > before.throttled_ns
        # 10 ms of every 100; a slice may overrun by a tick on each CPU.
        assert used <= (periods + 3) * 10_000_000 * 2
    child.remove()


def test_forks_beyond_the_limit_fail_with_eagain(group: Cgroup, layout: CgroupLayout) -> None:
    needs(layout, "pids")
    child = group.child("x", pids=8)
    assert run(child, FORK_UNTIL_REFUSED) == (0, f"7 {errno.EAGAIN}\n")
    usage = child.usage().pids
    assert usage is not None
    assert usage.limit == 8
    assert usage.refused in (None, 1)
    assert usage.peak in (None, 8)
    child.remove()


def test_a_parents_limit_holds_for_all_its_children(group: Cgroup, layout: CgroupLayout) -> None:
    needs(layout, "pids")
    parent = group.child("parent", pids=8)
    child = parent.child("child")
    status, out = run(child, FORK_UNTIL_REFUSED)
    assert (status, out) == (0, f"7 {errno.EAGAIN}\n")
    parent.remove()


def test_a_cpuset_is_where_it_runs(group: Cgroup, layout: CgroupLayout) -> None:
    needs(layout, "cpuset")
    child = group.child("x", cpuset="0")
    code = "import os; print(*os.sched_getaffinity(0))"
    assert run(child, code) == (0, "0\n")
    child.remove()


def test_huge_pages_beyond_the_limit_are_refused(group: Cgroup, layout: CgroupLayout) -> None:
    """A reservation of one huge page where none is allowed: mmap says no, not SIGBUS later."""
    needs(layout, "hugetlb")
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if not free.exists() or free.read_text().strip() == "0":
        pytest.skip("no free huge pages of 2 MB (vm.nr_hugepages)")
    child = group.child("x", resources={"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]})
    code = """
import mmap
try:
    mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
except OSError as error:
    print(error.errno)
"""
    assert run(child, code)[1] == f"{errno.ENOMEM}\n"
    child.remove()


def test_page_size_is_what_the_limits_are_rounded_to(group: Cgroup) -> None:
    child = group.child("x", memory=10 * MIB + 1)
    usage = child.usage().memory
    assert usage is not None
    assert usage.limit == 10 * MIB
    assert 10 * MIB % resource.getpagesize() == 0
    child.remove()
