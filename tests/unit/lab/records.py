"""Synthetic records: exact numbers with a little seeded noise. For tests only."""

import random
from collections.abc import Iterator

from lab.record import Record, TrialId, WorkloadFacts

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
BOOT = {"native": 0.001, "container": 0.003, "vm": 1.2}
EACH = {"native": 0.25, "container": 0.5, "vm": 60.0}
MIB = 2**20


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
        "run": "20261124T120000-test-abcd",
        "trial": trial,
        "status": "ok",
        "started_at": "2026-11-24T12:00:00.000+00:00",
        "t0_ns": 1000 + index,
        "duration_s": 0.1,
        "workload": WORK,
        "factors": {"accelerator": "tcg", "machine": "microvm"} if backend == "vm" else {},
        **keys,
    }
    return Record.model_validate(document)


def boot(n: int = 12) -> Iterator[Record]:
    rng = random.Random(1)
    for index in range(n):
        for backend, mean in BOOT.items():
            seconds = mean * rng.lognormvariate(0, 0.05)
            yield record(
                index * 3 + list(BOOT).index(backend),
                "boot",
                backend,
                warmup=index == 0,
                phases={"clone": seconds / 2, "ready": seconds},
                metrics={"boot_s": seconds, "stop_s": 0.001},
            )


def density(repeats: int = 3) -> Iterator[Record]:
    rng = random.Random(2)
    index = 0
    for _ in range(repeats):
        for backend, each in EACH.items():
            for n in (1, 2, 4):
                size = each * n * MIB
                metrics = {
                    "pss_bytes": size + rng.gauss(0, 0.01 * MIB),
                    "cgroup_bytes": size * 1.1 + rng.gauss(0, 0.01 * MIB),
                    "host_bytes": size * 1.5 + rng.gauss(0, 0.05 * MIB),
                }
                yield record(index, "density", backend, cell={"n": n}, metrics=metrics)
                index += 1


def disk(repeats: int = 2) -> Iterator[Record]:
    index = 0
    for _ in range(repeats):
        for backend, each in EACH.items():
            for n in (1, 2, 4):
                metrics = {
                    "before_bytes": each * n * MIB,
                    "after_bytes": (each + 1) * n * MIB,
                    "image_bytes": 2.0 * MIB,
                    "written_bytes": 1.0 * MIB,
                }
                yield record(index, "disk", backend, cell={"n": n}, metrics=metrics)
                index += 1
