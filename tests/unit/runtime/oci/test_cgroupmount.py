"""OCI's one word `cgroup` as mounts of either kind of host."""

from __future__ import annotations

from typing import Any

from runtime.cgroups import Cgroup, CgroupLayout
from runtime.oci.cgroupmount import expanded
from runtime.oci.verbs.spec import example

V2 = CgroupLayout("/sys/fs/cgroup", ["cpu", "memory"], {})
HYBRID = CgroupLayout(
    "/sys/fs/cgroup/unified",
    [],
    {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "freezer": "/sys/fs/cgroup/freezer",
    },
)


def mounts(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        mount["destination"]: mount
        for mount in config["mounts"]
        if mount["destination"].startswith("/sys/fs/cgroup")
    }


def test_on_v2_it_is_a_new_mount() -> None:
    config = example()
    (mount,) = mounts(expanded(config, V2, None)).values()
    assert (mount["type"], mount["source"]) == ("cgroup2", "cgroup2")
    assert "ro" in mount["options"]
    assert next(iter(mounts(config).values()))["type"] == "cgroup"  # ours is left as it is


def test_without_the_right_to_mount_it_anew_it_is_the_hosts() -> None:
    config = example(rootless=True)
    config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"})
    spaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [one for one in spaces if one["type"] != "cgroup"]
    (mount,) = mounts(expanded(config, V2, None)).values()
    assert (mount["type"], mount["source"]) == ("bind", "/sys/fs/cgroup")
    assert "rbind" in mount["options"]


def test_on_v1_it_is_a_directory_of_the_containers_parts() -> None:
    group = Cgroup(
        HYBRID,
        "a/b",
        (
            "/sys/fs/cgroup/unified/a/b",
            "/sys/fs/cgroup/cpu,cpuacct/a/b",
            "/sys/fs/cgroup/memory/a/b",
        ),
    )
    config = expanded(example(), HYBRID, group)
    found = mounts(config)
    assert found.pop("/sys/fs/cgroup")["type"] == "tmpfs"
    assert {place.rpartition("/")[2]: mount["source"] for place, mount in found.items()} == {
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a/b",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/a/b",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a/b",
        "memory": "/sys/fs/cgroup/memory/a/b",
        "unified": "/sys/fs/cgroup/unified/a/b",
    }
    assert all({"bind", "ro"} <= set(mount["options"]) for mount in found.values())
    assert config["linux"]["readonlyPaths"][-1] == "/sys/fs/cgroup"


def test_without_a_cgroup_there_is_nothing_to_show() -> None:
    assert list(mounts(expanded(example(), HYBRID, None))) == ["/sys/fs/cgroup"]


def test_a_config_without_one_is_as_it_was() -> None:
    config = example(rootless=True)
    assert expanded(config, V2, None) is config
