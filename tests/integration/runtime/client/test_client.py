"""The client with real containers: docker-py's words, one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.client import Client
from runtime.client.errors import (
    ClientError,
    CommandFailed,
    ContainerNotFound,
    NameTaken,
    VolumeInUse,
)
from runtime.errors import ImageInUse, ImageNotFound, NotRunning, StateError

pytestmark = pytest.mark.root

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def client(tmp_path: Path, images: Path) -> Iterator[Client]:
    client = Client(tmp_path / "root", images=images)
    yield client
    for container in client.containers.list(all=True):
        container.remove(force=True)
    for network in client.networks.list():
        network.remove(force=True)


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def until(what: object) -> None:
    """Wait until it holds, at most the deadline."""
    assert callable(what)
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Not gone, and not a zombie that its new parent has yet to reap."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_run_returns_what_was_written(client: Client) -> None:
    output = client.containers.run("busybox", ["uname", "-n"], network="none", hostname="box")
    assert output == b"box\n"
    (left,) = client.containers.list(all=True)
    assert left.status == "exited"
    assert left.logs() == b"box\n"


def test_remove_leaves_nothing(client: Client) -> None:
    assert client.containers.run("busybox", "echo hi", network="none", remove=True) == b"hi\n"
    assert client.containers.list(all=True) == []
    assert not list((client.root / "containers").iterdir())
    assert not list((client.root / "names").iterdir())
    assert str(client.root) not in Path("/proc/mounts").read_text()


def test_a_failure_has_status_and_words(client: Client) -> None:
    with pytest.raises(CommandFailed, match="oops") as caught:
        client.containers.run("busybox", sh("echo oops >&2; exit 3"), network="none", remove=True)
    assert caught.value.exit_status == 3
    assert caught.value.stderr == b"oops\n"


def test_out_of_memory_is_told(client: Client) -> None:
    with pytest.raises(CommandFailed, match="out of memory") as caught:
        client.containers.run(
            "busybox", sh("tail /dev/zero"), memory="20m", network="none", remove=True
        )
    assert caught.value.oom_killed


def test_what_cannot_start_says_why_and_leaves_nothing(client: Client) -> None:
    with pytest.raises(ClientError, match="nosuch"):
        client.containers.run("busybox", ["nosuch"], network="none")
    assert client.containers.list(all=True) == []
    with pytest.raises(ImageNotFound):
        client.containers.run("no-such-image", ["true"])
    assert client.containers.list(all=True) == []


def test_a_detached_container_outlives_its_client(client: Client, images: Path) -> None:
    code = (
        "import sys; from runtime.client import Client;"
        "c = Client(sys.argv[1], images=sys.argv[2]);"
        "print(c.containers.run('busybox', ['sleep', '1000'], detach=True, network='none').id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(client.root), str(images)],
        check=True,
        capture_output=True,
        text=True,
    )
    container = client.containers.get(done.stdout.strip())
    assert container.status == "running"
    assert [process["command"] for process in container.top()] == ["sleep 1000"]
    container.stop(timeout=0.1)
    assert container.status == "exited"
    assert container.state.exit_code == 128 + signal.SIGKILL


def test_exec_pause_update_stats(client: Client) -> None:
    container = client.containers.run("busybox", "sleep 1000", detach=True, network="none")
    done = container.exec_run(sh("echo out; echo err >&2; exit 4"), demux=True)
    assert (done.exit_code, done.output, done.errors) == (4, b"out\n", b"err\n")
    assert container.exec_run("id -u", user="nobody").output == b"65534\n"
    container.pause()
    assert container.status == "paused"
    container.unpause()
    assert container.status == "running"
    container.update(mem_limit="32m")
    assert container.stats()["memory_stats"]["limit"] == 32 << 20
    with pytest.raises(StateError, match="runs"):
        container.remove()
    container.kill()
    container.wait(DEADLINE_S)
    with pytest.raises(NotRunning):
        container.exec_run("true")


def test_input_output_and_a_terminal(client: Client) -> None:
    reader = client.containers.run(
        "busybox",
        sh("read line; echo got $line"),
        detach=True,
        stdin_open=True,
        network="none",
    )
    with reader.attach() as line:
        line.write(b"hello\n")
        assert b"".join(data for _, data in line.output()) == b"got hello\n"
    shell = client.containers.run("busybox", "sh", detach=True, tty=True, network="none")
    with shell.attach() as line:
        line.resize(33, 101)
        line.write(b"stty size; exit 7\n")
        assert b"33 101" in b"".join(data for _, data in line.output())
    assert shell.wait(DEADLINE_S) == 7


def test_logs_follow_until_the_end(client: Client) -> None:
    container = client.containers.run(
        "busybox", sh("echo one; read x; echo two"), detach=True, stdin_open=True, network="none"
    )
    until(lambda: container.logs() == b"one\n")
    with container.attach() as line:
        pieces = iter(container.logs(stream=True))
        assert next(pieces) == b"one\n"
        line.write(b"go\n")
        assert list(pieces) == [b"two\n"]


def test_what_is_written_stays_over_a_restart(client: Client) -> None:
    container = client.containers.run(
        "busybox", sh("cat /kept; echo again >> /kept"), detach=True, network="none"
    )
    container.wait(DEADLINE_S)
    container.start()
    container.wait(DEADLINE_S)
    assert container.logs(stderr=False) == b"again\n"


def test_volumes_bypass_the_layers_and_outlive_containers(client: Client) -> None:
    client.containers.run(
        "busybox", sh("echo kept > /data/file"), volumes=["data:/data"], network="none", remove=True
    )
    reader = client.containers.create(
        "busybox", ["cat", "/data/file"], volumes=["data:/data:ro"], network="none"
    )
    reader.start()
    reader.wait(DEADLINE_S)
    assert reader.logs() == b"kept\n"
    assert not (reader.record.upper / "data" / "file").exists()
    with pytest.raises(VolumeInUse, match=reader.name):
        client.volumes.get("data").remove()
    reader.remove()
    client.volumes.get("data").remove()
    assert client.volumes.list() == []


def test_a_new_volume_begins_with_what_the_image_has(client: Client) -> None:
    output = client.containers.run(
        "busybox", ["cat", "/etc/group"], volumes=["fresh:/etc"], network="none", remove=True
    )
    assert b"root:x:0:" in output


def test_commit_and_diff(client: Client) -> None:
    container = client.containers.run(
        "busybox", sh("echo new > /new; rm /bin/vi"), detach=True, network="none"
    )
    container.wait(DEADLINE_S)
    changes = {(change["Path"], change["Kind"]) for change in container.diff()}
    assert {("/new", 1), ("/bin/vi", 2)} <= changes
    image = container.commit("mine", "1")
    assert len(image.layers) == 2
    output = client.containers.run("mine:1", ["cat", "/new"], network="none")
    assert output == b"new\n"
    with pytest.raises(ImageInUse):
        client.images.remove("mine:1")


def test_names(client: Client) -> None:
    first = client.containers.create("busybox", "true", name="one", network="none")
    with pytest.raises(NameTaken, match="one"):
        client.containers.create("busybox", "true", name="one", network="none")
    assert client.containers.get("one") == first == client.containers.get(first.short_id)
    with pytest.raises(ContainerNotFound, match="one"):
        client.containers.get("two")
    first.remove()
    client.containers.create("busybox", "true", name="one", network="none").remove()


def test_containers_of_one_network_know_each_other_by_name(client: Client) -> None:
    client.networks.create("front")
    server = client.containers.run(
        "busybox",
        sh("while :; do echo hello | nc -l -p 80; done"),
        detach=True,
        name="server",
        network="front",
        ports={"80/tcp": ("127.0.0.1", None)},
    )
    output = client.containers.run(
        "busybox", sh("nc -w 5 server 80 </dev/null"), network="front", remove=True
    )
    assert output == b"hello\n"
    assert server.state.networks["front"]["ports"][0].startswith("127.0.0.1:")


def test_a_killed_monitor_is_found_and_cleaned_up(client: Client) -> None:
    container = client.containers.run("busybox", "sleep 1000", detach=True, network="none")
    pid = container.state.pid
    with open(f"/proc/{pid}/status") as status:
        parent = next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
    os.kill(parent, signal.SIGKILL)
    until(lambda: container.status == "dead")
    container.remove(force=True)
    until(lambda: not alive(pid))


def test_another_runtime_does_as_well(client: Client, images: Path) -> None:
    import shutil

    if shutil.which("runc") is None:
        pytest.skip("runc is not installed")
    other = Client(client.root / "runc", images=images, runtime="runc")
    assert other.containers.run("busybox", "echo hi", network="none", remove=True) == b"hi\n"
