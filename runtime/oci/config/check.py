"""The words in which the schema of config.json is written.

A *check* takes a value and returns, or raises `Invalid` with the reason. The checks that go into
an object or an array put the way to the offending value together while the exception passes
through them, so that a config that is good, as nearly all are, never pays for a path.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    Check = Callable[[Any], object]

__all__ = [
    "INT32",
    "INT64",
    "UINT16",
    "UINT32",
    "UINT64",
    "Invalid",
    "absolute",
    "array",
    "boolean",
    "fields",
    "integer",
    "items",
    "key_path",
    "mapping",
    "one_of",
    "text",
]

INT32 = (-(1 << 31), (1 << 31) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)
UINT16 = (0, (1 << 16) - 1)
UINT32 = (0, (1 << 32) - 1)
UINT64 = (0, (1 << 64) - 1)

_KINDS = {
    bool: "a boolean",
    dict: "an object",
    float: "a number with a fraction or an exponent",
    int: "a number",
    list: "an array",
    str: "a string",
    type(None): "null",
}


class Invalid(Exception):
    """A value that cannot be, and where it is, innermost step first: `[3]`, `.args`, `.process`."""

    def __init__(self, reason: str, *path: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = list(path)


def _expected(what: str, value: object) -> Invalid:
    return Invalid(f"must be {what}, not {_KINDS.get(type(value), 'that')}")


def boolean(value: Any) -> None:
    """true or false."""
    if type(value) is not bool:
        raise _expected("true or false", value)


def text(value: Any) -> None:
    """A string that the kernel can be given: no zero byte, and no half of a surrogate pair."""
    if type(value) is not str:
        raise _expected("a string", value)
    if "\0" in value:
        raise Invalid("has a zero byte, which no argument of a system call can carry")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Invalid("has half of a surrogate pair, which is no character") from None


def absolute(value: Any) -> None:
    """A path that begins with a slash."""
    text(value)
    if value[:1] != "/":
        raise Invalid(f"must be an absolute path, not {value!r}")


def integer(low: int, high: int) -> Check:
    """A whole number of this range."""

    def check(value: Any) -> None:
        if type(value) is not int:
            raise _expected("a whole number", value)
        if not low <= value <= high:
            raise Invalid(f"must be between {low} and {high}, not {value}")

    return check


def one_of(names: Collection[str]) -> Check:
    """One of these strings."""

    def check(value: Any) -> None:
        if type(value) is not str:
            raise _expected("a string", value)
        if value not in names:
            raise Invalid(f"{value!r} is none of {', '.join(sorted(names))}")

    return check


def array(each: Check, *, least: int = 0) -> Check:
    """An array of such values."""

    def check(value: Any) -> None:
        items(value, each)
        if len(value) < least:
            raise Invalid("is empty" if least == 1 else f"must have at least {least} elements")

    return check


def items(value: Any, each: Check) -> None:
    """Check that a value is an array, and each element of it."""
    if type(value) is not list:
        raise _expected("an array", value)
    index = 0
    try:
        for index, element in enumerate(value):  # noqa: B007 - the except clause uses it
            each(element)
    except Invalid as error:
        error.path.append(f"[{index}]")
        raise


def mapping(each: Check, key: Check = text) -> Check:
    """An object with any keys."""

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise _expected("an object", value)
        for name, element in value.items():
            try:
                key(name)
                each(element)
            except Invalid as error:
                error.path.append(key_path(name))
                raise

    return check


def fields(required: str = "", also: Check | None = None, **checks: Check) -> Check:
    """An object with known keys, some of them required (names, separated by spaces).

    null counts as not there, as for Go's decoder, for which the specification's types are
    written; such a key is taken out, so that nobody meets it later. Keys that are not known are
    left alone (config.md, "Extensibility"). `also` checks the object as a whole, at the end."""
    names = required.split()

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise _expected("an object", value)
        empty = [key for key, element in value.items() if element is None and key in checks]
        for key in empty:
            del value[key]
        for key in names:
            if key not in value:
                raise Invalid("is required", f".{key}")
        key = ""
        try:
            for key, element in value.items():
                if key in checks:
                    checks[key](element)
        except Invalid as error:
            error.path.append(key_path(key))
            raise
        if also is not None:
            also(value)

    return check


def key_path(key: str) -> str:
    """How a path goes on into a member: `.name`, or `["odd name"]`."""
    if key.isidentifier():
        return f".{key}"
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'["{quoted}"]'
