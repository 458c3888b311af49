"""Findings, diagnoses, and how a probe's end becomes one. Nothing of this host, no root."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lab.doctor import Diagnosis, Finding
from lab.doctor.child import Crashed, OutOfTime, call, nested
from lab.doctor.finding import FORMAT
from lab.doctor.probe import (
    Failed,
    Host,
    Outcome,
    Probe,
    carry_out,
    limited,
    missing,
    ok,
)
from lab.doctor.probes import PROBES
from lab.doctor.render import render

GOOD = Finding("tap", "devices", "ok", "made a tap", "made lab0", "", frozenset({"vm-network"}))
BAD = replace(
    GOOD,
    name="QEMU",
    group="machines",
    status="missing",
    found="not on PATH",
    advice="install qemu-system-x86",
    needed_for=frozenset({"vm"}),
)
POOR = replace(BAD, name="KVM", status="limited", found="slow", advice="bare metal")
HOST = Host(Path("/nonexistent"), Path("/nonexistent"), "doctor-0", None)


def a_probe(run: Any, **changes: Any) -> Probe:
    return replace(Probe("try", "group", "tried it", run, "do this"), **changes)


def test_missing_for_a_backend_blocks() -> None:
    diagnosis = Diagnosis((GOOD, POOR, BAD))
    assert diagnosis.blocking == (BAD,)
    assert not diagnosis.can_bench


def test_missing_for_a_feature_or_limited_for_a_backend_does_not() -> None:
    assert Diagnosis((GOOD, POOR, replace(GOOD, status="missing"))).can_bench


def test_json_is_as_documented() -> None:
    document = json.loads(json.dumps(Diagnosis((GOOD, BAD)).to_json()))
    assert set(document) == {"format", "can_bench", "blocking", "findings"}
    assert document["format"] == FORMAT
    assert document["can_bench"] is False
    assert document["blocking"] == ["QEMU"]
    assert document["findings"][1] == {
        "name": "QEMU",
        "group": "machines",
        "status": "missing",
        "tried": "made a tap",
        "found": "not on PATH",
        "advice": "install qemu-system-x86",
        "needed_for": ["vm"],
        "blocks": True,
    }
    reference = Path(__file__).parents[3] / "docs/reference/doctor.md"
    text = reference.read_text()
    for key in {*document, *document["findings"][0]}:
        assert f"`{key}`" in text, key


def test_probes_have_unique_names_and_come_after_what_they_need() -> None:
    names = [probe.name for probe in PROBES]
    assert len(set(names)) == len(names)
    for place, probe in enumerate(PROBES):
        assert set(probe.after) <= set(names[:place]), probe.name
        assert probe.needed_for, probe.name
    reference = (Path(__file__).parents[3] / "docs/reference/doctor.md").read_text()
    assert [name for name in names if f"| `{name}` |" not in reference] == []


def test_an_outcome_brings_its_own_advice_or_has_the_probes() -> None:
    assert carry_out(a_probe(lambda _: limited("slow")), HOST, {}).advice == "do this"
    assert carry_out(a_probe(lambda _: missing("no", "buy")), HOST, {}).advice == "buy"
    assert carry_out(a_probe(lambda _: ok("good")), HOST, {}).advice == ""


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (OSError(errno.EPERM, "Operation not permitted", "unshare"), "unshare: Operation not"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/dev/x"), "/dev/x: No such file (ENOENT"),
        (Failed("it came back wrong"), "it came back wrong"),
        (KeyError("nothing"), "nothing"),
        (ValueError("x" * 9999), "xxx…"),
    ],
)
def test_an_error_is_a_finding(error: Exception, found: str) -> None:
    def run(_: Host) -> Outcome:
        raise error

    finding = carry_out(a_probe(run), HOST, {})
    assert finding.status == "missing"
    assert found in finding.found
    assert "Traceback" not in finding.found


def test_a_crash_and_a_hang_are_findings() -> None:
    def crash(_: Host) -> Outcome:
        os.kill(os.getpid(), signal.SIGSEGV)
        return ok("unreachable")

    def hang(_: Host) -> Outcome:
        time.sleep(60)
        return ok("unreachable")

    assert "died" in carry_out(a_probe(crash), HOST, {}).found
    assert "0.1 s; it was killed" in carry_out(a_probe(hang, seconds=0.1), HOST, {}).found


def test_what_needs_something_missing_is_not_tried() -> None:
    finding = carry_out(a_probe(lambda _: ok("tried"), after=("QEMU",)), HOST, {"QEMU": BAD})
    assert (finding.status, finding.found) == ("missing", "not tried: needs QEMU")
    finding = carry_out(a_probe(lambda _: ok("yes"), after=("KVM",)), HOST, {"KVM": POOR})
    assert finding.status == "ok"


def test_tidy_runs_after_a_failure_and_tells_of_its_own() -> None:
    tidied = []

    def fail(_: Host) -> Outcome:
        raise OSError(errno.EIO, "broken")

    carry_out(a_probe(fail, tidy=tidied.append), HOST, {})
    assert tidied == [HOST]

    def stuck(_: Host) -> None:
        raise OSError(errno.EBUSY, "busy", "/sys/x")

    finding = carry_out(a_probe(lambda _: ok("well"), tidy=stuck), HOST, {})
    assert finding.status == "limited"
    assert "well; left behind: /sys/x: busy (EBUSY)" in finding.found
    assert "lab gc" in finding.advice


def test_an_interrupt_passes_and_is_tidied_after(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    tidied = []
    monkeypatch.setattr("lab.doctor.probe.call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(a_probe(lambda _: ok(""), tidy=tidied.append), HOST, {})
    assert tidied == [HOST]


def test_without_a_writable_cache_the_reason_is_told() -> None:
    refused = PermissionError(errno.EACCES, "Permission denied", "/var/cache/x")
    host = replace(HOST, refused=refused)
    finding = carry_out(a_probe(lambda h: ok(str(h.room("x")))), host, {})
    assert finding.found == "/var/cache/x: Permission denied (EACCES)"


def test_a_child_answers_and_raises_as_if_it_were_here() -> None:
    assert call(lambda: [os.getpid(), "ä"], 10)[1] == "ä"
    assert call(lambda: nested(os.getppid) == os.getpid(), 10) is True
    with pytest.raises(IsADirectoryError) as caught:
        call(lambda: Path("/").read_text(), 10)
    assert caught.value.filename == "/"
    with pytest.raises(Crashed, match="without an answer"):
        call(lambda: os._exit(3), 10)


def test_no_process_of_a_child_outlives_it(tmp_path: Path) -> None:
    def family() -> None:
        with subprocess.Popen(["sleep", "60"]) as process:
            (tmp_path / "pid").write_text(str(process.pid))

    with pytest.raises(OutOfTime):
        call(family, 1.0)
    grandchild = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    deadline = time.monotonic() + 10
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(grandchild)


def alive(stat: Path) -> bool:
    """Whether it is there, and not a zombie that waits for init."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_dies_with_its_parent() -> None:
    code = (
        "import os, sys, time\n"
        "from lab.doctor.child import call\n"
        "def tell_and_sleep():\n"
        "    os.write(int(sys.argv[1]), str(os.getpid()).encode())\n"
        "    time.sleep(60)\n"
        "call(tell_and_sleep, 60)\n"
    )
    reader, writer = os.pipe()
    command = [sys.executable, "-c", code, str(writer)]
    with subprocess.Popen(command, pass_fds=[writer], cwd=Path(__file__).parents[3]) as doctor:
        os.close(writer)
        stat = Path("/proc", str(int(os.read(reader, 100))), "stat")
        assert alive(stat)
        doctor.kill()
    os.close(reader)
    deadline = time.monotonic() + 10
    while alive(stat) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(stat)


def lines(width: int, *findings: Finding, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, highlight=False)
    console.print(render(Diagnosis(findings)))
    file.seek(0)
    return file.read().splitlines()


@pytest.mark.parametrize("width", [60, 120])
def test_rendering_fits_and_is_aligned(width: int) -> None:
    long = replace(GOOD, name="rootless user namespace", tried="tried " * 40)
    shown = lines(width, GOOD, long, POOR, replace(BAD, found="words " * 40))
    assert max(map(len, shown)) <= width
    text = "\n".join(shown)
    for word in ("✓ ok", "! limited", "✗ missing", "devices", "install qemu-system-x86", "tried:"):
        assert word in text
    starts = {line.index(what) for line in shown for what in ("made lab0", "slow") if what in line}
    assert len(starts) == 1


def test_what_is_well_takes_one_line() -> None:
    for width in (60, 80, 120):
        group, line, *_ = lines(width, replace(GOOD, tried="tried " * 40))
        assert group.strip() == "devices"
        assert line.startswith("✓ ok") and "made lab0 | tried" in line
        assert lines(width, GOOD)[-1].strip() == "lab bench can run here."


def test_ascii_terminals() -> None:
    text = "\n".join(lines(80, GOOD, POOR, BAD, encoding="ascii"))
    assert "+ ok" in text and "x missing" in text


def test_the_verdict_names_what_blocks_and_where_to_begin() -> None:
    text = " ".join(" ".join(lines(80, GOOD, BAD)).split())
    assert "cannot run here, because of: QEMU." in text
    assert "Begin with QEMU: install qemu-system-x86" in text


def test_import_is_light() -> None:
    heavy = ["pandas", "numpy", "scipy", "rich", "ctypes", "runtime", "vm"]
    code = f"import sys, lab.doctor; print(*(n for n in {heavy!r} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.split() == []
