"""The six kinds of hooks: when, where, with which state, and what their failure does
(config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runtime.oci.bundles import Bundle, Runtime, eventually

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def hook(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **more}


def noting(bundle: Bundle, kind: str, more: str = "") -> dict[str, Any]:
    """A hook that appends its kind, and its state, to files in the bundle. That of startContainer
    runs in the container, where the bundle is at /bundle."""
    place = "/bundle" if kind == "startContainer" else str(bundle.path)
    return hook(f"echo {kind} >> {place}/order; cat > {place}/{kind}.json; {more}")


@pytest.fixture
def noted(bundle: Bundle) -> Bundle:
    """A bundle with a hook of each kind."""
    bundle.config["mounts"].append(
        {"destination": "/bundle", "source": str(bundle.path), "options": ["bind", "rw"]}
    )
    bundle.config["hooks"] = {kind: [noting(bundle, kind)] for kind in KINDS}
    return bundle.runs("sleep", "1000")


def order(bundle: Bundle) -> list[str]:
    path = bundle.path / "order"
    return path.read_text().split() if path.exists() else []


def test_order_and_states(oci: Runtime, noted: Bundle) -> None:
    noted.config["annotations"] = {"a": "b"}
    oci.create("one", noted.write())
    assert order(noted) == ["prestart", "createRuntime", "createContainer"]
    state = oci.state("one")
    oci("start", "one")
    assert order(noted) == [*KINDS[:5]]
    oci("kill", "one", "KILL")
    oci.becomes("one", "stopped")
    assert order(noted) == [*KINDS[:5]]
    oci("delete", "one")
    assert order(noted) == [*KINDS]
    seen = {kind: json.loads((noted.path / f"{kind}.json").read_text()) for kind in KINDS}
    statuses = ["creating", "creating", "creating", "created", "running", "stopped"]
    assert [seen[kind]["status"] for kind in KINDS] == statuses
    for kind in KINDS:
        assert (seen[kind]["id"], seen[kind]["bundle"]) == ("one", str(noted.path))
        assert seen[kind]["annotations"] == {"a": "b"}
        assert seen[kind]["ociVersion"] == state["ociVersion"]
    for kind in ("prestart", "createRuntime", "poststart"):
        assert seen[kind]["pid"] == state["pid"]
    for kind in ("createContainer", "startContainer"):  # "the pid as seen by the container"
        assert seen[kind]["pid"] == 1


def test_where_they_run(oci: Runtime, bundle: Bundle) -> None:
    """In whose namespaces, and with which root: before the pivot the host's paths resolve, and
    what the config mounts is there below the root."""
    look = "for kind in mnt net; do readlink /proc/self/ns/$kind; done >"
    bundle.config["mounts"].append(
        {"destination": "/bundle", "source": str(bundle.path), "options": ["bind", "rw"]}
    )
    rootfs = bundle.config["root"]["path"]
    bundle.config["hooks"] = {
        "createRuntime": [hook(f"{look} {bundle.path}/createRuntime")],
        "createContainer": [
            hook(f"{look} {bundle.path}/createContainer; ls {rootfs}/proc/1 >/dev/null")
        ],
        "startContainer": [hook(f"{look} /bundle/start")],
    }
    bundle.shell(f"{look} /bundle/.new; mv /bundle/.new /bundle/program; sleep 1000")
    oci.start("one", bundle)
    eventually((bundle.path / "program").exists, "the program's note")
    ours = "".join(f"{Path('/proc/self/ns', kind).readlink()}\n" for kind in ("mnt", "net"))
    assert (bundle.path / "createRuntime").read_text() == ours
    program = (bundle.path / "program").read_text()
    assert program != ours
    assert (bundle.path / "createContainer").read_text() == program
    assert (bundle.path / "start").read_text() == program


def test_what_a_hook_changes_in_the_network_namespace(oci: Runtime, bundle: Bundle) -> None:
    """What prestart and createRuntime hooks are for: the namespaces are there, the pid is known."""
    script = (
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); "
        "nsenter --net=/proc/$pid/ns/net ip link add lab0 type veth peer name lab1"
    )
    bundle.config["hooks"] = {
        "createRuntime": [hook(script, env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin"])]
    }
    done = oci("run", "--bundle", str(bundle.shell("ls /sys/class/net").path), "one")
    assert "lab0" in done.stdout.split()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failure_while_creating(oci: Runtime, noted: Bundle, kind: str) -> None:
    noted.config["hooks"][kind].append(noting(noted, kind, "echo no good; exit 3"))
    noted.config["hooks"][kind].append(noting(noted, kind))
    noted.write()
    said = oci.fails("create", "--bundle", str(noted.path), "one")
    assert f"{kind} hook" in said
    assert "exit status 3" in said or "status 3" in said
    assert "does not exist" in oci.fails("state", "one")
    done = [*KINDS[: KINDS.index(kind) + 1], kind, "poststop"]
    assert order(noted) == done  # no hook after the failed one but poststop


def test_failure_of_start_container(oci: Runtime, noted: Bundle) -> None:
    noted.config["hooks"]["startContainer"].append(hook("exit 3"))
    oci.create("one", noted.write())
    said = oci.fails("start", "one")
    assert "startContainer hook /bin/sh" in said
    assert "status 3" in said
    assert "does not exist" in oci.fails("state", "one")
    assert order(noted) == [*KINDS[:4], "poststop"]


def test_failure_of_poststart_stops_the_container(oci: Runtime, noted: Bundle) -> None:
    noted.config["hooks"]["poststart"].append(hook("exit 3"))
    oci.create("one", noted.write())
    pid = oci.state("one")["pid"]
    assert "poststart hook #1 /bin/sh: exit status 3" in oci.fails("start", "one")
    assert "does not exist" in oci.fails("state", "one")
    assert order(noted) == [*KINDS]
    assert oci.fails("kill", "one", "0")  # no such container
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_failure_of_poststop_is_a_warning(oci: Runtime, noted: Bundle) -> None:
    noted.config["hooks"]["poststop"].insert(0, hook("echo oh; exit 3"))
    oci.create("one", noted.write())
    done = oci("delete", "--force", "one")
    assert "level=warning" in done.stderr
    assert "poststop hook #0 /bin/sh: exit status 3; it said: oh" in done.stderr
    assert order(noted)[-1] == "poststop"  # the one behind it is run all the same


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_timeout(oci: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.config["hooks"] = {kind: [hook("sleep 1000", timeout=1)]}
    bundle.write()
    said = oci.fails("create", "--bundle", str(bundle.path), "one")
    assert f"{kind} hook" in said
    assert "timed out" in said


def test_a_hook_that_is_not_there(oci: Runtime, bundle: Bundle) -> None:
    bundle.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    said = oci.fails("create", "--bundle", str(bundle.write().path), "one")
    assert "createRuntime hook #0 /no/such/hook: cannot be run" in said


def test_run_has_them_all(oci: Runtime, noted: Bundle) -> None:
    oci("run", "--bundle", str(noted.runs("true").path), "one")
    assert order(noted) == [*KINDS]
