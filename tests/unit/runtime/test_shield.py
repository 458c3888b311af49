"""The shield's bytes: what an assembler makes of its source, in an ELF file that runs."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from runtime.security import shield

SOURCE = Path(shield.__file__).with_name("shield.S")
HERE = platform.machine()


@pytest.mark.parametrize(
    ("architecture", "prefix"), [("x86_64", ""), ("aarch64", "aarch64-linux-gnu-")]
)
def test_the_bytes_are_those_of_the_source(architecture: str, prefix: str, tmp_path: Path) -> None:
    prefix = "" if architecture == HERE else prefix or "x86_64-linux-gnu-"
    compiler, objcopy = shutil.which("cc"), shutil.which(f"{prefix}objcopy")
    assembler = shutil.which(f"{prefix}as")
    if compiler is None or objcopy is None or assembler is None:
        pytest.skip(f"no cc, {prefix}as or {prefix}objcopy (packages gcc, binutils)")
    define = [f"-D__{architecture}__", *(["-U__x86_64__"] if architecture != "x86_64" else [])]
    flags = [*define, "-E", "-P", "-x", "assembler-with-cpp"]
    text = subprocess.run([compiler, *flags, SOURCE], capture_output=True, check=True).stdout
    made, code = tmp_path / "made.o", tmp_path / "code"
    subprocess.run([assembler, "-o", made, "-"], input=text, check=True)
    subprocess.run([objcopy, "-O", "binary", "-j", ".text", made, code], check=True)
    assert code.read_bytes().hex() == shield.CODE[architecture]


def emulator(architecture: str) -> list[str]:
    if architecture == HERE:
        return []
    found = shutil.which(f"qemu-{architecture}")
    if found is None:
        pytest.skip(f"no qemu-{architecture} (package qemu-user)")
    return [found]


@pytest.mark.parametrize("architecture", shield.CODE)
def test_it_executes_with_arguments_environment_and_a_closed_report(
    architecture: str, tmp_path: Path
) -> None:
    run = emulator(architecture)
    program = tmp_path / "shield"
    program.write_bytes(shield.program(architecture))
    program.chmod(0o755)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = str(theirs.fileno())
    script = f'echo "$0" "$1" $A; ls /proc/self/fd | grep -c "^{number}$"'
    words = [number, "/bin/sh", "sh", "-c", script, "zero", "one"]
    done = subprocess.run(
        [*run, *(["-0", number, str(program), *words[1:]] if run else words)],
        executable=run[0] if run else program,
        pass_fds=[theirs.fileno()],
        capture_output=True,
        text=True,
        check=False,
        env={"A": "b", "PATH": os.environ["PATH"]},
    )
    theirs.close()
    assert done.stdout.split() == ["zero", "one", "b", "0"]
    assert ours.recv(100) == b""
    ours.close()


@pytest.mark.parametrize("architecture", shield.CODE)
def test_it_says_why_it_could_not(architecture: str, tmp_path: Path) -> None:
    run = emulator(architecture)
    program = tmp_path / "shield"
    program.write_bytes(shield.program(architecture))
    program.chmod(0o755)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = str(theirs.fileno())
    words = [number, "/no/such", "such"]
    done = subprocess.run(
        [*run, *(["-0", number, str(program), *words[1:]] if run else words)],
        executable=run[0] if run else program,
        pass_fds=[theirs.fileno()],
        check=False,
    )
    theirs.close()
    assert done.returncode == 127
    assert ours.recv(100) == b"X" + (2).to_bytes(4, "little")
    assert ours.recv(100) == b""
    ours.close()
