"""What a container is to be, in docker-py's keywords, checked before anything is made."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.client import values
from runtime.errors import SpecError

__all__ = ["NETWORK_MODES", "RunOptions"]

NETWORK_MODES = ("none", "host", "bridge")

_SYNONYMS = {"memory": "mem_limit", "env": "environment", "cwd": "working_dir"}
"""Words that people use besides docker-py's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The keywords of `ContainerCollection.create` and `.run`, with docker-py's names and forms.

    Where Docker's daemon would need to be asked (log drivers, platforms, restart policies, …)
    there is no keyword. Raises SpecError that names the keyword."""

    name: str | None = None
    entrypoint: str | Iterable[str] | None = None
    environment: Mapping[str, Any] | Iterable[str] | None = None
    working_dir: str | None = None
    user: str | int | None = None
    hostname: str | None = None
    domainname: str | None = None
    labels: Mapping[str, str] | Iterable[str] | None = None
    tty: bool = False
    stdin_open: bool = False
    auto_remove: bool = False
    read_only: bool = False
    init: bool = False
    privileged: bool = False
    cap_add: Iterable[str] | None = None
    cap_drop: Iterable[str] | None = None
    security_opt: Iterable[str] | None = None
    """``no-new-privileges``, ``seccomp=unconfined``, ``seccomp=<file>``."""
    devices: Iterable[str] | None = None
    """``/dev/host:/dev/inside:rwm``."""
    volumes: Mapping[str, Mapping[str, str]] | Iterable[str] | None = None
    tmpfs: Mapping[str, str] | None = None
    shm_size: int | str | None = None
    sysctls: Mapping[str, str] | None = None
    ulimits: Iterable[Mapping[str, Any]] | Mapping[str, Any] | None = None
    mem_limit: int | str | None = None
    memswap_limit: int | str | None = None
    mem_reservation: int | str | None = None
    cpus: float | None = None
    nano_cpus: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None
    oom_score_adj: int | None = None
    network: str | None = None
    """Name of a network, or ``none``, ``host``, ``bridge`` (the default network)."""
    network_mode: str | None = None
    ports: Mapping[str | int, Any] | Iterable[str] | None = None
    dns: Iterable[str] | None = None
    dns_search: Iterable[str] | None = None
    extra_hosts: Mapping[str, str] | None = None
    userns_mode: str | None = None
    """``host`` (the default), or ``private``: root inside is an ordinary user outside."""
    cgroup_parent: str | None = None
    stop_signal: str | int | None = None
    annotations: Mapping[str, str] | None = None

    @classmethod
    def parse(cls, keywords: Mapping[str, Any]) -> RunOptions:
        """Of keyword arguments. Raises SpecError for one that is not there, with the nearest."""
        known = {field.name for field in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        for key, value in keywords.items():
            name = _SYNONYMS.get(key, key)
            if name not in known:
                near = difflib.get_close_matches(key, [*known, *_SYNONYMS], n=1)
                hint = f'did you mean "{near[0]}"? ' if near else ""
                raise SpecError(f"unknown keyword {key}; {hint}choices: {', '.join(sorted(known))}")
            if name in given:
                raise SpecError(f"{name}: given twice, as {key} too")
            # What can be gone through only once is kept: it is looked at more than once.
            once = not isinstance(value, str | Mapping | list | tuple) and isinstance(
                value, Iterable
            )
            given[name] = list(value) if once else value
        options = cls(**given)
        options.check()
        return options

    def check(self) -> None:
        """What can be told without looking at the host. Raises SpecError."""
        values.ports(self.ports)
        values.environment(self.environment)
        values.bind_mounts(self.volumes)
        for key in ("mem_limit", "memswap_limit", "mem_reservation", "shm_size"):
            values.size(key, getattr(self, key))
        if self.network is not None and self.network_mode is not None:
            raise SpecError("network and network_mode: give one of them")
        if self.ports and self.network_kind in {"none", "host"}:
            raise SpecError(f"ports: network {self.network_kind!r} has none to publish")
        if self.userns_mode not in {None, "host", "private"}:
            raise SpecError(f'userns_mode: {self.userns_mode!r} is neither "host" nor "private"')
        cpus = [key for key in ("cpus", "nano_cpus", "cpu_quota") if getattr(self, key) is not None]
        if len(cpus) > 1:
            raise SpecError(f"{', '.join(cpus)}: say the same in different ways: give one of them")

    @property
    def network_kind(self) -> str:
        """`none`, `host`, or the name of a network."""
        return self.network_mode or self.network or "bridge"

    def resources(self) -> dict[str, Any]:
        """`linux.resources` of an OCI configuration."""
        memory: dict[str, Any] = {
            "limit": values.size("mem_limit", self.mem_limit),
            "swap": values.size("memswap_limit", self.memswap_limit),
            "reservation": values.size("mem_reservation", self.mem_reservation),
        }
        if memory["limit"] and not memory["swap"]:
            memory["swap"] = memory["limit"]  # no swap: a limit is a limit
        quota, period = self.cpu_quota, self.cpu_period
        if (wanted := self.cpus) is None and self.nano_cpus is not None:
            wanted = self.nano_cpus / 1e9
        if wanted is not None:
            if wanted <= 0:
                raise SpecError(f"cpus: {wanted:g} is not above 0")
            period = period or 100_000
            quota = round(wanted * period)
        cpu = {
            "quota": quota,
            "period": period,
            "shares": self.cpu_shares,
            "cpus": self.cpuset_cpus,
            "mems": self.cpuset_mems,
        }
        found: dict[str, Any] = {
            "memory": _given(memory),
            "cpu": _given(cpu),
            "pids": _given({"limit": self.pids_limit}),
            "blockIO": _given({"weight": self.blkio_weight}),
        }
        return {key: value for key, value in found.items() if value}


def _given(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}
