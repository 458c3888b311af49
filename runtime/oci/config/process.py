"""`process`: what runs, as whom, with which rights (config.md, "Process")."""

from __future__ import annotations

from runtime.engine.process import IO_CLASSES, POLICIES, RLIMITS, SCHED_FLAGS
from runtime.oci.config.check import (
    INT32,
    UINT32,
    UINT64,
    Invalid,
    absolute,
    array,
    boolean,
    fields,
    integer,
    items,
    one_of,
    text,
)

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PROCESS", "cpu_list"]

_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

_CPU_LIST = frozenset("0123456789,- \n")


def cpu_list(value: Any) -> None:
    """A list of numbers and ranges such as 0-3,7."""
    text(value)
    if not _CPU_LIST.issuperset(value):
        raise Invalid(f"{value!r} is no list of numbers and ranges such as 0-3,7")


def _argv(value: Any) -> None:
    items(value, text)
    if not value:
        raise Invalid("is empty: the first element is the program")
    if not value[0]:
        raise Invalid("is an empty string, and no program", "[0]")


def _variable(value: Any) -> None:
    text(value)
    if "=" not in value[1:]:
        raise Invalid(f"{value!r} is not of the form NAME=value")


def _rlimits(value: Any) -> None:
    items(value, _RLIMIT)
    seen = set()
    for index, limit in enumerate(value):
        if limit["type"] in seen:
            raise Invalid(f"{limit['type']} is limited twice", f"[{index}]")
        seen.add(limit["type"])
        if limit["soft"] > limit["hard"]:
            raise Invalid("is more than the hard limit", ".soft", f"[{index}]")


def _scheduler(value: dict[str, Any]) -> None:
    """sched(7), and the rules that runc has for it."""
    policy = value["policy"]
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= value.get("nice", 0) <= 19:
        raise Invalid(f"must be between -20 and 19 for {policy}", ".nice")
    if value.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise Invalid("is for SCHED_FIFO and SCHED_RR only", ".priority")
    for key in ("runtime", "deadline", "period"):
        if value.get(key) and policy != "SCHED_DEADLINE":
            raise Invalid("is for SCHED_DEADLINE only", f".{key}")


def _defaults(value: dict[str, Any]) -> None:
    """What Go's zero values say: no user is root."""
    user = value.setdefault("user", {})
    user.setdefault("uid", 0)
    user.setdefault("gid", 0)


_ID = integer(0, UINT32[1] - 1)  # the last one is "no id", chown(2)
_RLIMIT = fields(
    "type soft hard", type=one_of(RLIMITS), soft=integer(*UINT64), hard=integer(*UINT64)
)

PROCESS = fields(
    "args cwd",
    _defaults,
    terminal=boolean,
    consoleSize=fields("height width", height=integer(*UINT32), width=integer(*UINT32)),
    user=fields(uid=_ID, gid=_ID, umask=integer(0, 0o777), additionalGids=array(_ID)),
    args=_argv,
    env=array(_variable),
    cwd=absolute,
    capabilities=fields("", None, **dict.fromkeys(_SETS, array(text))),
    rlimits=_rlimits,
    noNewPrivileges=boolean,
    apparmorProfile=text,
    selinuxLabel=text,
    oomScoreAdj=integer(-1000, 1000),
    scheduler=fields(
        "policy",
        _scheduler,
        policy=one_of(POLICIES),
        nice=integer(*INT32),
        priority=integer(0, 99),
        flags=array(one_of(SCHED_FLAGS)),
        runtime=integer(*UINT64),
        deadline=integer(*UINT64),
        period=integer(*UINT64),
    ),
    ioPriority=fields(
        "class priority",
        **{
            "class": one_of(IO_CLASSES),
            "priority": integer(0, 7),
        },
    ),
    execCPUAffinity=fields(initial=cpu_list, final=cpu_list),
)
