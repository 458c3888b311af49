"""Resources written into the control files of one cgroup."""

from __future__ import annotations

import errno

from runtime.cgroups.control import read, read_if_there, refused, write
from runtime.cgroups.settings import PASS, REFUSE

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from runtime.cgroups.settings import Read, Setting

    Place = tuple[str | None, bool]

__all__ = ["apply", "settings_of"]


def settings_of(
    resources: Mapping[str, Any], places: Mapping[str, Place], *, live: bool
) -> Iterator[tuple[str, Iterator[Setting]]]:
    """For each controller that has a directory: that directory, and its settings.

    `places`: controller → its directory, or None, and whether that is v2's. `live`: the cgroup has
    been in use, so what it has now may matter."""
    for controller, (directory, is_v2) in places.items():
        if directory is None:
            continue
        reader = _reader(directory) if live else None
        if is_v2:
            from runtime.cgroups import v2

            yield directory, v2.translate(controller, resources, reader)
        else:
            from runtime.cgroups import v1

            yield directory, v1.translate(controller, resources, reader)


def apply(
    name: str, resources: Mapping[str, Any], places: Mapping[str, Place], *, live: bool
) -> tuple[list[str], list[str]]:
    """Write them. Two lists of limits that found no file here, in OCI's words: those that were
    asked for and do not hold, and those that only deserve mention.

    Raises CgroupError for what the kernel refuses, naming `name`, the file and the value."""
    refuse: list[str] = []
    tell: list[str] = []
    for directory, settings in settings_of(resources, places, live=live):
        for setting in _write_all(name, directory, settings):
            if setting.if_missing == REFUSE:
                refuse.append(setting.limit)
            elif setting.if_missing != PASS and not _is_moot(setting):
                tell.append(setting.limit)
    return refuse, tell


def _write_all(name: str, directory: str, settings: Iterable[Setting]) -> Iterator[Setting]:
    """The settings that no file took.

    Some values are checked against each other: a memory limit against memory+swap, a period or a
    burst against the quota. Which has to come first depends on what was there before; so whatever
    is refused is tried once more after its neighbours."""
    again: list[Setting] = []
    for setting in settings:
        try:
            if not _write_one(directory, setting):
                yield setting
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise refused(name, error, _text(setting, error)) from error
            again.append(setting)
    for setting in again:
        try:
            _write_one(directory, setting)
        except OSError as error:
            raise refused(name, error, _text(setting, error)) from error


def _write_one(directory: str, setting: Setting) -> bool:
    """Into the first file that is there; False if none is."""
    for file, text in setting.choices:
        try:
            write(f"{directory}/{file}", text)
        except FileNotFoundError:
            continue
        return True
    return False


def _text(setting: Setting, error: OSError) -> str:
    file = str(error.filename).rpartition("/")[2]
    return dict(setting.choices).get(file, "")


def _is_moot(setting: Setting) -> bool:
    """No swap accounting, and no swap to be accounted for (proc_swaps(5): a heading alone)."""
    if setting.limit != "memory.swap":
        return False
    return (read_if_there("/proc/swaps") or "").count("\n") <= 1


def _reader(directory: str) -> Read:
    return lambda file: read(f"{directory}/{file}")
