"""What a killed owner leaves is found by name and removed; the living are left in peace."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.network import NetworkNamespace, NetworkStore, collect, dns
from runtime.network import forwarding as switches
from tests.integration.runtime.network.conftest import eventually, links, sh

HERE = Path(__file__).parents[4]

OWNER = """
import sys
from pathlib import Path
from runtime.network import NetworkStore
store = NetworkStore(Path(sys.argv[1]))
{body}
print("ready", flush=True)
sys.stdin.read()
"""

WHOLE = """
network = store.create("web")
network.connect(name="a", aliases=["x"], ports=["8080:80", "127.0.0.1:53:53/udp"])
network.prepare(1)
bound = store.namespace("box")
network.connect(bound, name="box")
tap = network.attach_tap("guest")
"""

GUEST = """
network = store.open("web")
network.connect(name="guest", ports=["8080:80"])
"""


def killed(root: Path, body: str) -> None:
    """Let a process do that, and kill it in the middle of its life."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(body=body), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        owner.send_signal(signal.SIGKILL)


def test_all_of_a_dead_owners_network(root: Path, outside: NetworkNamespace) -> None:
    killed(root, WHOLE)
    (config,) = NetworkStore(root).configs()
    assert config.bridge in links()
    assert config.table in sh("nft", "list", "tables")
    assert switches.borrowed(root / "networks" / "web" / "network.json") == ("up0",)
    eventually(lambda: dns.running(root / "networks" / "web") is None)  # died with its owner
    seen = collect(root, dry_run=True)
    assert config.bridge in links()
    removed = collect(root)
    assert removed == seen
    text = "\n".join(removed)
    for what in ("endpoint a (", "endpoint held ready (", "endpoint guest (", "bridge lab-"):
        assert what in text
    assert "network web (" in text and "network namespace bound at" in text
    assert links() == {"lo", "up0"}
    assert sh("nft", "list", "tables") == ""
    assert "forwarding" not in str(list(Path("/run/isolation-lab/forwarding").glob("*/up0")))
    assert not [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert collect(root) == []


def test_a_dead_guest_on_a_living_owners_network(store: NetworkStore, root: Path) -> None:
    network = store.create("web", dns=False)
    mine = network.connect(name="mine")
    killed(root, GUEST)
    assert [lease.name for lease in network.leases()] == ["mine", "guest"]
    removed = collect(root)
    assert removed[0].startswith("endpoint guest (")
    assert [lease.name for lease in network.leases()] == ["mine"]
    assert mine.lease.link in links()
    assert "8080" not in sh("nft", "list", "map", "inet", network.config.table, "published")
    network.connect(name="guest", ports=["8080:80"]).disconnect()


def test_what_a_dead_owner_left_is_in_nobodys_way(
    store: NetworkStore, root: Path, outside: NetworkNamespace
) -> None:
    """Starting again after a crash needs no collecting by hand."""
    killed(root, WHOLE)
    network = store.create("web", dns=False)
    killed(root, GUEST)
    (left,) = network.leases()
    network.connect(name="guest", ports=["8080:80"])
    assert [lease.name for lease in network.leases()] == ["guest"]
    assert left.link not in links()


def test_a_namespace_that_got_the_number_of_a_dead_one(store: NetworkStore, root: Path) -> None:
    network = store.create("web", dns=False)
    old = network.connect(name="old")
    assert old.namespace is not None
    old.namespace.close()
    eventually(lambda: old.lease.link not in links())
    with NetworkNamespace.create() as new:
        stale = root / "members" / new.id
        if not stale.exists():  # the kernel chose another number: as if it had not
            (root / "members" / old.namespace.id).rename(stale)
        network.connect(new, name="new").disconnect()


def test_the_living_and_the_kept_are_left_in_peace(
    store: NetworkStore, kept: NetworkStore, root: Path
) -> None:
    network = store.create("web", dns=False)
    network.connect(name="a")
    kept.create("kept", dns=False)
    assert collect(root) == []
    assert store.names() == ("kept", "web")


def test_a_kept_network_survives_and_is_brought_up_again(kept: NetworkStore, root: Path) -> None:
    killed(root, 'NetworkStore(store.root, keep=True).create("web", dns=False).connect(name="a")')
    assert collect(root) == []
    network = kept.open("web")
    # As after a new start of the host: the kernel has forgotten all, the directory has not.
    sh("ip", "link", "delete", network.bridge)
    sh("nft", "delete", "table", "inet", network.config.table)
    again = kept.open("web")
    assert again.config == network.config
    assert again.leases() == ()
    again.connect(name="a").disconnect()


def test_a_lost_record_is_made_up_for_by_the_bridges_alias(root: Path) -> None:
    killed(root, 'store.create("web").connect(name="a")')
    shutil.rmtree(root)
    root.mkdir()
    (text,) = collect(root)
    assert "which has no record" in text
    assert links() == {"lo"}
    assert sh("nft", "list", "tables") == ""


def test_a_death_in_the_middle_of_making_it(root: Path) -> None:
    """Before the record, and after it but before anything else."""
    for body in (
        'def die(*_): os.kill(os.getpid(), 9)\nstore_module.write = die\nstore.create("half")',
        'bridge.bring_up = lambda *_: os.kill(os.getpid(), 9)\nstore.create("web")',
    ):
        imports = "import os\nfrom runtime.network import bridge, store as store_module\n"
        done = subprocess.run(
            [sys.executable, "-c", OWNER.format(body=imports + body), str(root)],
            cwd=HERE,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
    removed = collect(root)
    assert f"directory {root / 'networks' / 'half'}" in removed
    assert any(text.startswith("network web (") for text in removed)
    assert not list((root / "networks").iterdir())


def test_an_owner_given_by_its_lock(root: Path, tmp_path: Path) -> None:
    import fcntl

    lock = tmp_path / "owner.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store = NetworkStore(root, owner=lock)
        network = store.create("web")
        network.connect(name="a").namespace.close()  # type: ignore[union-attr]
        assert collect(root) == []
        pid = dns.running(network.directory)
        assert pid is not None
    removed = collect(root)
    assert any(text.startswith("network web (") for text in removed)
    assert links() == {"lo"}


def test_of_a_store_that_is_not_there(tmp_path: Path) -> None:
    assert collect(tmp_path / "no") == []


def test_a_network_of_another_living_namespace_is_left(
    store: NetworkStore, root: Path, tmp_path: Path
) -> None:
    with NetworkNamespace.create() as other:
        network = store.create("web", dns=False)
        with pytest.raises(Exception, match="open it there"):
            other.run(lambda: store.open("web"))
        assert other.run(lambda: collect(root)) == []
        network.remove()
