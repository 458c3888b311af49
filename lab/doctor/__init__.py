"""`lab doctor`: what this host can do, found by doing it.

    diagnosis = examine(cache_dir())
    diagnosis.can_bench             # whether a bare `lab bench` can run
    diagnosis.blocking              # and if not, because of what

`lab.doctor.probes` has all probes; each is one small function.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lab.doctor.finding import Diagnosis, Finding, Status

if TYPE_CHECKING:
    from lab.doctor.probe import Host

__all__ = ["Diagnosis", "Finding", "Progress", "Status", "examine"]

Progress = Callable[[str, int, int], None]
"""Called before each probe: its name, how many are done, how many there are."""


def examine(cache: Path, *, fresh: bool = False, progress: Progress | None = None) -> Diagnosis:
    """Try everything, one after the other; seconds, or a minute when the accelerator's verdict or
    the guest kernel is not in `cache` yet. `fresh` boots guests again for the verdict.

    Raises nothing for what a probe meets. Call it from a process with one thread: it forks."""
    from lab.doctor.probe import carry_out
    from lab.doctor.probes import PROBES

    findings: dict[str, Finding] = {}
    with _host(cache, fresh) as host:
        for probe in PROBES:
            if progress is not None:
                progress(probe.name, len(findings), len(PROBES))
            findings[probe.name] = carry_out(probe, host, findings)
    return Diagnosis(tuple(findings.values()))


@contextlib.contextmanager
def _host(cache: Path, fresh: bool) -> Iterator[Host]:
    """The scratch directory is that of a run: `lab gc` removes it if the doctor is killed, and
    leaves it alone as long as the doctor lives."""
    from lab.doctor.probe import Host
    from lab.ownership import own_run
    from lab.paths import results_dir

    run = f"doctor-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        scratch, refused = None, None
        try:
            scratch = stack.enter_context(own_run(cache, run))
            if os.geteuid() != 0:
                stack.callback(_make_removable, scratch)
        except OSError as error:
            refused = error
        yield Host(cache, results_dir(), run, scratch, refused, fresh)


def _make_removable(directory: Path) -> None:
    """The kernel gives an overlay's inner work directory mode 0, which stops its owner too."""
    for folder, names, _ in os.walk(directory):
        for name in names:
            Path(folder, name).chmod(0o700)
