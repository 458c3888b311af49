"""How long the command takes beside runc and crun, and Docker with it beside Docker with runc.

    python -m tests.integration.runtime.oci.measure run      # one whole `run` of /bin/true
    python -m tests.integration.runtime.oci.measure docker   # one whole `docker run --rm`

All take turns, on one bundle or one daemon. What is printed is the milliseconds of wall clock and
of CPU time (of the process and all its children), and the ratio of each turn to this runtime's.
Run it where nothing else does: `flock FILE python -m …` if others measure too.

crun up to 1.8 takes no host with a v2 hierarchy beside v1's; on such a host the measurement is
made in a mount namespace without it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from runtime.oci.install import install
from tests.integration.runtime.oci.bundles import Bundle
from tests.integration.runtime.oci.conftest import make_rootfs
from tests.integration.runtime.oci.engines import Docker

__all__ = ["main"]

Case = Callable[[], list[str]]
Sample = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "docker"])
    parser.add_argument("--count", type=int, default=40, help="turns (default: 40)")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the command")
    options = parser.parse_args()
    if options.what == "run" and "LAB_MEASURE_IN" not in os.environ and _is_hybrid():
        _again_without_unified()
    with tempfile.TemporaryDirectory(prefix="lab-measure-", dir="/var/tmp") as name:
        folder = Path(name)
        command = folder / "lab-oci"
        install(command, options.python)
        rootfs = make_rootfs(folder / "rootfs")
        measure = _docker if options.what == "docker" else _run
        measure(folder, str(command), rootfs, options.count)


def _run(folder: Path, command: str, rootfs: Path, count: int) -> None:
    (folder / "bundle").mkdir()
    bundle = Bundle(folder / "bundle", rootfs)
    bundle.config["ociVersion"] = "1.0.2"  # crun 1.8 knows no later one
    bundle.config["process"]["args"] = ["/bin/true"]
    (bundle.path / "config.json").write_text(json.dumps(bundle.config))
    cases = {}
    for runtime in (command, "runc", "crun"):
        path = shutil.which(runtime)
        if path is not None:
            name = Path(path).name
            line = [path, "--root", f"{folder}/state-{name}", "run", "--bundle", str(bundle.path)]
            cases[name] = [*line, "measured"]
    _print(_turns(cases, count), "lab-oci")


def _docker(folder: Path, command: str, rootfs: Path, count: int) -> None:
    with Docker({"lab": command}, "lab") as docker:
        docker.import_image(rootfs)
        line = docker.run_line("--rm", "--", "/bin/true")
        cases = {}
        for name in ("lab", "runc"):
            line[line.index("--runtime") + 1] = name
            cases[name] = [*docker.command, *line]
        _print(_turns(cases, count), "lab")


def _turns(cases: dict[str, list[str]], count: int) -> dict[str, list[Sample]]:
    """`count` samples of each case, the first of which is warm-up and left out."""
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for _ in range(count + 1):
        for name, line in cases.items():
            samples[name].append(_once(line))
    return {name: some[1:] for name, some in samples.items()}


def _once(line: list[str]) -> Sample:
    began = time.perf_counter()
    pid = os.posix_spawn(line[0], line, os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(line)} failed: {os.waitstatus_to_exitcode(status)}")
    return wall * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


def _print(samples: dict[str, list[Sample]], ours: str) -> None:
    print(f"{'':10} {'wall ms':>24} {'ratio to ' + ours:>24} {'CPU ms':>10}")
    print(f"{'':10} {'min':>8}{'median':>8}{'p90':>8} {'median':>24} {'median':>10}")
    for name, some in samples.items():
        walls = sorted(wall for wall, _ in some)
        ratios = [mine[0] / wall for (wall, _), mine in zip(some, samples[ours], strict=True)]
        p90 = walls[int(len(walls) * 0.9)]
        print(
            f"{name:10} {walls[0]:8.1f}{statistics.median(walls):8.1f}{p90:8.1f} "
            f"{statistics.median(ratios):24.2f} {statistics.median(cpu for _, cpu in some):10.1f}"
        )


def _is_hybrid() -> bool:
    return os.path.ismount("/sys/fs/cgroup/unified") and shutil.which("crun") is not None


def _again_without_unified() -> None:
    os.environ["LAB_MEASURE_IN"] = "a mount namespace"
    script = 'umount /sys/fs/cgroup/unified && exec "$@"'
    line = [sys.executable, "-m", "tests.integration.runtime.oci.measure", *sys.argv[1:]]
    line = ["unshare", "--mount", "sh", "-c", script, "sh", *line]
    raise SystemExit(subprocess.run(line, check=False).returncode)


if __name__ == "__main__":
    main()
