"""What is to be written where: OCI resources become settings of control files.

The field names are those of the OCI runtime specification, config-linux.md, "Control groups"; a
value of 0 (but for `pids`) or an empty string means "not given", as in runc and crun, whose
conversions between v1 and v2 are followed. docs/concepts/cgroups.md has the table.
"""

from __future__ import annotations

from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Choice = tuple[str, str]
    Read = Callable[[str], str]
    Translation = Callable[[Mapping[str, Any], "Read | None"], Iterator["Setting"]]

__all__ = [
    "PASS",
    "REFUSE",
    "TELL",
    "Setting",
    "cpu_list",
    "cpu_shares",
    "cpu_weight",
    "io_weight",
    "needed",
    "number",
    "swap_alone",
    "unified",
]

REFUSE = "refuse"
TELL = "tell"
PASS = "pass"


class Setting:
    """One limit, and the files that can take it, best first.

    `if_missing` says what it means when there is none of them: REFUSE (a limit would not hold),
    TELL (it stands in `Cgroup.unenforced`: a limit that does no harm to miss, or that the caller
    did not ask for in so many words) or PASS (another setting does the same)."""

    __slots__ = ("choices", "if_missing", "limit")

    def __init__(self, limit: str, *choices: Choice, if_missing: str = REFUSE) -> None:
        self.limit = limit
        self.choices = choices
        self.if_missing = if_missing

    def __repr__(self) -> str:
        return f"<Setting {self.limit} {' or '.join(map(repr, self.choices)) or 'nowhere'}>"


def needed(resources: Mapping[str, Any]) -> tuple[str, ...]:
    """The controllers, by their v2 names, that these limits need."""
    names = []
    cpu = resources.get("cpu") or {}
    if any(value is not None for key, value in cpu.items() if key not in ("cpus", "mems")):
        names.append("cpu")
    if cpu.get("cpus") or cpu.get("mems"):
        names.append("cpuset")
    for section, name in (
        ("memory", "memory"),
        ("pids", "pids"),
        ("blockIO", "io"),
        ("hugepageLimits", "hugetlb"),
        ("rdma", "rdma"),
    ):
        if resources.get(section):
            names.append(name)
    network = resources.get("network") or {}
    if network.get("classID"):
        names.append("net_cls")
    if network.get("priorities"):
        names.append("net_prio")
    for key in resources.get("unified") or ():
        controller = key.partition(".")[0]
        if controller != "cgroup" and controller not in names:
            names.append(controller)
    return tuple(names)


def number(value: int) -> str:
    """The text of a limit in v2's words: -1 is ``max``."""
    return "max" if value < 0 else str(value)


def unified(resources: Mapping[str, Any], controller: str) -> Iterator[Choice]:
    """Files and lines of ``unified`` that belong to this controller; a value of several lines is
    several writes, as ``io.max`` takes one device at a time."""
    for name, value in (resources.get("unified") or {}).items():
        if "/" in name or not name.partition(".")[2]:
            raise SpecError(f"linux.resources.unified: {name!r} is no CONTROLLER.FILE")
        if name.partition(".")[0] == controller:
            for line in str(value).splitlines():
                yield name, line


def cpu_weight(shares: int) -> int:
    """v2's cpu.weight (1 to 10000, default 100) for v1's cpu.shares (2 to 262144, default 1024).

    The curve through those three pairs, log10(weight) = (l² + 125 l) / 612 - 7 / 34 with
    l = log2(shares), that crun 1.23, runc 1.3.2 and Kubernetes have taken over from the linear one,
    which gave the default 1024 no more than weight 39 (kubernetes/kubernetes#131216)."""
    from math import ceil, log2

    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    log = log2(shares)
    return ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def cpu_shares(weight: int) -> int:
    """v1's cpu.shares for v2's cpu.weight: `cpu_weight` the other way round."""
    from math import log10, sqrt

    constant = 612 * (log10(weight) + 7 / 34)
    return min(262_144, max(2, round(2 ** ((sqrt(125**2 + 4 * constant) - 125) / 2))))


def io_weight(weight: int) -> int:
    """v2's io.weight (1 to 10000) for OCI's blockIO weight (10 to 1000): linear, as in runc and
    crun. io.bfq.weight goes to 1000 like OCI's and needs none of it."""
    return 1 + (weight - 10) * 9999 // 990


def swap_alone(memory: int | None, swap: int | None) -> int | None:
    """Bytes of swap alone, as v2 counts it, for OCI's memory+swap, as v1 does. None leaves it as
    it is, -1 is no limit. `memory` None or 0 is unknown, -1 unlimited.

    Raises SpecError where there is no answer."""
    if not swap:
        # v1 keeps memory+swap at or above memory, so "memory without limit" meant both.
        return -1 if memory == -1 else None
    if swap < 0:
        return -1
    if not memory:
        raise SpecError(
            "linux.resources.memory.swap: cgroup v2 limits swap alone; give memory.limit too, so "
            "that memory+swap minus memory is known"
        )
    if memory < 0:
        return swap
    if swap < memory:
        raise SpecError(
            f"linux.resources.memory.swap: memory+swap of {swap} is below memory of {memory}"
        )
    return swap - memory


def cpu_list(text: str | None) -> tuple[int, ...]:
    """The numbers of ``0-3,7`` (cpuset(7), "List format")."""
    numbers: list[int] = []
    for part in (text or "").strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)
