"""Reading a Dockerfile: instructions with their lines, flags and words.

Why not a library: `dockerfile` on PyPI is BuildKit's own parser, but brings a Go runtime into the
process, which installs signal handlers; `dockerfile-parse` knows neither flags, nor ${a:-b}, nor
says where an error is. The rules are those of Docker's reference ("Dockerfile reference", Format,
Environment replacement).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import BuildError, DockerfileError

__all__ = ["Instruction", "expand", "parse", "raw_words", "words"]

Lookup = Callable[[str], str | None]

_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(\S.*?)\s*")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)")
_HEREDOC = re.compile(r"\d*<<-?[^<\s]\S*")
_VARIABLE = re.compile(r"[A-Za-z_]\w*|\d")
_BRACED = re.compile(r"([A-Za-z_]\w*|\d)(?:(:?[-+?])(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction."""

    file: str
    line: int
    """Where it begins, from 1."""
    keyword: str
    """In capitals."""
    flags: tuple[tuple[str, str], ...]
    """``--name=value`` before the arguments."""
    rest: str
    """The arguments as they stand, continuation lines joined."""
    escape: str

    @property
    def json(self) -> tuple[str, ...] | None:
        """The arguments, if they are written as a JSON list of texts ("exec form")."""
        if not self.rest.startswith("["):
            return None
        try:
            value = json.loads(self.rest)
        except ValueError:
            return None
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        return None

    @property
    def text(self) -> str:
        """The whole instruction, as history shows it."""
        flags = "".join(f"--{name}={value} " for name, value in self.flags)
        return f"{self.keyword} {flags}{self.rest}"

    def fail(self, reason: str) -> DockerfileError:
        """The error to raise about it."""
        return DockerfileError(self.file, self.line, f"{self.keyword}: {reason}")


def parse(path: Path) -> list[Instruction]:
    """The instructions of a Dockerfile. Raises DockerfileError with the line."""
    file = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BuildError(file, 0, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DockerfileError(file, 0, f"is no UTF-8 text: {error}") from error
    lines = text.splitlines()
    escape = _escape(file, lines)
    found = []
    pending: list[str] = []
    start = 0
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if bare.startswith("#") or not bare:
            continue  # within an instruction too: a comment or nothing does not end it
        if not pending:
            start = number
        joined = line.rstrip()
        if joined.endswith(escape):
            pending.append(joined[:-1])
            continue
        pending.append(line)
        found.append(_instruction(file, start, "".join(pending).strip(), escape))
        pending = []
    if pending:
        found.append(_instruction(file, start, "".join(pending).strip(), escape))
    if not found:
        raise DockerfileError(file, 1, "there is no instruction in it")
    return found


def _escape(file: str, lines: list[str]) -> str:
    """The escape character; directives stand before everything else."""
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape":
            if match[2] not in ("\\", "`"):
                raise DockerfileError(file, number, f"escape={match[2]}: must be \\ or `")
            return match[2]
    return "\\"


def _instruction(file: str, line: int, text: str, escape: str) -> Instruction:
    keyword, _, rest = text.partition(" ") if " " in text else text.partition("\t")
    rest = rest.strip()
    flags = []
    while match := _FLAG.match(rest):
        flags.append((match[1], match[2] if match[2] is not None else "true"))
        rest = rest[match.end() :]
    found = Instruction(file, line, keyword.upper(), tuple(flags), rest, escape)
    if not re.fullmatch(r"[A-Z]+", found.keyword):
        raise DockerfileError(file, line, f"{keyword!r} is no instruction")
    if found.keyword in ("ADD", "COPY", "RUN") and any(
        _HEREDOC.fullmatch(word) for word in rest.split()
    ):
        raise found.fail("here-documents are not supported: put the text in a file and COPY it")
    if not rest:
        raise found.fail("needs arguments")
    return found


def raw_words(instruction: Instruction, text: str | None = None) -> list[str]:
    """The arguments split at white space outside quotes; quotes and variables stay."""
    found: list[str] = []
    word = ""
    for piece, space in _pieces(instruction, instruction.rest if text is None else text):
        if space:
            found += [word] if word else []
            word = ""
        else:
            word += piece
    return [*found, word] if word else found


def words(instruction: Instruction, lookup: Lookup) -> list[str]:
    """The arguments, quotes taken off and variables replaced."""
    return [expand(instruction, word, lookup) for word in raw_words(instruction)]


def _pieces(instruction: Instruction, text: str) -> list[tuple[str, bool]]:
    """Quoted stretches and single characters, each with whether it separates."""
    found = []
    position = 0
    while position < len(text):
        character = text[position]
        end = position + 1
        if character == instruction.escape:
            end = position + 2
        elif character in "'\"":
            end = _closing(instruction, text, position)
        elif text.startswith("${", position):
            end = _brace(instruction, text, position)
        found.append((text[position:end], character.isspace()))
        position = end
    return found


def _closing(instruction: Instruction, text: str, start: int) -> int:
    position = start + 1
    while position < len(text):
        if text[position] == text[start]:
            return position + 1
        if text[position] == instruction.escape and text[start] == '"':
            position += 1
        position += 1
    raise instruction.fail(f"a quote is not closed: {text[start:]}")


def _brace(instruction: Instruction, text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        depth += text.startswith("${", position) - (text[position] == "}" and depth > 0)
        if depth == 0:
            return position + 1
    raise instruction.fail(f"a brace is not closed: {text[start:]}")


def expand(instruction: Instruction, text: str, lookup: Lookup) -> str:
    """The text with its quotes taken off and its variables replaced; those that are not set are
    empty. Raises DockerfileError."""
    return _Expander(instruction, lookup).expand(text)


class _Expander:
    def __init__(self, instruction: Instruction, lookup: Lookup) -> None:
        self._about = instruction
        self._lookup = lookup

    def expand(self, text: str, quoted: bool = False) -> str:
        escape = self._about.escape
        found = ""
        position = 0
        while position < len(text):
            character = text[position]
            if character == escape and position + 1 < len(text):
                following = text[position + 1]
                keep = quoted and following not in ('"', "$", escape)
                found += (character if keep else "") + following
                position += 2
            elif character == "'" and not quoted:
                end = _closing(self._about, text, position)
                found += text[position + 1 : end - 1]
                position = end
            elif character == '"' and not quoted:
                end = _closing(self._about, text, position)
                found += self.expand(text[position + 1 : end - 1], quoted=True)
                position = end
            elif character == "$":
                value, position = self._variable(text, position)
                found += value
            else:
                found += character
                position += 1
        return found

    def _variable(self, text: str, start: int) -> tuple[str, int]:
        if text.startswith("${", start):
            end = _brace(self._about, text, start)
            return self._braced(text[start + 2 : end - 1]), end
        match = _VARIABLE.match(text, start + 1)
        if match is None:
            return "$", start + 1
        return self._lookup(match[0]) or "", match.end()

    def _braced(self, inside: str) -> str:
        match = _BRACED.fullmatch(inside)
        if match is None:
            raise self._about.fail(
                f"${{{inside}}}: of the shell's forms only -, :-, +, :+, ? and :? are supported"
            )
        name, form, word = match.groups()
        value = self._lookup(name)
        if form is None:
            return value or ""
        there = bool(value) if form.startswith(":") else value is not None
        if form.endswith("+"):
            return self.expand(word) if there else ""
        if there:
            return value or ""
        if form.endswith("?"):
            raise self._about.fail(f"{name}: {self.expand(word) or 'is not set'}")
        return self.expand(word)
