"""Builds from Dockerfiles: commands run in real containers."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import (
    BuildError,
    BuildStepFailed,
    DockerfileError,
    Image,
    ImageStore,
    Spawner,
    SpecError,
)
from runtime.build_runner import ContainerRunner
from runtime.images.runner import RunStep
from tests.tars import make_tar, member, symlink
from tests.unit.runtime.images.conftest import contents

pytestmark = pytest.mark.root


class CountingRunner:
    """Runs steps in containers and remembers them."""

    def __init__(self, spawner: Spawner) -> None:
        self._run = ContainerRunner(spawner)
        self.steps: list[RunStep] = []

    def __call__(self, step: RunStep, /) -> int:
        self.steps.append(step)
        return self._run(step)


@pytest.fixture
def runner(spawner: Spawner) -> CountingRunner:
    return CountingRunner(spawner)


@pytest.fixture
def context(folder: Path) -> Path:
    path = folder / "context"
    (path / "src/sub").mkdir(parents=True)
    (path / "src/a.txt").write_text("a")
    (path / "src/sub/b.log").write_text("b")
    (path / "tool.sh").write_text("#!/bin/sh\necho tool\n")
    (path / "tool.sh").chmod(0o755)
    return path


Build = Callable[..., Image]


@pytest.fixture
def build(images: ImageStore, context: Path, runner: CountingRunner) -> Build:
    def build(text: str, **options: object) -> Image:
        (context / "Dockerfile").write_text(text)
        return images.build(context, runner, "built", **options)  # type: ignore[arg-type]

    return build


STAGES = """\
ARG BASE=busybox
FROM ${BASE} AS one
ARG WHO=world
ENV GREETING="hello $WHO"
WORKDIR /work/dir
COPY src/ .
RUN echo "$GREETING" > out; id -u >> out; ls >> out
RUN true
FROM busybox
COPY --from=one --chown=nobody /work/dir/out /data/
COPY --chmod=700 tool.sh /bin/
USER nobody
RUN id -un > /tmp/who; pwd >> /tmp/who; echo $HOME >> /tmp/who
ENTRYPOINT ["/bin/tool.sh"]
LABEL made=here
"""


def test_stages_steps_and_owners(images: ImageStore, build: Build, context: Path) -> None:
    (context / ".dockerignore").write_text("**/*.log\n")
    image = build(STAGES)
    view = images.view(image)
    assert view.read("data/out") == b"hello world\n0\na.txt\nout\nsub\n"
    assert view.read("tmp/who") == b"nobody\n/\n/nonexistent\n"
    out, tool, who = (view.look(path) for path in ("data/out", "bin/tool.sh", "tmp/who"))
    assert out is not None and tool is not None and who is not None
    assert (out.info.st_uid, out.info.st_gid, tool.info.st_uid) == (65534, 65534, 0)
    assert stat.S_IMODE(tool.info.st_mode) == 0o700
    assert who.info.st_uid == 65534
    temporary = view.look("tmp")
    assert temporary is not None
    assert stat.S_IMODE(temporary.info.st_mode) == 0o1777  # a step keeps what it passes through
    assert (image.entrypoint, image.user, image.labels) == (
        ("/bin/tool.sh",), "nobody", {"made": "here"})  # fmt: skip
    assert len(image.layers) == 4  # the base, two COPYs, one RUN; settings have none
    steps = [step.created_by.split()[0] for step in images.history("built")]
    assert steps == ["recipe", "COPY", "COPY", "USER", "RUN", "ENTRYPOINT", "LABEL"]


def test_steps_are_cached_by_content(
    images: ImageStore, build: Build, context: Path, runner: CountingRunner
) -> None:
    first = build(STAGES)
    assert len(runner.steps) == 3
    for path in context.rglob("*"):
        os.utime(path)  # times do not count
    assert build(STAGES).digest == first.digest
    assert len(runner.steps) == 3
    build(STAGES.replace('ENTRYPOINT ["/bin/tool.sh"]', "CMD x"))
    assert len(runner.steps) == 3  # what comes before is as it was
    (context / "tool.sh").write_text("#!/bin/sh\necho changed\n")
    build(STAGES)
    assert len(runner.steps) == 4  # only the RUN after the COPY
    build(STAGES, args={"WHO": "you"})
    assert len(runner.steps) == 7
    build(STAGES, use_cache=False)
    assert len(runner.steps) == 10
    images.remove("built")
    images.prune()
    build(STAGES)
    assert len(runner.steps) == 13  # the cache keeps no layer alive


def test_only_the_stages_that_are_needed(build: Build, runner: CountingRunner) -> None:
    image = build(STAGES, target="one")
    assert [step.argv[-1][:4] for step in runner.steps] == ["echo", "true"]
    assert image.env["GREETING"] == "hello world"
    assert image.cwd == "/work/dir"
    text = "FROM busybox AS unused\nRUN false\nFROM busybox AS used\nRUN echo x > /x\nFROM used\n"
    assert len(build(text).layers) == 2


def test_a_step_that_changes_nothing_has_no_layer(build: Build) -> None:
    assert len(build("FROM busybox\nRUN true\nWORKDIR /tmp\nCMD x\n").layers) == 1


def test_from_scratch(images: ImageStore, build: Build, context: Path) -> None:
    image = build('FROM scratch\nCOPY tool.sh /\nCMD ["/tool.sh"]\n')
    assert len(image.layers) == 1
    assert [path.name for path in image.layers[0].iterdir()] == ["tool.sh"]
    with pytest.raises(BuildError, match=r"Dockerfile:3: RUN"):
        build("FROM scratch\nCOPY tool.sh /\nRUN /tool.sh\n")


def test_add_unpacks_archives_with_their_owners(
    images: ImageStore, build: Build, context: Path
) -> None:
    make_tar(context / "a.tar", member("in/file", b"x", uid=5), symlink("in/link", "file"))
    image = build("FROM busybox\nADD a.tar tool.sh /opt/\nCOPY a.tar /opt/\n")
    view = images.view(image)
    entry = view.look("opt/in/file")
    assert entry is not None
    assert entry.info.st_uid == 5
    assert view.read("opt/in/link") == b"x"
    assert view.look("opt/tool.sh") is not None
    assert view.look("opt/a.tar") is not None  # COPY unpacks nothing
    make_tar(context / "a.tar", member("../../evil", b"x"))
    with pytest.raises(BuildError, match=r"Dockerfile:2: ADD: .*'\.\./\.\./evil'"):
        build("FROM busybox\nADD a.tar /opt/\n")


def test_copying_follows_the_images_links_inside_it(
    images: ImageStore, build: Build, context: Path, folder: Path
) -> None:
    base = make_tar(
        folder / "base.tar",
        symlink("lib", "usr/lib"), symlink("out", "/../../../../etc"), member("usr/lib/old", b"1"),
        member("usr/lib/deep/f", b"1", mode=0o600), member("file", b"1"),
    )  # fmt: skip
    images.add("base", [base])
    (context / "tree/lib/deep").mkdir(parents=True)
    (context / "tree/lib/deep/new").write_text("new")
    (context / "outside").symlink_to("/etc")
    (context / "inside").symlink_to("src")
    image = build("FROM base\nCOPY tree /\nCOPY src/a.txt /out/\nCOPY inside /in/\n")
    view = images.view(image)
    link = view.look("lib")
    assert link is not None and stat.S_ISLNK(link.info.st_mode)
    assert view.read("usr/lib/deep/new") == b"new"
    assert view.read("usr/lib/deep/f") == b"1"
    assert view.read("etc/a.txt") == b"a"
    assert view.read("in/a.txt") == b"a"
    for text in ("COPY outside /x/", "COPY ../../../etc/passwd /x", "COPY nothing* /x/"):
        with pytest.raises(DockerfileError, match="is not in"):
            build(f"FROM base\n{text}\n")
    with pytest.raises(BuildError, match="is a directory, and /file"):
        build("FROM base\nCOPY src /file\n")


def test_patterns_and_targets(images: ImageStore, build: Build, context: Path) -> None:
    image = build(
        "FROM busybox\nWORKDIR /w\nCOPY src/*.txt t?ol.sh here/\nCOPY tool.sh renamed\n"
        'COPY ["src/a.txt", "/with space/"]\nCOPY src /tmp\nCOPY . /all/\n'
    )
    root = images.view(image).look("w")
    assert root is not None
    view = images.view(image)
    assert [entry.path for entry in view.walk(root)] == [
        "w/here", "w/here/a.txt", "w/here/tool.sh", "w/renamed"]  # fmt: skip
    assert view.read("with space/a.txt") == b"a"
    assert view.read("tmp/sub/b.log") == b"b"
    assert view.read("all/Dockerfile") is not None
    with pytest.raises(DockerfileError, match="several sources need a directory"):
        build("FROM busybox\nCOPY src/a.txt tool.sh /x\n")


def test_the_network_is_off_unless_it_is_the_hosts(images: ImageStore, build: Build) -> None:
    text = "FROM busybox\nRUN readlink /proc/self/ns/net > /net; cat /etc/resolv.conf > /resolv\n"
    off, on = (build(text, network=network) for network in ("none", "host"))
    ours = f"{Path('/proc/self/ns/net').readlink()}\n".encode()
    assert images.view(off).read("net") != ours
    assert images.view(on).read("net") == ours
    assert images.view(on).read("resolv") == Path("/etc/resolv.conf").read_bytes()
    assert images.view(on).read("etc/resolv.conf") == b""  # the image's own is untouched


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (
            "FROM busybox\nRUN echo oops; exit 3\n",
            BuildStepFailed,
            r":2: RUN .* 3; .*\noops",
        ),
        ("FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n", BuildStepFailed, "ended with 137"),
        ('FROM busybox\nRUN ["/nope"]\n', BuildError, r":2: RUN: could not execute /nope"),
        ("FROM nope\n", BuildError, r":1: FROM nope: no image 'nope'"),
        ("FROM busybox\nUSER bob\nRUN x\n", DockerfileError, r":3: RUN: user 'bob'"),
        ("FROM busybox\n\nHEALTHCHECK NONE\n", DockerfileError, r":3: HEALTHCHECK"),
        ("FROM busybox\nONBUILD RUN x\n", DockerfileError, r":2: ONBUILD"),
        ("RUN x\nFROM busybox\n", DockerfileError, r":1: RUN: comes before the first FROM"),
        ("ARG A\n", DockerfileError, "there is no FROM"),
        ("FROM busybox\nRUN --mount=type=cache,target=/x y\n", DockerfileError, "--mount"),
        ("FROM busybox\nCOPY --from=two x /\n", BuildError, ":2: COPY: no image 'two'"),
        ("FROM busybox\nCOPY x\n", DockerfileError, "a source and a destination"),
        ("FROM busybox\nADD https://example.org/x /\n", DockerfileError, "fetch it before"),
        ("FROM --platform=linux/sparc busybox\n", DockerfileError, "this host builds for"),
        ("FROM busybox\nCOPY --chmod=rwx tool.sh /\n", DockerfileError, "must be octal"),
    ],
)
def test_errors_name_file_and_line_and_leave_nothing(
    images: ImageStore, build: Build, text: str, error: type[Exception], says: str
) -> None:
    images.ensure("busybox")
    before = contents(images)
    with pytest.raises(error, match=says) as caught:
        build(text)
    assert "Dockerfile:" in str(caught.value)
    assert contents(images) == before


def test_arguments_must_be_declared(build: Build) -> None:
    with pytest.raises(SpecError, match="NOPE"):
        build("FROM busybox\n", args={"NOPE": "1"})
    with pytest.raises(SpecError, match="no stage 'two'"):
        build("FROM busybox\n", target="two")


def test_the_same_sources_give_the_same_image(
    images: ImageStore,
    folder: Path,
    context: Path,
    runner: CountingRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On two stores, with SOURCE_DATE_EPOCH, from steps that only copy and set."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    (context / "Dockerfile").write_text("FROM busybox\nCOPY src /src\nENV A=1\n")
    digests = {
        store.build(context, runner, "x").digest
        for store in (images, ImageStore(folder / "second"))
    }
    assert len(digests) == 1


def test_output_is_passed_on_as_it_comes(build: Build) -> None:
    read, write = os.pipe()
    with os.fdopen(read) as out:
        build("FROM busybox\nRUN echo one; echo two >&2\n", output=write)
        os.close(write)
        assert out.read() == "one\ntwo\n"
