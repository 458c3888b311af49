"""What of a build's context is left out: .dockerignore (Docker's reference, ".dockerignore files").

Its patterns are those of .gitignore, with one difference: each begins at the context's root.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path

import pathspec

from runtime.errors import DockerfileError

__all__ = ["ignored"]


def ignored(context: Path, dockerfile: Path) -> Callable[[str], bool]:
    """Whether a path below the context is left out. A file beside the Dockerfile, called as it is
    with .dockerignore behind, counts before the context's.

    Raises DockerfileError for a pattern that is none."""
    for path in (
        dockerfile.with_name(f"{dockerfile.name}.dockerignore"),
        context / ".dockerignore",
    ):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise DockerfileError(str(path), 0, f"cannot be read: {error}") from error
        return _matcher(path, lines)
    return lambda path: False


def _matcher(path: Path, lines: list[str]) -> Callable[[str], bool]:
    patterns: list[pathspec.Pattern] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        sign = "!" if text.startswith("!") else ""
        name = posixpath.normpath(text.removeprefix("!").strip()).lstrip("/")
        if name in ("", "."):
            continue
        try:
            patterns += pathspec.PathSpec.from_lines("gitignore", [f"{sign}/{name}"]).patterns
        except ValueError as error:
            raise DockerfileError(str(path), number, f"no pattern: {error}") from error
    spec = pathspec.PathSpec(patterns)
    return spec.match_file
