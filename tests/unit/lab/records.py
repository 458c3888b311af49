"""Synthetic records: exact numbers with a little seeded noise. For tests only."""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.record import Record, TrialId, WorkloadFacts
from lab.store import Results, Run

WORK = WorkloadFacts(
    image="busybox",
    image_digest="sha256:" + "0" * 64,
    argv=["/bin/true"],
    env={},
    cwd="/",
    uid=0,
    gid=0,
    cpus=1.0,
    memory_bytes=128 << 20,
)
FACTS = {
    "vm": {"kernel": "6.1.0-cloud", "accelerator": "tcg", "machine": "microvm", "vcpus": 1},
    "container": {"kernel": "6.12.0", "disk": "overlayfs"},
    "native": {"kernel": "6.12.0", "disk": "full copy"},
}
BOOT = {"native": 0.001, "container": 0.003, "vm": 1.2}
EACH = {"native": 0.25, "container": 0.5, "vm": 60.0}
MIB = 2**20
RUN = "20261124T120000-test-abcd"


def record(index: int, experiment: str, backend: str, **keys: object) -> Record:
    trial = TrialId(
        index=index,
        experiment=experiment,
        backend=backend,
        repeat=index,
        warmup=bool(keys.pop("warmup", False)),
        factors=keys.pop("cell", {}),  # type: ignore[arg-type]
    )
    document = {
        "run": RUN,
        "trial": trial,
        "status": "ok",
        "started_at": "2026-11-24T12:00:00.000+00:00",
        "t0_ns": 1000 + index,
        "duration_s": 0.1,
        "workload": WORK,
        "factors": FACTS.get(backend, {}),
        **keys,
    }
    return Record.model_validate(document)


def failed(index: int, experiment: str, backend: str, cause: str, **keys: object) -> Record:
    return record(index, experiment, backend, status="failed", cause=cause, **keys)


def boot(n: int = 12, backends: Iterable[str] = BOOT) -> Iterator[Record]:
    rng = random.Random(1)
    backends = list(backends)
    for index in range(n):
        for place, backend in enumerate(backends):
            seconds = BOOT.get(backend, 0.01) * rng.lognormvariate(0, 0.05)
            yield record(
                index * len(backends) + place,
                "boot",
                backend,
                warmup=index == 0,
                phases={"clone": seconds / 2, "ready": seconds},
                metrics={"boot_s": seconds, "stop_s": 0.001},
            )


def density(
    repeats: int = 3, levels: Sequence[int] = (1, 2, 4), backends: Iterable[str] = EACH
) -> Iterator[Record]:
    """PSS is `EACH`, the cgroup a tenth more, the host half as much again."""
    rng = random.Random(2)
    index = 0
    for _ in range(repeats):
        for backend in backends:
            for n in levels:
                size = EACH.get(backend, 1.0) * n * MIB
                metrics = {
                    "pss_bytes": size + rng.gauss(0, 0.01 * MIB),
                    "cgroup_bytes": size * 1.1 + rng.gauss(0, 0.01 * MIB),
                    "host_bytes": size * 1.5 + rng.gauss(0, 0.01 * MIB),
                }
                yield record(index, "density", backend, cell={"n": n}, metrics=metrics)
                index += 1


def disk(
    repeats: int = 2, levels: Sequence[int] = (1, 2, 4), backends: Iterable[str] = EACH
) -> Iterator[Record]:
    """Untouched `EACH`; each then writes 1 MiB, which takes 1 MiB of blocks."""
    index = 0
    for _ in range(repeats):
        for backend in backends:
            for n in levels:
                each = EACH.get(backend, 1.0)
                metrics = {
                    "before_bytes": each * n * MIB,
                    "after_bytes": (each + 1) * n * MIB,
                    "image_bytes": 2.0 * MIB,
                    "written_bytes": 1.0 * MIB,
                }
                yield record(index, "disk", backend, cell={"n": n}, metrics=metrics)
                index += 1


def write(
    root: Path,
    records: Iterable[Record],
    *,
    host: str = "bench-1",
    run: str = RUN,
    facts: dict[str, Any] | None = None,
    suite: Sequence[str] = ("boot", "density", "disk"),
    missing: int = 0,
) -> Run:
    """A run folder with these records, all of one experiment; `missing` of the plan's last trials
    have none, and then it is not finished."""
    records = list(records)
    with Results(root).create(
        host,
        records[0].trial.experiment,
        run,
        host_facts={"hostname": host, **(facts or {})},
        experiment_doc={"name": "test", "seed": 7, "experiment": [{"kind": k} for k in suite]},
        plan=[one.trial for one in records],
        seed=7,
    ) as writer:
        for one in records[: len(records) - missing]:
            writer.append(one.model_copy(update={"run": run}))
        if not missing:
            writer.finish()
    return writer.run
