"""Mistakes in what a person wrote, each as one sentence that names the key and the choices."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["closest", "sentence"]

Location = tuple[int | str, ...]

_WORDS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "string_pattern_mismatch": "must match {pattern}",
}
"""pydantic's types of errors, whose own words are about Python's types."""


def closest(wrong: str, choices: Iterable[str]) -> str:
    """``did you mean "x"? choices: a, b, x`` for a message."""
    choices = sorted(choices)
    near = difflib.get_close_matches(wrong, choices, n=1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}choices: {', '.join(choices)}"


def sentence(error: ValidationError, keys_at: Callable[[Location], Iterable[str]]) -> str:
    """The first mistake of a pydantic error. `keys_at` gives the keys that could stand there."""
    errors = _without_consequences(_without_lost_branches(error.errors(include_url=False)))
    # The unknown key, where there is one, is the cause.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = _key(first["loc"])
    others = len({_key(e["loc"]) for e in errors}) - 1
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}; {closest(str(first['loc'][-1]), keys_at(first['loc']))}{more}"
    if first["type"] == "missing":
        return f"key {key} is missing{more}"
    words = _WORDS.get(first["type"])
    message = words.format(**first.get("ctx", {})) if words else _own_words(first["msg"])
    given = "" if isinstance(first["input"], Mapping | list) else f", got {first['input']!r}"
    return f"{key + ': ' if key else ''}{message}{given}{more}"


def _own_words(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def _without_consequences(errors: list[Any]) -> list[Any]:
    """A list whose only element is wrong is reported as empty too."""
    places = [e["loc"] for e in errors]
    return [e for e in errors if not any(_within(place, e["loc"]) for place in places)]


def _within(inner: Location, outer: Location) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _without_lost_branches(errors: list[Any]) -> list[Any]:
    """A union reports an error for each branch: those that want another type than was given say
    nothing, if another branch took the type and found fault with the value."""
    faults = {
        tuple(e["loc"][:n]) for e in errors if not _wants_other(e) for n in range(len(e["loc"]))
    }
    return [e for e in errors if not (_wants_other(e) and e["loc"][:-1] in faults)]


def _wants_other(error: Any) -> bool:
    return error["type"].endswith("_type") and _is_branch(error["loc"][-1])


def _is_branch(part: int | str) -> bool:
    """Names of union branches are pydantic's, not the user's."""
    return isinstance(part, str) and (part in {"int", "constrained-int"} or "[" in part)


def _key(loc: Location) -> str:
    parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc if not _is_branch(p)]
    return "".join(parts).removeprefix(".")
