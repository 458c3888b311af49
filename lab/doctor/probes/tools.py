"""Programs of the host that the lab calls, each made to do its work once."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from lab.doctor.probe import Host, Outcome, missing, ok, probe
from lab.doctor.programs import find, first_line, run
from runtime.images.recipes import PATH

__all__ = ["PROBES"]

_REPORT = ("ipykernel", "jinja2", "matplotlib", "mistune", "nbclient", "nbformat")
"""What the extra `notebooks` brings."""


@probe(
    "static busybox",
    group="tools",
    tried="a copy run in an empty root directory, as an image has it",
    advice="install busybox-static",
    needed_for=["native", "container", "vm"],
)
def busybox(host: Host) -> Outcome:
    """The default image is made of it."""
    program = shutil.which("busybox", path=PATH)
    if program is None:
        return missing("not on PATH")
    room = host.room("busybox")
    copy = room / "busybox"
    shutil.copy(program, copy)
    if b"/ld-linux" in copy.read_bytes():
        return missing(f"{program} is linked dynamically")
    if os.geteuid() == 0:
        os.chroot(room)
        os.chdir("/")
        copy = Path("/busybox")
    return ok(f"{program} says {run([copy, 'uname', '-s']).strip()}")


@probe(
    "mke2fs",
    group="tools",
    tried="an ext4 image made from a directory (-d), without mounting it",
    advice="install e2fsprogs",
    needed_for=["vm"],
)
def mke2fs(host: Host) -> Outcome:
    """Makes a guest's disk from the image's tree."""
    room = host.room("mke2fs")
    tree = room / "tree"
    tree.mkdir()
    (tree / "file").write_text("content")
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, room / "image", "4M"])
    return ok("4 MiB with one file")


@probe(
    "C compiler",
    group="tools",
    tried="an empty main() compiled and linked statically, and run",
    advice="install gcc and libc6-dev; only for what is not in the cache yet",
    needed_for=["guest-init", "floor-container"],
    seconds=30,
)
def compiler(host: Host) -> Outcome:
    """Builds the guest's init once, and the hand-written references."""
    room = host.room("cc")
    source, program = room / "empty.c", room / "empty"
    source.write_text("int main(void) { return 0; }\n")
    name = "cc" if find("cc") else "gcc"
    run([name, "-static", "-o", program, source])
    run([program])
    return ok(first_line(run([name, "--version"])))


@probe(
    "mmdebstrap or debootstrap",
    group="tools",
    tried="the --version of each",
    advice="install mmdebstrap",
    needed_for=["image-debian"],
)
def bootstrap(_: Host) -> Outcome:
    """Either makes the image `debian`."""
    said = []
    for name in ("mmdebstrap", "debootstrap"):
        if find(name):
            said.append(first_line(run([name, "--version"])))
    return ok(", ".join(said)) if said else missing("neither is on PATH")


@probe(
    "report libraries",
    group="tools",
    tried=f"looked for {', '.join(_REPORT)}",
    advice="pip install 'isolation-lab[notebooks]'; without: lab bench --no-report",
    needed_for=["report"],
)
def report(_: Host) -> Outcome:
    """Not imported: that takes longer than all else here."""
    absent = [name for name in _REPORT if importlib.util.find_spec(name) is None]
    return missing(f"no {', '.join(absent)}") if absent else ok(f"all {len(_REPORT)}")


PROBES = (busybox, mke2fs, compiler, bootstrap, report)
