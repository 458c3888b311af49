"""Run by test_bad_luck.py in a mount namespace of its own: a store on a disk that is too small.

Each attempt must end in StoreFull and leave the store as it was. Prints what went wrong, if
anything did."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from runtime import ImageStore, StoreFull
from tests.tars import make_tar, member
from tests.unit.runtime.images.conftest import contents

BIG = 6 << 20


def main(folder: Path, reference: str) -> None:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    store = ImageStore(disk / "store")
    small = make_tar(folder / "small.tar", member("f", os.urandom(1000)))
    image = store.add("small", [small])
    big = make_tar(folder / "big.tar", member("big", os.urandom(BIG)))
    elsewhere = ImageStore(folder / "elsewhere")
    elsewhere.add("big", [small, big])
    elsewhere.save(["big"], folder / "big-docker.tar")
    elsewhere.save(["big"], folder / "big-oci", format="oci", compression="gzip")
    elsewhere.push("big", reference, tls_verify=False)
    upper = folder / "upper"
    upper.mkdir()
    (upper / "big").write_bytes(os.urandom(BIG))
    attempts: dict[str, Callable[[], object]] = {
        "add": lambda: store.add("other", [small, big]),
        "load an archive": lambda: store.load(folder / "big-docker.tar"),
        "load a layout": lambda: store.load(folder / "big-oci"),
        "commit": lambda: store.commit(upper, image, "other"),
        "pull": lambda: store.pull(reference, "other", tls_verify=False),
    }
    for what, attempt in attempts.items():
        expect_full(store, what, attempt)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    before = contents(store)
    for what, attempt in {
        "tag": lambda: store.tag("small", "again"),
        "pin": lambda: store.pin(image),
        "commit to a full disk": attempts["commit"],
    }.items():
        expect_full(store, what, attempt)
    filler.unlink()
    assert contents(store) == before
    assert store.get("small").digest == image.digest
    list(store.shelf.archive(image.diff_ids[0]))  # raises unless the layer is whole
    store.tag("small", "works")


def expect_full(store: ImageStore, what: str, attempt: Callable[[], object]) -> None:
    before = contents(store)
    try:
        attempt()
    except StoreFull as error:
        if "No space left on device" not in str(error) and "no space left" not in str(error):
            print(f"{what}: {error}")
    except BaseException as error:
        print(f"{what}: {type(error).__name__}: {error}")
    else:
        print(f"{what}: it worked")
    after = contents(store)
    names = ("images/sha256", "names", "tmp", "pins")
    if any(before[name] != after[name] for name in names):
        print(f"{what}: left {after}")
    store.prune()  # a first, small layer may be there whole, and unreferred to
    if contents(store) != before:
        print(f"{what}: not as before: {contents(store)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
