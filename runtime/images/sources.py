"""What the flags of COPY and ADD say, and the archives that ADD unpacks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.images.compression import Decompressor
from runtime.images.copying import Copy
from runtime.images.dockerfile import Instruction
from runtime.images.layer import unpack
from runtime.images.merged import MergedView
from runtime.images.tarstream import UnpackLimits
from runtime.images.users import find_user
from runtime.images.whiteouts import OverlayForm

__all__ = ["flag_changes", "unpacked"]


def flag_changes(step: Instruction, flags: Mapping[str, str], image: MergedView) -> dict[str, Any]:
    """The fields of `Copy` that --chown and --chmod change. As with Docker, a user without a
    group gives the group the same number. Raises DockerfileError, SpecError."""
    found: dict[str, Any] = {}
    if "chown" in flags:
        user = find_user(image, flags["chown"])
        found["owner"] = (user.uid, user.gid if ":" in flags["chown"] else user.uid)
    if "chmod" in flags:
        if not re.fullmatch(r"[0-7]{3,4}", flags["chmod"]):
            raise step.fail(f"--chmod={flags['chmod']}: must be octal, such as 755")
        found["mode"] = int(flags["chmod"], 8)
    return found


def unpacked(
    copies: Sequence[Copy], folder: Path, form: OverlayForm, limits: UnpackLimits
) -> list[Copy]:
    """ADD: archives among the sources become what is in them, with its own owners; they are
    unpacked below `folder`. Raises LayerRefused."""
    found = []
    for copy in copies:
        for path in copy.paths:
            entry = copy.view.look(copy.view.resolve(path))
            if entry is None or entry.is_directory or not _is_tar(entry.real):
                found.append(replace(copy, paths=(path,)))
                continue
            tree = folder / str(len(found))
            tree.mkdir(mode=0o755)
            with entry.real.open("rb") as file:
                unpack(file, tree, path, form=form, limits=limits)
            found.append(Copy(MergedView([tree], form), ("",), mode=copy.mode))
    return found


def _is_tar(path: Path) -> bool:
    """By its content: its name says nothing."""
    with path.open("rb") as file:
        try:
            plain = Decompressor(file)
            head = b""
            while len(head) < 512 and (more := plain.read(512 - len(head))):
                head += more
        except ValueError:
            return False
    return head[257:262] == b"ustar"
