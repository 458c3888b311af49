from __future__ import annotations

import pytest

from runtime.errors import UsageError
from runtime.oci.options import FLAG, LIST, NUMBER, TEXT, Option, describe, parse

OPTIONS: tuple[Option, ...] = (
    ("bundle", "b", TEXT, "where"),
    ("detach", "d", FLAG, "do not wait"),
    ("env", "e", LIST, "variables"),
    ("preserve-fds", "", NUMBER, "how many"),
)


def test_every_way_to_write_an_option() -> None:
    for line in (
        ["--bundle", "/b", "id"],
        ["--bundle=/b", "id"],
        ["-b", "/b", "id"],
        ["-bundle", "/b", "id"],
        ["id", "--bundle", "/b"],
        ["--bundle", "/b", "--", "id"],
    ):
        parsed = parse(line, OPTIONS)
        assert (parsed["bundle"], parsed.rest) == ("/b", ["id"])
        assert parsed.given == {"bundle"}


def test_defaults() -> None:
    parsed = parse([], OPTIONS)
    assert (parsed["bundle"], parsed["detach"], parsed["env"], parsed["preserve-fds"]) == (
        "",
        False,
        (),
        None,
    )


def test_kinds() -> None:
    parsed = parse(["-d", "-e", "A=1", "--env=B=2", "--preserve-fds", "3"], OPTIONS)
    assert (parsed["detach"], parsed["env"], parsed["preserve-fds"]) == (True, ("A=1", "B=2"), 3)
    assert parse(["--detach=false"], OPTIONS)["detach"] is False


def test_a_command_keeps_its_own_options() -> None:
    parsed = parse(["-d", "id", "ls", "-b", "--", "x"], OPTIONS, leading=True)
    assert (parsed["detach"], parsed["bundle"]) == (True, "")
    assert parsed.rest == ["id", "ls", "-b", "--", "x"]


def test_a_single_dash_is_an_argument() -> None:
    assert parse(["--bundle", "-", "-"], OPTIONS).rest == ["-"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--nope"], "unknown option --nope"),
        (["--bundle"], "option --bundle needs a value"),
        (["--preserve-fds", "x"], "'x' is no number"),
        (["--detach=perhaps"], "neither true nor false"),
    ],
)
def test_refused(line: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(line, OPTIONS)


def test_description() -> None:
    assert "--bundle, -b TEXT" in describe(OPTIONS)
