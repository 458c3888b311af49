"""A command line's options: enough of what runc's and crun's callers write, and no argparse.

An option is a tuple, (name, letter or "", kind, help). It is written `--name value`,
`--name=value`, `-l value`, and, as Go programs allow, `-name value`. A flag may be given a value
by `=` only (`--rootless=false`).
"""

from __future__ import annotations

from runtime.errors import UsageError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FLAG", "LIST", "NUMBER", "TEXT", "Option", "Parsed", "describe", "parse"]

FLAG, TEXT, NUMBER, LIST = "flag", "text", "number", "list"

Option = tuple[str, str, str, str]

_EMPTY: dict[str, Any] = {FLAG: False, TEXT: "", NUMBER: None}
_TRUE = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


class Parsed:
    """Options by name, and what was left of the line."""

    def __init__(self, values: dict[str, Any], rest: list[str], given: frozenset[str]) -> None:
        self.values = values
        self.rest = rest
        """Positional arguments."""
        self.given = given
        """Names of the options that were on the line."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse(line: list[str], options: tuple[Option, ...], *, leading: bool = False) -> Parsed:
    """Take the options out of a command line.

    With `leading`, the first word that is no option ends them: after it stands a command with
    options of its own. Raises UsageError for an option that is unknown or lacks its value."""
    values: dict[str, Any] = {name: _EMPTY.get(kind, ()) for name, _, kind, _ in options}
    known = {name: (name, kind) for name, _, kind, _ in options}
    known.update((letter, (name, kind)) for name, letter, kind, _ in options if letter)
    rest: list[str] = []
    given: set[str] = set()
    words = iter(line)
    for word in words:
        if word == "--":
            rest += words
        elif word[:1] != "-" or word == "-":
            rest.append(word)
            if leading:
                rest += words
        else:
            key, equals, value = word.lstrip("-").partition("=")
            if key not in known:
                raise UsageError(f"unknown option {word.partition('=')[0]}")
            name, kind = known[key]
            given.add(name)
            if kind == FLAG:
                values[name] = _flag(name, value) if equals else True
                continue
            if not equals:
                value = next(words, "\0")
                if value == "\0":
                    raise UsageError(f"option --{name} needs a value")
            if kind == LIST:
                values[name] = (*values[name], value)
            else:
                values[name] = _number(name, value) if kind == NUMBER else value
    return Parsed(values, rest, frozenset(given))


def _flag(name: str, value: str) -> bool:
    if value.lower() not in _TRUE:
        raise UsageError(f"option --{name}: {value!r} is neither true nor false")
    return _TRUE[value.lower()]


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"option --{name}: {value!r} is no number") from None


def describe(options: tuple[Option, ...]) -> str:
    """The options for a person, one a line."""
    lines = []
    for name, letter, kind, text in options:
        left = f"--{name}" + (f", -{letter}" if letter else "")
        left += "" if kind == FLAG else f" {kind.upper()}"
        lines.append(f"  {left:<30} {text}")
    return "\n".join(lines)
