"""JSON in a process that lives for ten milliseconds.

`import json` brings `re` and `enum` and takes longer than a container takes to start. The two C
halves that `json` stands on, `_json.make_scanner` and `_json.make_encoder`, need neither; `json`
itself is imported only to say what is wrong with a text, or where a Python has no such halves.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["JsonError", "dumps", "loads", "pretty"]

_SPACE = " \t\n\r"


class JsonError(ValueError):
    """The text is no JSON; the message has line, column and reason."""


def _refuse(constant: str) -> float:
    raise JsonError(f"{constant} is no JSON (RFC 8259, section 6)")


class _Context:
    """What `_json.make_scanner` asks of its owner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)


def _no_json(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_halves: list[Any] = []


def _load() -> list[Any]:
    """The two halves, loaded when they are first used: many a verb has nothing to read."""
    try:
        import _json

        scan = _json.make_scanner(_Context)  # type: ignore[arg-type]  # any object will do
        encode = _json.make_encoder(
            None,
            _no_json,
            _json.encode_basestring_ascii,
            None,
            ": ",
            ", ",
            False,
            False,
            False,
        )
        _halves.extend((scan, lambda value: "".join(encode(value, 0))))
    except (ImportError, AttributeError, TypeError):  # another Python, or its C halves have changed
        import json

        _halves.extend((None, json.dumps))
    return _halves


def loads(text: str) -> Any:
    """The value of a JSON text. Raises JsonError."""
    scan = (_halves or _load())[0]
    if scan is None:
        return _slow(text)
    try:
        value, end = scan(text, len(text) - len(text.lstrip(_SPACE)))
    except (StopIteration, SystemError, ValueError, RecursionError):
        return _slow(text)  # the C half cannot make its error without the Python half
    return value if end == len(text) or not text[end:].strip(_SPACE) else _slow(text)


def _slow(text: str) -> Any:
    import json

    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise JsonError(f"line {error.lineno} column {error.colno}: {error.msg}") from None
    except JsonError:
        raise
    except ValueError as error:  # an integer of more digits than Python takes
        raise JsonError(str(error).partition(":")[0]) from None
    except RecursionError:
        raise JsonError("nested too deeply") from None


def dumps(value: Any) -> str:
    """The value as JSON on one line, in ASCII."""
    text: str = (_halves or _load())[1](value)
    return text


def pretty(value: dict[str, Any]) -> str:
    """An object as JSON with one line for each of its members."""
    lines = ",\n".join(f"  {dumps(key)}: {dumps(value)}" for key, value in value.items())
    return f"{{\n{lines}\n}}"
