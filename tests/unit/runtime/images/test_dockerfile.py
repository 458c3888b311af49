"""Reading Dockerfiles and .dockerignore files."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import DockerfileError
from runtime.images.dockerfile import Instruction, expand, parse, words
from runtime.images.ignore import ignored
from runtime.images.stage import SETTINGS, empty, pairs


def read(tmp_path: Path, text: str) -> list[Instruction]:
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    return parse(path)


def test_instructions_with_their_lines(tmp_path: Path) -> None:
    steps = read(
        tmp_path,
        "# syntax=docker/dockerfile:1\n\n# a comment\nfrom  debian AS base\n"
        "RUN one && \\\n    # within\n\n    two \\\n  three\n"
        '  COPY --from=base --chown=a:b ["x y", "/z"]\nRUN echo "# not a comment"\n',
    )
    assert [(step.line, step.keyword) for step in steps] == [
        (4, "FROM"),
        (5, "RUN"),
        (10, "COPY"),
        (11, "RUN"),
    ]
    assert steps[0].rest == "debian AS base"
    assert steps[1].rest.split() == ["one", "&&", "two", "three"]
    assert steps[2].flags == (("from", "base"), ("chown", "a:b"))
    assert steps[2].json == ("x y", "/z")
    assert steps[3].rest == 'echo "# not a comment"'


def test_another_escape_character(tmp_path: Path) -> None:
    steps = read(tmp_path, "# escape=`\nRUN a `\n  b\nENV P=c:\\x\n")
    assert steps[0].rest.split() == ["a", "b"]
    assert words(steps[1], {}.get) == ["P=c:\\x"]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "no instruction"),
        ("FROM x\n\nRUN\n", 3, "needs arguments"),
        ("FROM x\nRUN <<EOF\nls\nEOF\n", 2, "here-documents"),
        ("FROM x\nCOPY <<-'E' /x\nE\n", 2, "here-documents"),
        ("FROM x\n!!\n", 2, "is no instruction"),
        ("# escape=x\nFROM x\n", 1, "escape"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(DockerfileError, match=reason) as caught:
        read(tmp_path, text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{tmp_path}/Dockerfile:{line}: ")


def step(text: str) -> Instruction:
    keyword, _, rest = text.partition(" ")
    return Instruction("Dockerfile", 1, keyword, (), rest, "\\")


VARIABLES = {"A": "1", "EMPTY": "", "S": "x y"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$Ab", ""),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A \\" $S"', '1 " x y'),
        ("${NO:-d$A}", "d1"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${A:+yes}${NO:+no}", "yes"),
        ("${EMPTY+yes}", "yes"),
        ("a\\ b", "a b"),
        ("$", "$"),
        ("100%", "100%"),
        ("${NO:-${A:-x}}", "1"),
    ],
)
def test_variables_and_quotes(text: str, value: str) -> None:
    assert expand(step("RUN x"), text, VARIABLES.get) == value


@pytest.mark.parametrize("text", ["'open", '"open', "${A", "${A%x}", "${NO:?must be set}"])
def test_what_cannot_be_expanded(text: str) -> None:
    with pytest.raises(DockerfileError):
        expand(step("RUN x"), text, VARIABLES.get)


def test_words_keep_quoted_spaces() -> None:
    assert words(step('COPY "a b" $S c\\ d'), VARIABLES.get) == ["a b", "x y", "c d"]


def test_pairs_in_both_forms() -> None:
    assert pairs(step('ENV a=1 b="2 3" c=$S'), VARIABLES.get) == {"a": "1", "b": "2 3", "c": "x y"}
    assert pairs(step("ENV name all the rest"), VARIABLES.get) == {"name": "all the rest"}
    for wrong in ("ENV name", "ENV a=1 b", "ENV a=1 =2"):
        with pytest.raises(DockerfileError):
            pairs(step(wrong), VARIABLES.get)


def test_settings_change_the_configuration() -> None:
    stage = empty("base")
    for text in [
        "ENV A=1 B=2",
        "ENV A=$B",
        "LABEL l=$A",
        "WORKDIR /a",
        "WORKDIR ../b/./c",
        "USER u$A:g",
        "CMD old",
        'ENTRYPOINT ["/e"]',
        "EXPOSE 80 9000-9001/udp",
        'VOLUME ["/v 1"]',
        "STOPSIGNAL SIGINT",
        'SHELL ["/bin/bash", "-c"]',
        "CMD run $A",
    ]:
        stage = SETTINGS[text.partition(" ")[0]](stage, step(text))
    assert stage.execution == {
        "Env": ["A=2", "B=2"],
        "Labels": {"l": "2"},
        "WorkingDir": "/b/c",
        "User": "u2:g",
        "Entrypoint": ["/e"],
        "ExposedPorts": {"80/tcp": {}, "9000/udp": {}, "9001/udp": {}},
        "Volumes": {"/v 1": {}},
        "StopSignal": "SIGINT",
        "Shell": ["/bin/bash", "-c"],
        "Cmd": ["/bin/bash", "-c", "run $A"],
    }


@pytest.mark.parametrize("text", ["EXPOSE http", "EXPOSE 70000", "STOPSIGNAL SIGNO", "SHELL bash"])
def test_settings_that_cannot_be(text: str) -> None:
    with pytest.raises(DockerfileError):
        SETTINGS[text.partition(" ")[0]](empty("base"), step(text))


def test_entrypoint_forgets_the_command_of_the_base_only() -> None:
    base = empty("base").setting(Cmd=["inherited"])
    assert "Cmd" not in SETTINGS["ENTRYPOINT"](base, step("ENTRYPOINT x")).execution
    own = SETTINGS["CMD"](base, step('CMD ["own"]'))
    assert SETTINGS["ENTRYPOINT"](own, step("ENTRYPOINT x")).execution["Cmd"] == ["own"]


def test_dockerignore_patterns_begin_at_the_root(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text(
        "# comment\n*.log\n/build/\n**/tmp\nsrc/*/x?\n!keep.log\ndocs\n!docs/README\n"
    )
    out = ignored(tmp_path, tmp_path / "Dockerfile")
    left_out = ["a.log", "build", "build/x", "a/b/tmp", "tmp/f", "src/a/x1", "docs/a"]
    kept = ["keep.log", "sub/a.log", "src/x1", "docs/README", "sub/build"]
    assert [path for path in left_out + kept if out(path)] == left_out


def test_the_ignore_file_of_a_dockerfile_counts_first(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a\n")
    (tmp_path / "Other.dockerignore").write_text("b\n")
    assert ignored(tmp_path, tmp_path / "Other")("b")
    assert not ignored(tmp_path, tmp_path / "Other")("a")
    assert not ignored(tmp_path / "none", tmp_path / "none" / "Dockerfile")("a")
