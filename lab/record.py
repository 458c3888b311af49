"""The record of one trial: one JSON object, one line, in one shape for all backends.

The field reference is docs/reference/record-format.md; a test holds the two together.

History of the format, newest first:

- 1: the first.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

__all__ = ["FORMAT", "Level", "Record", "TrialId", "WorkloadFacts"]

FORMAT = 1
"""Version of the record format and of the run folder around it. A field that comes, goes or changes
its meaning raises it."""

# Finite everywhere: JSON (RFC 8259) has no nan, and what could not be measured is left out.
Level = int | FiniteFloat | str
"""A level of a factor."""

Text = Annotated[
    str, AfterValidator(lambda text: text.encode("utf-8", "backslashreplace").decode("utf-8"))
]
"""What the host said. A path of bytes that are no UTF-8, which Python carries as lone surrogates,
is spelt out: the record of a failure must not itself fail to be written."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialId(_Frozen):
    """What makes a trial this trial: an interrupted run resumes by it."""

    index: int = Field(ge=0, description="Place in the plan, from 0: the order of execution.")
    experiment: str = Field(description="Kind of experiment: boot, density, disk, …")
    backend: str = Field(description="Name of the backend.")
    repeat: int = Field(ge=0, description="Which repetition of this cell, from 0.")
    warmup: bool = Field(False, description="Stored and flagged, left out of the statistics.")
    factors: dict[str, Level] = Field(
        default_factory=dict, description="Levels of this cell, such as n (instances alive)."
    )


class WorkloadFacts(_Frozen):
    """The work as it really was."""

    image: str = Field(description="Image name.")
    image_digest: str = Field(description="sha256:… of the image, equal on every backend.")
    argv: list[str] = Field(description="The workload's argument vector.")
    env: dict[str, str] = Field(description="Its whole environment.")
    cwd: str = Field(description="Its working directory.")
    uid: int = Field(description="User id inside.")
    gid: int = Field(description="Group id inside.")
    cpus: float = Field(description="CPUs one instance may use; vCPUs of a virtual machine.")
    memory_bytes: int = Field(description="Memory one instance may use, bytes.")
    pids: int | None = Field(None, description="Tasks one instance may have; null: not recorded.")


class Record(_Frozen):
    """One trial. Times in seconds, sizes in bytes; units are the ends of the names."""

    format: int = Field(FORMAT, description="Version of this format.")
    run: str = Field(description="Run id.")
    trial: TrialId = Field(description="Which trial of the plan.")
    status: Literal["ok", "failed", "skipped"] = Field(
        description="failed and skipped are records too; cause says why."
    )
    cause: Text | None = Field(None, description="Why it failed or was skipped, one sentence.")
    started_at: str = Field(description="Wall clock at the trial's start, ISO 8601, UTC.")
    t0_ns: int | None = Field(None, description="Host CLOCK_MONOTONIC before the launch, ns.")
    duration_s: FiniteFloat = Field(description="Whole trial with set-up and clean-up, seconds.")
    workload: WorkloadFacts | None = Field(None, description="The work; null if never prepared.")
    factors: dict[str, Level] = Field(
        default_factory=dict,
        description="What differs between backends: kernel, accelerator, machine, disk, network.",
    )
    phases: dict[str, FiniteFloat] = Field(
        default_factory=dict,
        description="Seconds from t0 to each named step of the (first) launch, ready included.",
    )
    metrics: dict[str, FiniteFloat] = Field(
        default_factory=dict, description="What the experiment measured; units end the names."
    )
    samples: list[dict[str, Level | None]] = Field(
        default_factory=list, description="Raw readings behind the metrics, in order."
    )
    argv: list[Text] = Field(
        default_factory=list, description="Host command of a trial that failed."
    )
    log_tail: Text = Field("", description="End of the log of a trial that failed.")
