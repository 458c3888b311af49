"""Device rules as an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE.

The kernel runs it for each open and mknod of a device node with `struct bpf_cgroup_dev_ctx`
(include/uapi/linux/bpf.h): access and type in one word, then major and minor; 1 allows, 0 denies.

runc and crun walk the rules from the last to the first and let the first match decide for the
whole access; this one strikes the allowed bits from those asked for and goes on with the rest, so
that ``r`` allowed by one rule and ``w`` by another are ``rw``, as in the v1 controller. The
instructions are those of Documentation/bpf/standardization/instruction-set.rst; no loop, no
helper, no memory but the context, so that the verifier has nothing to object to.
"""

from __future__ import annotations

import struct
import sys

from runtime.cgroups.devices import ALL

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.cgroups.devices import DeviceRule

    Instruction = tuple[int, int, int, int]

__all__ = ["AND", "EXIT", "JEQ", "JNE", "LOAD_WORD", "MOV", "MOV_REG", "RSH", "assemble", "program"]

# Opcodes: class | operation | source.
LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
MOV = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
MOV_REG = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
AND = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
RSH = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
JEQ = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JNE = 0x55  # BPF_JMP | BPF_JNE | BPF_K
EXIT = 0x95  # BPF_JMP | BPF_EXIT

_RESULT, _CONTEXT, _TYPE, _PENDING, _MAJOR, _MINOR = range(6)
"""Registers. `_PENDING`: the bits of access that no rule has allowed yet."""

_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR


def assemble(rules: Sequence[DeviceRule]) -> bytes:
    """The program as an array of `struct bpf_insn`, in this machine's byte order."""
    return b"".join(
        struct.pack("=BBhi", opcode, _nibbles(registers), offset, immediate)
        for opcode, registers, offset, immediate in program(rules)
    )


def _nibbles(registers: int) -> int:
    """The two registers are bit fields: the first is the high half of the byte on s390x."""
    if sys.byteorder == "little":
        return registers
    return (registers & 0xF) << 4 | registers >> 4


def program(rules: Sequence[DeviceRule]) -> list[Instruction]:
    """Instructions (opcode, source << 4 | destination, offset, immediate)."""
    made = [
        (LOAD_WORD, _CONTEXT << 4 | _TYPE, 0, 0),
        (MOV_REG, _TYPE << 4 | _PENDING, 0, 0),
        (AND, _TYPE, 0, 0xFFFF),
        (RSH, _PENDING, 0, 16),
        (LOAD_WORD, _CONTEXT << 4 | _MAJOR, 4, 0),
        (LOAD_WORD, _CONTEXT << 4 | _MINOR, 8, 0),
    ]
    for rule in reversed(rules):
        block = _block(rule)
        made += block
        if block[0][0] == MOV and rule.access == ALL:
            return made  # speaks of everything: no rule before it counts, and none would be reached
    return [*made, *_answer(False)]


def _block(rule: DeviceRule) -> list[Instruction]:
    """What decides one rule, or falls through to the next."""
    conditions: list[tuple[int, int]] = []
    if rule.kind != "a":
        conditions.append((_TYPE, _TYPES[rule.kind]))
    if rule.major is not None:
        conditions.append((_MAJOR, rule.major))
    if rule.minor is not None:
        conditions.append((_MINOR, rule.minor))
    if rule.access == ALL:
        body: list[Instruction] = []
    elif rule.allow:
        # Strike what it allows; if that was not all, the next rule has the word.
        body = [(AND, _PENDING, 0, ALL & ~rule.access), (JNE, _PENDING, 2, 0)]
    else:
        body = [
            (MOV_REG, _PENDING << 4 | _RESULT, 0, 0),
            (AND, _RESULT, 0, rule.access),
            (JEQ, _RESULT, 2, 0),
        ]
    body += _answer(rule.allow)
    length = len(conditions) + len(body)
    return [
        *(
            (JNE, where, length - index - 1, wanted)
            for index, (where, wanted) in enumerate(conditions)
        ),
        *body,
    ]


def _answer(allow: bool) -> list[Instruction]:
    return [(MOV, _RESULT, 0, int(allow)), (EXIT, 0, 0, 0)]
