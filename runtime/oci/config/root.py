"""The whole of config.json (config.md)."""

from __future__ import annotations

from runtime.oci.config.check import (
    INT32,
    Invalid,
    absolute,
    array,
    fields,
    integer,
    mapping,
    text,
)
from runtime.oci.config.linux import LINUX
from runtime.oci.config.mounts import MOUNTS, ROOT
from runtime.oci.config.process import PROCESS
from runtime.oci.config.rules import together

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CONFIG", "HOOKS"]

HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
"""The kinds of hooks, in the order of the life cycle."""

_NAME = 64
"""Bytes of a host or domain name (__NEW_UTS_LEN, include/uapi/linux/utsname.h)."""


def _version(value: Any) -> None:
    text(value)
    numbers = value.partition("-")[0].partition("+")[0].split(".")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise Invalid(f"{value!r} is no version such as 1.2.0 (semver.org)")
    if numbers[0] != "1":
        raise Invalid(f"{value!r} is not supported, this runtime knows version 1")


def _name(value: Any) -> None:
    text(value)
    if len(value.encode()) > _NAME:
        raise Invalid(f"has more than {_NAME} bytes, which the kernel does not take")


def _key(value: Any) -> None:
    text(value)
    if not value:
        raise Invalid("has an empty key")


_HOOK = array(
    fields(
        "path",
        path=absolute,
        args=array(text),
        env=array(text),
        timeout=integer(1, INT32[1]),
    )
)

CONFIG = fields(
    "ociVersion process root",
    together,
    ociVersion=_version,
    root=ROOT,
    mounts=MOUNTS,
    process=PROCESS,
    hostname=_name,
    domainname=_name,
    hooks=fields("", None, **dict.fromkeys(HOOKS, _HOOK)),
    annotations=mapping(text, _key),
    linux=LINUX,
)
