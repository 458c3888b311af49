"""Run by test_layers.py as a user without rights: a store, an overlay in a user namespace, a
commit of what was written through it, a build. Ends with 77 where no such overlay mounts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runtime import ContainerRunner, ImageStore, Spawner
from tests.tars import directory, make_tar, member

SCRIPT = """
mount -t overlay overlay -o userxattr,lowerdir=$LOWER,upperdir=$1/upper,workdir=$1/work $1/view \
    2>/dev/null || exit 77
cd $1/view && find data opaque -type f | sort
rm data/stays && echo x > data/added
"""


def main(place: Path) -> int:
    store = ImageStore(place / "store")
    assert store.form.xattrs == "user"
    lower = make_tar(
        place / "lower.tar",
        directory("data"),
        member("data/gone", b"1"),
        member("data/stays", b"2", uid=7),
        member("opaque/old", b"3"),
    )
    upper = make_tar(
        place / "upper.tar",
        directory("data"),
        member("data/.wh.gone"),
        member("opaque/.wh..wh..opq"),
        member("opaque/new", b"4"),
    )
    image = store.add("app", [lower, upper])
    for name in ("upper", "work", "view"):
        (place / name).mkdir()
    top_first = ":".join(str(layer) for layer in reversed(image.layers))
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh", str(place)],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LOWER": top_first},
        check=False,
    )
    if done.returncode:
        return done.returncode
    for change in store.diff(place / "upper", image):
        print(change)
    made = store.commit(place / "upper", image, "more")
    assert store.view(made).look("data/stays") is None
    assert store.view(made).read("data/added") == b"x\n"
    other = ImageStore(place / "other")
    store.save(["more"], place / "saved")
    assert other.load(place / "saved")[0].digest == made.digest
    context = place / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM busybox\nRUN id -u > /who && rm -r /var && mkdir /var && echo x > /var/x\n"
    )
    with Spawner() as spawner:
        built = store.build(context, ContainerRunner(spawner), "built")
    var = store.view(built).look("var")
    assert var is not None
    print(store.view(built).read("who"), [entry.path for entry in store.view(built).children(var)])
    for name in store.names():
        store.remove(name)
    assert list((store.root / "layers/sha256").iterdir()) == []
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
