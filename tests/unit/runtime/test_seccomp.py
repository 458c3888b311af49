"""Profiles compiled, without loading one: what the programs decide, by running them here."""

from __future__ import annotations

import errno
import os
import platform
import struct
from pathlib import Path
from typing import Any

import pytest

from runtime import SpecError
from runtime.capabilities import DEFAULT
from runtime.security import seccomp
from runtime.security.seccomp import compile_profile, default_profile

X86_64 = 0xC000003E
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0
NUMBERS = {
    "read": 0,
    "personality": 135,
    "clone": 56,
    "mount": 165,
    "unshare": 272,
    "socket": 41,
    "clone3": 435,
    "keyctl": 250,
    "chroot": 161,
}

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the numbers here are those of x86_64"
)


def decide(program: bytes, name: str | int, *arguments: int, arch: int = X86_64) -> int:
    """What the kernel would do: classic BPF (Documentation/networking/filter.rst) over a
    `struct seccomp_data`."""
    number = NUMBERS[name] if isinstance(name, str) else name
    data = struct.pack("=iIQ6Q", number, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == 0x20:  # ld [k]
            accumulator = int(struct.unpack_from("=I", data, k)[0])
        elif operation == 0x54:  # and #k
            accumulator &= k
        elif operation == 0x05:  # ja
            at += k
        elif operation in (0x15, 0x25, 0x35):  # jeq, jgt, jge
            found = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}
            at += yes if found[operation] else no
        elif operation == 0x06:  # ret
            return k
        else:
            raise AssertionError(f"instruction {operation:#x}")


def program(profile: dict[str, Any]) -> bytes:
    return compile_profile(profile, "")[0]


def test_the_default_profile_decides_as_dockers() -> None:
    filter_ = program(default_profile(DEFAULT))
    refused = ERRNO | errno.EPERM
    assert decide(filter_, "read") == ALLOW
    assert decide(filter_, "mount") == decide(filter_, "unshare") == refused
    assert decide(filter_, "keyctl") == refused
    assert decide(filter_, "clone", 0x11) == ALLOW
    assert decide(filter_, "clone", 0x10000011) == refused  # a user namespace
    assert decide(filter_, "clone3") == ERRNO | errno.ENOSYS
    assert decide(filter_, "socket", 2) == ALLOW
    assert decide(filter_, "socket", 40) == refused  # AF_VSOCK
    assert decide(filter_, "personality", 0) == ALLOW
    assert decide(filter_, "personality", 0x0040000) != ALLOW  # ADDR_NO_RANDOMIZE
    assert decide(filter_, 9999) == ERRNO | errno.ENOSYS
    assert decide(filter_, "read", arch=0xC00000B7) == KILL  # aarch64


def test_a_capability_brings_its_system_calls() -> None:
    filter_ = program(default_profile(DEFAULT | {"CAP_SYS_ADMIN"}))
    for name in ("mount", "unshare", "clone3"):
        assert decide(filter_, name) == ALLOW
    assert decide(filter_, "clone", 0x10000000) == ALLOW
    assert decide(filter_, "keyctl") == ERRNO | errno.EPERM
    without = program(default_profile(DEFAULT - {"CAP_SYS_CHROOT"}))
    assert decide(without, "chroot") == ERRNO | errno.EPERM
    assert decide(filter_, "chroot") == ALLOW


def test_arguments_of_one_rule_go_together_and_of_one_index_apart() -> None:
    def rule(*args: dict[str, Any]) -> dict[str, Any]:
        some = {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": list(args)}
        return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [some]}

    two = {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}
    both = program(rule(two, {"index": 1, "value": 3, "op": "SCMP_CMP_GE"}))
    assert decide(both, "socket", 2, 3) == ERRNO | 5
    assert decide(both, "socket", 2, 1) == ALLOW
    either = program(rule(two, {"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}))
    assert decide(either, "socket", 2) == decide(either, "socket", 7) == ERRNO | 5
    assert decide(either, "socket", 3) == ALLOW


def test_unknown_names_are_warnings() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_NONE"],
        "syscalls": [{"names": ["read", "no_such"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    made, _, warnings = compile_profile(profile, "")
    assert decide(made, "read") == 0x80000000
    assert warnings == (
        "linux.seccomp.architectures: SCMP_ARCH_NONE is not known, left out",
        "linux.seccomp.syscalls[0]: no system call 'no_such' is known, left out",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"defaultAction": "SCMP_ACT_NO"}, r"linux\.seccomp\.defaultAction: 'SCMP_ACT_NO'"),
        ({"defaultErrnoRet": 5}, r"defaultErrnoRet: has no meaning with SCMP_ACT_ALLOW"),
        ({"flags": ["X"]}, r"linux\.seccomp\.flags: 'X'"),
        ({"listenerPath": "/x"}, r"listenerPath: this runtime has no notification"),
        (
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]},
            r"syscalls\[0\]\.action: this runtime has no notification",
        ),
        (
            {
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "op": ""}]}
                ]
            },
            r"syscalls\[0\]\.args\[0\]: needs an index from 0 to 5",
        ),
    ],
)
def test_a_profile_that_cannot_be_says_where(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        program({"defaultAction": "SCMP_ACT_ALLOW", **changes})


def test_a_program_is_kept_and_a_foreign_file_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = {"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}
    kept: dict[bytes, Any] = {}
    monkeypatch.setattr(seccomp, "_kept", kept)
    made = compile_profile(profile, str(tmp_path))
    assert made[1] == 2
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    compiled: list[int] = []
    monkeypatch.setattr(seccomp, "_compile", lambda _: compiled.append(1) or made)
    for damage in (None, "w", "mode"):
        kept.clear()
        compiled.clear()
        if damage == "w":
            path.write_bytes(path.read_bytes()[:-3])
        elif damage == "mode":
            path.chmod(0o666)
        assert compile_profile(profile, str(tmp_path)) == made
        assert len(compiled) == (0 if damage is None else 1)
    kept.clear()
    path.write_bytes(os.urandom(10))
    assert compile_profile(profile, str(tmp_path)) == made
