"""`lab bench` as a process of its own, and what there is of it on the host."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.backends.context import cgroup_of
from runtime.cgroups import Cgroup, CgroupLayout

ROOT = Path(__file__).parents[3]

PATIENCE_S = 120.0
"""Only there to end a hang."""


class Lab:
    """`lab` with a cache and a results folder of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self.results = folder / "results"
        self.env = {
            **os.environ,
            "LAB_CACHE_DIR": str(cache),
            "LAB_RESULTS": str(self.results),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
        }

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lab", *words],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def bench(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Beside whoever else measures here: times are not what is looked at."""
        return self("bench", *words, "--alongside", "--no-report", **env)

    def start(self, *words: str, alongside: bool = True) -> Bench:
        return Bench(self, *words, *(["--alongside"] if alongside else []))

    def experiment(self, name: str, text: str) -> str:
        """Write an experiment file, and return its name."""
        (self.folder / f"{name}.toml").write_text(text)
        return f"{name}.toml"

    def run_folder(self, experiment: str) -> Path:
        (folder,) = self.results.glob(f"*/{experiment}/*")
        return folder

    def records(self, experiment: str) -> list[dict[str, Any]]:
        lines = (self.run_folder(experiment) / "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def files(self) -> set[str]:
        """All that is in the cache, but for compiled seccomp filters, which a first container makes
        and leaves there on purpose."""
        found = {path.relative_to(self.cache) for path in self.cache.rglob("*")}
        return {str(path) for path in found if path.parts[0] != "seccomp"}


class Bench:
    """One that runs; interrupted at the end of the context if it still does."""

    def __init__(self, lab: Lab, *words: str) -> None:
        self.lab = lab
        self._output = (lab.folder / "output").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab", "bench", *words, "--no-report"],
            cwd=lab.folder,
            env=lab.env,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGINT)
        self._output.close()

    @property
    def output(self) -> str:
        return (self.lab.folder / "output").read_text()

    @property
    def run(self) -> str:
        """Its id, as soon as it has one."""
        if found := re.match(r"run (\S+):", self.output):
            return found[1]
        for _ in self.meanwhile("a run id"):
            if found := re.match(r"run (\S+):", self.output):
                return found[1]
        raise AssertionError

    def await_instances(self, experiment: str, backend: str, least: int = 1) -> list[int]:
        """Wait until it has so many instances alive at once; the processes of all of them."""
        for _ in self.meanwhile(f"{least} instances of {backend}"):
            groups = [g for g in cgroups(self.run) if g.name.startswith(f"{experiment}-{backend}-")]
            alive = {group.name: members(group) for group in groups}
            if sum(bool(pids) for pids in alive.values()) >= least:
                return sorted({pid for pids in alive.values() for pid in pids})
        raise AssertionError

    def await_output(self, words: str) -> None:
        for _ in self.meanwhile(words):
            if words in self.output:
                return

    def meanwhile(self, what: str) -> Iterator[None]:
        """Look again and again, as long as it runs: it is an error if `what` never comes."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            yield
            time.sleep(0.005)
        raise AssertionError(f"{what} did not come (status {self.process.poll()}): {self.output}")

    def signal(self, number: signal.Signals) -> int:
        """Send it, and wait for the end: the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def cgroups(run: str) -> list[Path]:
    """All cgroups of a run, in every hierarchy, that of the run itself included."""
    tops = Cgroup.adopt(CgroupLayout.detect(), cgroup_of(run)).directories
    return [Path(folder) for top in tops for folder, _, _ in os.walk(top)]


def members(group: Path) -> list[int]:
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []  # it went away while we looked


def mounts_of(*words: str) -> list[str]:
    """Lines of the host's mount table that name one of these."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if any(word in line for word in words)]


def namespaces(pids: list[int]) -> set[str]:
    """Their network and mount namespaces, but for our own."""
    found = set()
    for kind in ("net", "mnt"):
        ours = os.readlink(f"/proc/self/ns/{kind}")  # noqa: PTH115 - no file, but a name
        for pid in pids:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))  # noqa: PTH115
            except OSError:
                continue
        found.discard(ours)
    return found


def all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def processes_of(*words: str) -> list[str]:
    """Command lines, of anybody but us, that name one of these."""
    found = []
    for pid in set(all_pids()) - {os.getpid()}:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if any(word in line for word in words):
            found.append(f"{pid} {line}")
    return found


def gone(pids: list[int]) -> bool:
    """Whether all have ended, within the time that the kernel takes for it."""
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def nothing_left(lab: Lab, run: str) -> bool:
    """Of a run that has ended, with the reason as an assertion."""
    assert cgroups(run) == []
    assert mounts_of(run, str(lab.cache)) == []
    assert processes_of(run, str(lab.cache)) == []
    assert not (lab.cache / "runs" / run).exists()
    return True
