"""`linux.seccomp` (config-linux.md, "Seccomp"; the names are those of libseccomp 2.6)."""

from __future__ import annotations

from runtime.oci.config.check import (
    UINT32,
    UINT64,
    Invalid,
    absolute,
    array,
    fields,
    integer,
    one_of,
    text,
)
from runtime.security.seccomp import ACTIONS, FLAGS, OPERATORS

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ARCHITECTURES", "SECCOMP"]

ARCHITECTURES = frozenset(
    [
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_MIPS",
        "SCMP_ARCH_MIPS64",
        "SCMP_ARCH_MIPS64N32",
        "SCMP_ARCH_MIPSEL",
        "SCMP_ARCH_MIPSEL64",
        "SCMP_ARCH_MIPSEL64N32",
        "SCMP_ARCH_PPC",
        "SCMP_ARCH_PPC64",
        "SCMP_ARCH_PPC64LE",
        "SCMP_ARCH_S390",
        "SCMP_ARCH_S390X",
        "SCMP_ARCH_PARISC",
        "SCMP_ARCH_PARISC64",
        "SCMP_ARCH_RISCV64",
        "SCMP_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K",
        "SCMP_ARCH_SH",
        "SCMP_ARCH_SHEB",
    ]
)
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")


def _rule(value: dict[str, Any]) -> None:
    if value.get("errnoRet") and value["action"] not in _WITH_ERRNO:
        raise Invalid(f"{value['action']} takes no error number", ".errnoRet")


def _filter(value: dict[str, Any]) -> None:
    if value.get("defaultErrnoRet") and value["defaultAction"] not in _WITH_ERRNO:
        raise Invalid(f"{value['defaultAction']} takes no error number", ".defaultErrnoRet")
    if value.get("listenerMetadata") and not value.get("listenerPath"):
        raise Invalid("is for a listener, and there is no listenerPath", ".listenerMetadata")


def _action(value: Any) -> None:
    if value == "SCMP_ACT_NOTIFY":
        raise Invalid("SCMP_ACT_NOTIFY is not supported by this runtime")
    _known_action(value)


_known_action = one_of(ACTIONS)
_errno = integer(0, 4095)  # MAX_ERRNO, include/linux/err.h
_word = integer(*UINT64)

SECCOMP = fields(
    "defaultAction",
    _filter,
    defaultAction=_action,
    defaultErrnoRet=_errno,
    architectures=array(one_of(ARCHITECTURES)),
    flags=array(one_of(FLAGS)),
    listenerPath=absolute,
    listenerMetadata=text,
    syscalls=array(
        fields(
            "names action",
            _rule,
            names=array(text, least=1),
            action=_action,
            errnoRet=integer(*UINT32),
            args=array(
                fields(
                    "index value op",
                    index=integer(0, 5),
                    value=_word,
                    valueTwo=_word,
                    op=one_of(OPERATORS),
                )
            ),
        )
    ),
)
