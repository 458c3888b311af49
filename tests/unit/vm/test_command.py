from pathlib import Path

import pytest

from vm.command import channels, command, escape, kernel_parameters, ports
from vm.config import MachineConfig
from vm.disk import BaseDisk
from vm.errors import ConfigError
from vm.job import Job

BASE = BaseDisk(Path("/c/base.raw"), Path("/c/blank.qcow2"), "sha256:0", 2**29)


def config(**changes: object) -> MachineConfig:
    settings: dict[str, object] = {
        "name": "m",
        "kernel": Path("/k"),
        "initramfs": Path("/i"),
        "state_dir": Path("/run/m"),
        "tsc_khz": 2_000_000,
        **changes,
    }
    return MachineConfig(**settings)  # type: ignore[arg-type]


def argv(one: MachineConfig) -> list[str]:
    return command(one, {name: 10 + i for i, name in enumerate(channels(one))})


def value(one: MachineConfig, option: str) -> str:
    line = argv(one)
    return line[line.index(option) + 1]


def test_is_pure_and_asks_for_no_defaults() -> None:
    assert argv(config()) == argv(config())
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(argv(config()))


def test_memory_is_in_bytes_and_cpus_are_told() -> None:
    assert value(config(memory=2**27), "-m") == "134217728B"
    assert value(config(vcpus=2), "-smp") == "2"


def test_control_is_the_last_port() -> None:
    assert ports(config()) == ("events", "stdout", "stderr", "control")
    assert ports(config(stdin=True))[-2:] == ("stdin", "control")
    line = argv(config(stdin=True))
    assert "virtserialport,chardev=control,name=lab.control,nr=5" in line


def test_each_channel_gets_its_own_descriptor() -> None:
    one = config(stdin=True)
    line = argv(one)
    sockets = [word for word in line if word.startswith("socket,")]
    assert len(sockets) == len(set(sockets)) == len(channels(one)) - 1 == 6
    assert line[line.index("-add-fd") + 1] == "fd=11,set=1"  # the console is a pipe


def test_microvm_has_mmio_devices_and_q35_has_pci() -> None:
    micro, q35 = argv(config(disk=BASE)), argv(config(disk=BASE, machine="q35"))
    assert "virtio-blk-device,drive=root" in micro
    assert "virtio-blk-pci,drive=root" in q35
    assert "virtio-mmio.force-legacy=false" in micro
    assert "virtio-mmio.force-legacy=false" not in q35


def test_pit_only_where_the_guest_must_calibrate() -> None:
    assert "pit=off" in value(config(), "-machine")
    assert "pit=on" in value(config(tsc_khz=None), "-machine")
    assert "tsc_early_khz=2000000" in kernel_parameters(config())
    assert not any("tsc" in p for p in kernel_parameters(config(tsc_khz=None)))


def test_kvm_has_the_hosts_cpu_and_its_own_clock() -> None:
    kvm = config(accel="kvm")
    assert (value(kvm, "-accel"), value(kvm, "-cpu")) == ("kvm", "host")
    assert not any("tsc" in p for p in kernel_parameters(kvm))


def test_console_is_optional() -> None:
    assert "-serial" not in argv(config(console=False))
    assert "isa-serial=off" in value(config(console=False), "-machine")


def test_commas_in_paths_are_doubled() -> None:
    assert escape(Path("/a,b")) == "/a,,b"
    line = argv(config(disk=BASE, state_dir=Path("/run/a,b")))
    assert any("file.filename=/run/a,,b/disk.qcow2" in word for word in line)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a,b"},
        {"name": ""},
        {"vcpus": 0},
        {"memory": 2**20},
        {"append": ("a b",)},
        {"job": Job(argv=("true",))},
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        config(**changes)
