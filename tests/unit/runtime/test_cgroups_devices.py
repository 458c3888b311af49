"""Device rules: checked, as lines for v1, and as a program that an interpreter runs here."""

from __future__ import annotations

import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import SpecError
from runtime.cgroups import devicefilter as df
from runtime.cgroups.devices import ALL, ALLOWED, DEFAULT, MKNOD, READ, WRITE, parse, v1_plan

TYPES = {"b": 1, "c": 2}


def run(code: bytes, kind: str, major: int, minor: int, access: int) -> bool:
    """The instructions that the assembler uses, as the kernel would run them."""
    context = struct.pack("=III", access << 16 | TYPES[kind], major, minor)
    registers: list[Any] = [None] * 11
    registers[1] = "context"
    counter = 0
    for _ in range(len(code) // 8 + 1):  # there are no jumps back
        opcode, nibbles, offset, value = struct.unpack_from("=BBhi", code, counter * 8)
        counter += 1
        target, source = nibbles & 15, nibbles >> 4
        if sys.byteorder == "big":
            target, source = source, target
        match opcode:
            case df.LOAD_WORD:
                assert registers[source] == "context"
                registers[target] = struct.unpack_from("=I", context, offset)[0]
            case df.MOV:
                registers[target] = value
            case df.MOV_REG:
                registers[target] = registers[source]
            case df.AND:
                registers[target] &= value
            case df.RSH:
                registers[target] >>= value
            case df.JEQ:
                counter += offset if registers[target] == value else 0
            case df.JNE:
                counter += offset if registers[target] != value else 0
            case df.EXIT:
                return bool(registers[0])
            case _:
                raise AssertionError(f"opcode {opcode:#x}")
    raise AssertionError("it does not end")


def allowed(rules: Any, kind: str, major: int, minor: int, access: int) -> bool:
    return run(df.assemble(parse(rules)), kind, major, minor, access)


def meant(rules: Any, kind: str, major: int, minor: int, access: int) -> bool:
    """The specification, bit by bit: the last rule that speaks of it decides; else no."""
    for bit in (MKNOD, READ, WRITE):
        verdict = False
        for rule in parse(rules):
            if (
                rule.kind in ("a", kind)
                and rule.major in (None, major)
                and rule.minor in (None, minor)
                and rule.access & bit
            ):
                verdict = rule.allow
        if access & bit and not verdict:
            return False
    return True


NUMBERS = st.one_of(st.none(), st.integers(0, 2))
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "allow": st.booleans(),
            "type": st.sampled_from(["a", "b", "c"]),
            "major": NUMBERS,
            "minor": NUMBERS,
            "access": st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
        }
    ),
    max_size=8,
)


@given(RULES, st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3), st.integers(1, ALL))
def test_the_program_says_what_the_rules_do(
    rules: Any, kind: str, major: int, minor: int, access: int
) -> None:
    verdict = allowed(rules, kind, major, minor, access)
    assert verdict == meant(rules, kind, major, minor, access)


def v1_allows(lines: tuple[list[str], list[str]], kind: str, numbers: str, access: int) -> bool:
    """devices.rst: a default, and exceptions to it that are asked bit by bit."""
    deny, allow = lines
    default = allow == ["a"]
    left = access
    for line in deny if default else allow:
        what, where, letters = line.split()
        parts = zip(where.split(":"), numbers.split(":"), strict=True)
        if what == kind and all(one in ("*", other) for one, other in parts):
            bits = sum({"m": MKNOD, "r": READ, "w": WRITE}[letter] for letter in letters)
            if default and bits & access:
                return False
            left &= ~bits
    return default or not left


@given(RULES, st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3), st.integers(1, ALL))
def test_v1s_lines_say_the_same_or_it_is_refused(
    rules: Any, kind: str, major: int, minor: int, access: int
) -> None:
    try:
        lines = v1_plan(parse(rules))
    except SpecError as error:
        assert "exception" in str(error)
        return
    said = v1_allows(lines, kind, f"{major}:{minor}", access)
    assert said == meant(rules, kind, major, minor, access)


def test_the_default_is_what_docker_gives() -> None:
    assert allowed(DEFAULT, "c", 1, 3, READ | WRITE)  # null
    assert allowed(DEFAULT, "c", 136, 77, READ | WRITE)  # a pseudo-terminal
    assert allowed(DEFAULT, "b", 8, 0, MKNOD)
    assert not allowed(DEFAULT, "b", 8, 0, READ)
    assert not allowed(DEFAULT, "c", 1, 1, READ)  # mem
    assert not allowed(DEFAULT, "c", 10, 200, READ | WRITE)  # tun
    assert v1_plan(parse(DEFAULT)) == (
        ["a"],
        [
            *("c *:* m", "b *:* m"),
            *(f"c 1:{minor} rwm" for minor in (3, 5, 7, 8, 9)),
            *("c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm"),
        ],
    )


def test_what_is_always_allowed_wins_over_a_config_that_says_less() -> None:
    assert allowed([{"allow": False, "access": "rwm"}, *ALLOWED], "c", 1, 3, READ)


def test_read_of_one_rule_and_write_of_another_are_both() -> None:
    rules = [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "w"},
    ]
    assert allowed(rules, "c", 1, 3, READ | WRITE)
    assert not allowed(rules, "c", 1, 3, READ | MKNOD)


def test_privileged_is_one_answer() -> None:
    code = df.program(parse([{"allow": False, "access": "rwm"}, {"allow": True, "access": "rwm"}]))
    assert [instruction[0] for instruction in code[-2:]] == [df.MOV, df.EXIT]
    assert len(code) == 8  # nothing behind it: the verifier refuses what is never reached
    assert v1_plan(parse([{"allow": True, "access": "rwm"}])) == ([], ["a"])


def test_v1_cannot_make_a_hole_in_a_wildcard() -> None:
    rules = [
        {"allow": True, "type": "c", "major": 1, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "w"},
    ]
    with pytest.raises(SpecError, match=r"'c 1:3 w' is a part of 'c 1:\* rwm'"):
        v1_plan(parse(rules))
    assert not allowed(rules, "c", 1, 3, WRITE)  # eBPF can
    assert allowed(rules, "c", 1, 3, READ)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"allow": True, "access": ""}, r"devices\[0\]\.access"),
        ({"allow": True, "access": "rx"}, r"devices\[0\]\.access"),
        ({"allow": True, "type": "p", "access": "r"}, r"devices\[0\]\.type"),
        ({"access": "r"}, r"devices\[0\]\.allow"),
        ({"allow": True, "access": "r", "major": -2}, r"devices\[0\]\.major"),
        ({"allow": True, "access": "r", "minor": 2**40}, r"devices\[0\]\.minor"),
        ({"allow": True, "access": "r", "minor": "3"}, r"devices\[0\]\.minor"),
    ],
)
def test_wrong_rules_name_the_field(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse([rule])
