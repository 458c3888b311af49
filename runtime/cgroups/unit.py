"""Limits and annotations as properties of a systemd unit, each with its D-Bus type."""

from __future__ import annotations

from runtime.cgroups import limits, settings
from runtime.cgroups.settings import cpu_list
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Property = tuple[str, tuple[str, Any]]

__all__ = ["annotation_properties", "unit_properties"]

_INFINITY = (1 << 64) - 1
_SECOND_US = 1_000_000
_ANNOTATION = "org.systemd.property."


def unit_properties(resources: Mapping[str, Any], idle: bool = True) -> list[Property]:
    """The limits that systemd has properties for (systemd.resource-control(5)), in its units: CPU
    time by the second, bytes, tasks, bit masks. `idle`: whether it knows cpu.idle."""
    cpu = resources.get("cpu") or {}
    memory = resources.get("memory") or {}
    found: dict[str, tuple[str, Any]] = {}
    if cpu.get("shares"):
        found["CPUWeight"] = ("t", settings.cpu_weight(cpu["shares"]))
    if cpu.get("idle") == 1 and idle:
        found["CPUWeight"] = ("t", 0)
    if cpu.get("quota") or cpu.get("period"):
        found |= _quota(cpu.get("quota") or -1, cpu.get("period") or limits.PERIOD_US)
    for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
        if cpu.get(key):
            found[name] = ("ay", _mask(cpu[key]))
    for key, name in (("limit", "MemoryMax"), ("reservation", "MemoryLow")):
        if memory.get(key):
            found[name] = _size(memory[key])
    if memory.get("limit") or (memory.get("swap") or 0) < 0:
        alone = settings.swap_alone(memory.get("limit"), memory.get("swap"))
        if alone is not None:
            found["MemorySwapMax"] = _size(alone)
    tasks = (resources.get("pids") or {}).get("limit")
    if tasks is not None:
        found["TasksMax"] = _size(tasks or 1)
    weight = (resources.get("blockIO") or {}).get("weight")
    if weight:
        found["IOWeight"] = ("t", settings.io_weight(weight))
    for name, value in (resources.get("unified") or {}).items():
        found |= _unified(name, str(value).strip())
    return list(found.items())


def annotation_properties(annotations: Mapping[str, str]) -> list[Property]:
    """Those of ``org.systemd.property.NAME``, whose value is a GVariant text: ``true``,
    ``'words'``, ``uint64 5``, ``['a', 'b']``. A NAME in seconds (``TimeoutStopSec``) becomes
    microseconds, as in runc (docs/systemd.md, "Auxiliary properties")."""
    made = []
    for key, text in annotations.items():
        if key.startswith(_ANNOTATION):
            name = key.removeprefix(_ANNOTATION)
            signature, value = _variant(text.strip(), key)
            if name.endswith("Sec") and not name.endswith("USec") and signature in "iuxtd":
                name, signature = f"{name.removesuffix('Sec')}USec", "t"
                value = int(value * _SECOND_US)
            made.append((name, (signature, value)))
    return made


_WORDS = {"int32": "i", "uint32": "u", "int64": "x", "uint64": "t"}


def _variant(text: str, key: str) -> tuple[str, Any]:
    if text in ("true", "false"):
        return "b", text == "true"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return "s", text[1:-1]
    if text.startswith("[") and text.endswith("]"):
        members = [part.strip() for part in text[1:-1].split(",") if part.strip()]
        values = [_variant(member, key) for member in members]
        kinds = {kind for kind, _ in values} or {"s"}
        if len(kinds) == 1:
            return f"a{kinds.pop()}", [value for _, value in values]
    word, _, number = text.rpartition(" ")
    signature = _WORDS.get(word or "int32")
    if signature and number.lstrip("-").isdecimal():
        return signature, int(number)
    raise SpecError(f"annotations[{key!r}]: {text!r} is no GVariant text that can be read here")


def _quota(quota: int, period: int) -> Iterator[tuple[str, tuple[str, int]]]:
    """systemd keeps whole percents: rounded up, as in runc, so that it never takes from what the
    file gives."""
    yield "CPUQuotaPeriodUSec", ("t", period)
    per_second = _INFINITY
    if quota > 0:
        per_second = -(-quota * _SECOND_US // period)
        per_second = -(-per_second // 10_000) * 10_000
    yield "CPUQuotaPerSecUSec", ("t", per_second)


def _size(value: int) -> tuple[str, int]:
    return "t", _INFINITY if value < 0 else value


def _mask(text: str) -> list[int]:
    """Bytes of a bit mask, lowest first."""
    bits = sum(1 << number for number in set(cpu_list(text)))
    return list(bits.to_bytes((bits.bit_length() + 7) // 8 or 1, "little"))


_UNIFIED_SIZES = {
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.max": "MemoryMax",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}


def _unified(name: str, value: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """What systemd has no property for is in the file alone."""
    if name in _UNIFIED_SIZES:
        yield _UNIFIED_SIZES[name], _size(-1 if value == "max" else int(value))
    elif name == "cpu.weight":
        yield "CPUWeight", ("t", int(value))
    elif name == "cpu.max":
        quota, _, period = value.partition(" ")
        yield from _quota(-1 if quota == "max" else int(quota), int(period or limits.PERIOD_US))
    elif name == "cpuset.cpus":
        yield "AllowedCPUs", ("ay", _mask(value))
    elif name == "cpuset.mems":
        yield "AllowedMemoryNodes", ("ay", _mask(value))
