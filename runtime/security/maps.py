"""The maps of a user namespace: which users inside are which outside (user_namespaces(7)).

A privileged parent writes them itself. An ordinary user may map just its own id by itself, and
has newuidmap(1) and newgidmap(1) write more, which look into /etc/subuid and /etc/subgid.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence

    Map = Sequence[tuple[int, int, int]]

__all__ = ["own_maps", "write_maps"]


def own_maps(uid: int, gid: int, name: str) -> tuple[Map, Map]:
    """The maps that an ordinary user can have: himself as root, and after that the ids that
    /etc/subuid and /etc/subgid give him (subuid(5)); without any, only himself."""
    maps = []
    for path, own in (("/etc/subuid", uid), ("/etc/subgid", gid)):
        lines = [(0, own, 1)]
        for first, count in _subordinate(path, uid, name):
            lines.append((lines[-1][0] + lines[-1][2], first, count))
        maps.append(tuple(lines))
    uids, gids = maps
    if len(uids) == 1 or len(gids) == 1:  # newuidmap is of no use for one of them alone
        return uids[:1], gids[:1]
    return uids, gids


def _subordinate(path: str, uid: int, name: str) -> list[tuple[int, int]]:
    found = []
    try:
        with open(path) as file:
            for line in file:
                user, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if user in (name, str(uid)) and first.isdecimal() and count.isdecimal():
                    found.append((int(first), int(count)))
    except FileNotFoundError:
        return []
    return found


def write_maps(pid: int, uids: Map, gids: Map, rootless: bool) -> None:
    """Write both maps of the namespace that process `pid` is in. Each line is (first id inside,
    first id outside, count). Raises OSError with the file, or with what newuidmap said."""
    if rootless:
        if _is_own(uids, os.geteuid()) and _is_own(gids, os.getegid()):
            # Who could drop a group could read what is closed to just that group: CVE-2014-8989.
            _write(f"/proc/{pid}/setgroups", "deny")
        else:
            _run("newuidmap", pid, uids)
            _run("newgidmap", pid, gids)
            return
    _write(f"/proc/{pid}/uid_map", _text(uids))
    _write(f"/proc/{pid}/gid_map", _text(gids))


def _is_own(lines: Map, me: int) -> bool:
    return len(lines) == 1 and lines[0][1:] == (me, 1)


def _text(lines: Map) -> str:
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in lines)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:  # os.write does not know the path
        raise OSError(error.errno, error.strerror, f"{path} ({text.strip()})") from None
    finally:
        os.close(fd)


def _run(program: str, pid: int, lines: Map) -> None:
    """Run newuidmap or newgidmap; its words are the error's object."""
    argv = [program, str(pid), *(str(number) for line in lines for number in line)]
    read, write = os.pipe2(os.O_CLOEXEC)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    actions = [(os.POSIX_SPAWN_DUP2, write, 2)]
    try:
        child = os.posix_spawnp(program, argv, env, file_actions=actions)
    except FileNotFoundError:
        raise OSError(
            errno.ENOENT, os.strerror(errno.ENOENT), f"{program} (package uidmap)"
        ) from None
    finally:
        os.close(write)
    with open(read) as file:
        said = file.read().strip()
    if os.waitpid(child, 0)[1]:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), f"{' '.join(argv)}: {said}")
