"""Owner ids of layers, shifted: what is 0 in the archive is 100000 on the disk.

For user namespaces without idmapped mounts (Linux before 5.19 takes none below an overlay): the
files of an image must then belong, outside, to the ids that the namespace's map gives
(user_namespaces(7), "User and group ID mappings").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.errors import SpecError

__all__ = ["IdMap", "IdRange"]

_MAX = (1 << 32) - 2  # (uid_t) -1 is "do not change"


@dataclass(frozen=True, slots=True)
class IdRange:
    """`count` ids from `inside` on are, outside, those from `outside` on."""

    inside: int
    outside: int
    count: int

    def __post_init__(self) -> None:
        ends = (self.inside + self.count - 1, self.outside + self.count - 1)
        if self.count < 1 or min(self.inside, self.outside) < 0 or max(ends) > _MAX:
            raise SpecError(f"id map: {self.inside}:{self.outside}:{self.count} is no range of ids")


@dataclass(frozen=True, slots=True)
class IdMap:
    """One map for uids, one for gids; without `gids` the first is for both."""

    uids: tuple[IdRange, ...]
    gids: tuple[IdRange, ...] | None = None

    @classmethod
    def shift(cls, outside: int, count: int = 65536) -> IdMap:
        """0 … count - 1 inside are outside … outside + count - 1."""
        return cls((IdRange(0, outside, count),))

    @property
    def key(self) -> str:
        """The map as a short text, usable as a file name."""
        parts = [f"{r.inside}-{r.outside}-{r.count}" for r in self.uids]
        if self.gids is not None:
            parts += ["g", *(f"{r.inside}-{r.outside}-{r.count}" for r in self.gids)]
        return "_".join(parts)

    def outside(self, uid: int, gid: int) -> tuple[int, int] | None:
        """The owner on the disk of what is `uid`:`gid` in the image. None if one is not mapped."""
        gids = self.uids if self.gids is None else self.gids
        return _both(_find(self.uids, uid, False), _find(gids, gid, False))

    def inside(self, uid: int, gid: int) -> tuple[int, int] | None:
        """The owner in the image of what is `uid`:`gid` on the disk. None if one is not mapped."""
        gids = self.uids if self.gids is None else self.gids
        return _both(_find(self.uids, uid, True), _find(gids, gid, True))


def _find(ranges: Sequence[IdRange], number: int, back: bool) -> int | None:
    for each in ranges:
        start, to = (each.outside, each.inside) if back else (each.inside, each.outside)
        if start <= number < start + each.count:
            return number - start + to
    return None


def _both(uid: int | None, gid: int | None) -> tuple[int, int] | None:
    return None if uid is None or gid is None else (uid, gid)
