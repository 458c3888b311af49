"""docker-py's keyword forms, and the configuration that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.client import values
from runtime.client.bundle import Surroundings, argv_of, oci_config
from runtime.client.log import LogWriter, read_log
from runtime.client.ociruntime import last_words
from runtime.client.options import RunOptions
from runtime.errors import SpecError
from runtime.images import Image
from runtime.images.users import User

IMAGE = Image(
    "tool",
    "sha256:" + "0" * 64,
    (Path("/layers/a"),),
    {
        "config": {"Env": ["PATH=/bin", "A=image"], "Cmd": ["serve"], "WorkingDir": "/srv"},
        "rootfs": {"diff_ids": ["sha256:" + "1" * 64]},
    },
)
AROUND = Surroundings(
    container_id="c" * 64,
    rootfs=Path("/bundle/rootfs"),
    cgroup="isolation-lab/c",
    user=User(0, 0, (), "/root"),
)


def config(**keywords: Any) -> dict[str, Any]:
    return oci_config(RunOptions.parse(keywords), IMAGE, ("true",), AROUND)


@pytest.mark.parametrize(
    ("text", "number"),
    [("64m", 64 << 20), ("1.5g", 3 << 29), ("2KiB", 2048), ("7", 7), (9, 9), ("1MB", 1 << 20)],
)
def test_sizes(text: str | int, number: int) -> None:
    assert values.size("mem_limit", text) == number


@pytest.mark.parametrize("text", ["lots", "", "-1", "64 x", 0, -5, "0"])
def test_what_is_no_size_is_named_with_its_keyword(text: str | int) -> None:
    with pytest.raises(SpecError, match="mem_limit"):
        values.size("mem_limit", text)


def test_ports_in_docker_pys_forms() -> None:
    given = {"80/tcp": 8080, "53/udp": ("127.0.0.1", 53), 443: [8443, 9443], "22/tcp": None}
    assert values.ports(given) == (
        "8080:80/tcp",
        "127.0.0.1:53:53/udp",
        "8443:443",
        "9443:443",
        "0:22/tcp",
    )


def test_volumes_in_both_forms() -> None:
    assert values.bind_mounts({"/host": {"bind": "/in", "mode": "ro"}}) == [("/host", "/in", True)]
    assert values.bind_mounts(["data:/d", "/h:/i:ro", "/anonymous"]) == [
        ("data", "/d", False),
        ("/h", "/i", True),
        ("", "/anonymous", False),
    ]
    with pytest.raises(SpecError, match="absolute"):
        values.bind_mounts(["data:relative"])
    with pytest.raises(SpecError, match="mode"):
        values.bind_mounts(["data:/d:quick"])


def test_an_unknown_keyword_is_named_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r'memroy; did you mean "memory"\?'):
        RunOptions.parse({"memroy": "1m"})
    with pytest.raises(SpecError, match="given twice"):
        RunOptions.parse({"memory": "1m", "mem_limit": "2m"})
    with pytest.raises(SpecError, match="cpus, nano_cpus"):
        RunOptions.parse({"cpus": 1, "nano_cpus": 10**9})
    with pytest.raises(SpecError, match="ports"):
        RunOptions.parse({"ports": {80: 80}, "network": "none"})


def test_limits_become_oci_resources() -> None:
    resources = config(memory="64m", cpus=1.5, pids_limit=9, cpu_shares=512)["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 64 << 20}
    assert resources["cpu"] == {"quota": 150_000, "period": 100_000, "shares": 512}
    assert resources["pids"] == {"limit": 9}


def test_entrypoint_and_command_as_docker_has_them() -> None:
    plain = RunOptions.parse({})
    assert argv_of(plain, IMAGE, None) == ("serve",)
    assert argv_of(plain, IMAGE, "sh -c 'a b'") == ("sh", "-c", "a b")
    given = RunOptions.parse({"entrypoint": ["/bin/tool"]})
    assert argv_of(given, IMAGE, None) == ("/bin/tool",)
    bare = Image("bare", IMAGE.digest, (), {"config": {}, "rootfs": {"diff_ids": []}})
    with pytest.raises(SpecError, match="names no command"):
        argv_of(plain, bare, None)


def test_the_environment_is_the_images_then_the_callers() -> None:
    env = config(environment={"A": "caller", "B": 2})["process"]["env"]
    assert "A=caller" in env and "B=2" in env and "A=image" not in env and "PATH=/bin" in env


def test_capabilities_drop_then_add() -> None:
    kept = config(cap_drop=["ALL"], cap_add=["net_raw"])["process"]["capabilities"]
    assert kept == {name: ["CAP_NET_RAW"] for name in ("bounding", "permitted", "effective")}
    with pytest.raises(SpecError, match="capabilities"):
        config(cap_add=["FLY"])


def test_the_default_seccomp_profile_is_there_unless_unconfined() -> None:
    assert "seccomp" in config()["linux"]
    assert "seccomp" not in config(security_opt=["seccomp=unconfined"])["linux"]
    with pytest.raises(SpecError, match="security_opt"):
        config(security_opt=["apparmor=x"])


def test_a_log_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    log = LogWriter(path)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"\xff\xfe\n")
    log.write("stdout", b"o\n" + b"x" * 40_000)
    log.close()
    whole = b"".join(data for stream, data in read_log(path) if stream == "stdout")
    assert whole == b"one\ntwo\n" + b"x" * 40_000
    assert list(read_log(path, streams=["stderr"])) == [("stderr", b"\xff\xfe\n")]
    assert len(list(read_log(path, tail=1))) == 1
    (_, stamped), *_ = read_log(path, timestamps=True)
    assert stamped.endswith(b"Z one\n")


def test_the_runtimes_last_words() -> None:
    assert last_words('time="x" level=error msg="no such \\"thing\\""\n') == 'no such "thing"'
    assert last_words("first\nbare words\n\n") == "bare words"
    assert last_words("") == "it said nothing"
