"""Users of an image: names as its own /etc/passwd and /etc/group have them."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.errors import SpecError
from runtime.images.merged import MergedView

__all__ = ["User", "find_user"]


@dataclass(frozen=True, slots=True)
class User:
    """Whom a process of a container is."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups."""
    home: str


def find_user(view: MergedView, text: str) -> User:
    """``user[:group]``, each by name or number; "" is root (OCI image-spec, config.md, "User").

    As with Docker: without a group it is the user's own, and the groups that list the user are
    supplementary; a number that /etc/passwd lacks is a user of group 0. Raises SpecError for a
    name that is not there."""
    name, colon, group = text.partition(":")
    passwd = _table(view, "etc/passwd", 7)
    groups = _table(view, "etc/group", 4)
    row = _find(passwd, name or "0")
    if row is None and not name.isdecimal() and name:
        raise SpecError(f"user {name!r} is not in the image's /etc/passwd")
    uid = int(row[2]) if row else int(name or "0")
    home = row[5] if row and row[5] else "/"
    if colon:
        found = _find(groups, group)
        if found is None and not group.isdecimal():
            raise SpecError(f"group {group!r} is not in the image's /etc/group")
        return User(uid, int(found[2]) if found else int(group), (), home)
    gid = int(row[3]) if row and row[3].isdecimal() else 0
    member = {int(each[2]) for each in groups if row and row[0] in each[3].split(",")}
    return User(uid, gid, tuple(sorted(member - {gid})), home)


def _table(view: MergedView, path: str, columns: int) -> list[list[str]]:
    text = (view.read(path) or b"").decode(errors="replace")
    rows = (line.split(":") for line in text.splitlines())
    return [row for row in rows if len(row) >= columns and row[2].isdecimal()]


def _find(table: list[list[str]], name: str) -> list[str] | None:
    """By name, or else by number."""
    for column in (0, 2):
        for row in table:
            if row[column] == name:
                return row
    return None
