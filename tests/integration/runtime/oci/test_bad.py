"""Bad input and bad luck: the words, the exit status, and that nothing is left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.oci.bundles import Bundle, Runtime


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"process": {"args": []}}, "config.json: $.process.args: is empty"),
        ({"process": {"cwd": "x"}}, "config.json: $.process.cwd: must be an absolute path"),
        ({"ociVersion": "0.9.0"}, "config.json: $.ociVersion: '0.9.0' is not supported"),
        ({"root": {"path": "/no/such/rootfs"}}, "config.json: $.root.path: no directory"),
        ({"linux": {"namespaces": []}}, "config.json: $.hostname: needs a uts namespace"),
        ({"linux": {"sysctl": {"vm.swappiness": "1"}}}, '$.linux.sysctl["vm.swappiness"]: belongs'),
        ({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}}}, "is not supported"),
        ({"mounts": [{"destination": "/x", "options": ["bind"]}]}, "$.mounts[0].source: is requi"),
    ],
)
@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_bad_config(
    oci: Runtime, bundle: Bundle, verb: str, change: dict[str, Any], message: str
) -> None:
    for section, values in change.items():
        if isinstance(values, dict):
            bundle.config[section].update(values)
        else:
            bundle.config[section] = values
    bundle.write()
    done = oci(verb, "--bundle", str(bundle.path), "one", check=False)
    assert done.returncode == 1
    assert message in done.stderr.replace('\\"', '"')
    assert list(oci.root.iterdir()) == []


def test_a_bundle_without_a_config(oci: Runtime, tmp_path: Path) -> None:
    assert "config.json: cannot be read: No such file" in oci.fails("run", "one", cwd=tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json: is no JSON: line 1 column 2" in oci.fails("run", "one", cwd=tmp_path)
    assert list(oci.root.iterdir()) == []


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (
            {"destination": "/v", "source": "/no/such", "options": ["bind"]},
            "take /no/such",
        ),
        ({"destination": "/v", "type": "nofs", "source": "x"}, "could not mount nofs on /v"),
        (
            {"destination": "/etc/passwd/x", "type": "tmpfs"},
            "mount tmpfs on /etc/passwd/x",
        ),
        ({"destination": "/proc/self", "type": "tmpfs"}, "could not mount tmpfs on /proc/self"),
    ],
)
def test_a_mount_that_fails_is_named(
    oci: Runtime, bundle: Bundle, mount: dict[str, Any], message: str
) -> None:
    bundle.config["mounts"].append(mount)
    assert message in oci.fails("run", "--bundle", str(bundle.write().path), "one")
    assert list(oci.root.iterdir()) == []


def test_programs_that_cannot_run_are_told_in_gos_words(oci: Runtime, bundle: Bundle) -> None:
    """Docker and Podman look for these words to choose the exit status 127 or 126."""
    for program, words in (
        ("nosuch", "no such file or directory"),
        ("/bin/notexecutable", "permission denied"),
        ("/etc", "permission denied"),
    ):
        bundle.runs(program)
        for verb in ("create", "run"):
            said = oci.fails(verb, "--bundle", str(bundle.path), "one")
            assert words in said
            assert program in said
    assert list(oci.root.iterdir()) == []


def test_a_program_that_is_gone_by_the_start(oci: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """`create` has seen it, `start` finds it missing: the message crosses the gate."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    mount = {"destination": "/script", "source": str(script), "options": ["bind"]}
    bundle.config["mounts"].append(mount)
    oci.create("one", bundle.runs("/script"))
    assert "could not execute /script: no such file or directory" in oci.fails("start", "one")
    assert "does not exist" in oci.fails("state", "one")


def test_the_log_file(oci: Runtime, tmp_path: Path) -> None:
    """What containerd and Podman read: one object on a line, with level, msg and time."""
    log = tmp_path / "log.json"
    done = oci("--log", str(log), "--log-format", "json", "start", "one", check=False)
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["msg"]) == ("error", done.stderr.strip())
    assert "does not exist" in entry["msg"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"])
    text = tmp_path / "log.txt"
    oci("--log", str(text), "start", "one", check=False)
    assert re.match(r'time="[^"]+" level=error msg="container', text.read_text())


def test_a_root_that_cannot_be(oci: Runtime, bundle: Bundle) -> None:
    oci.root = Path("/proc/nowhere")
    said = oci.fails("create", "--bundle", str(bundle.path), "one")
    assert "cannot make state directory /proc/nowhere/one" in said
    oci.root = bundle.path.parent


def test_a_cgroup_in_use_is_refused(oci: Runtime, bundle: Bundle) -> None:
    oci.start("one", bundle.runs("sleep", "1000"))
    said = oci.fails("create", "--bundle", str(bundle.path), "two")
    assert "in use" in said
    assert oci.status("one") == "running"


def test_a_limit_that_cannot_be_is_refused(oci: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["resources"]["cpu"] = {"cpus": "0-100000"}
    assert "cpuset" in oci.fails("create", "--bundle", str(bundle.write().path), "one")
    assert list(oci.root.iterdir()) == []
