import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.errors import ConfigError
from vm.job import POWEROFF, Job, encode, message


def fields(data: bytes) -> list[bytes]:
    header, body = data.split(b"\n", 1)
    verb, length = header.split(b" ")
    assert verb == b"job"
    assert int(length) == len(body)
    assert body.endswith(b"\0")
    return body[:-1].split(b"\0")


def test_fields_of_a_full_job() -> None:
    job = Job(
        argv=("sh", "-c", "exit 3"),
        env={"A": "b"},
        cwd="/tmp",
        uid=1,
        gid=2,
        groups=(3, 4),
        hostname="guest-1",
        rlimits={7: (10, -1)},
        tasks=20,
        poweroff=True,
    )
    assert fields(encode(job)) == [
        b"ash", b"a-c", b"aexit 3", b"eA=b", b"w/tmp", b"u1", b"g2", b"G3", b"G4", b"hguest-1",
        b"r7 10 -1", b"t20", b"d/dev/vda", b"p",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value", ["two words", "a\nb", 'it\'s "so"', "Grüße 世界", "", "=", "$(reboot); `x`"]
)
def test_values_travel_as_they_are(value: str) -> None:
    found = fields(encode(Job(argv=("a", value), env={"V": value})))
    assert b"a" + value.encode() in found
    assert b"eV=" + value.encode() in found


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=9))
def test_any_arguments_round_trip(arguments: list[str]) -> None:
    found = fields(encode(Job(argv=("program", *arguments))))
    assert [f[1:].decode() for f in found if f[:1] == b"a"] == ["program", *arguments]


def test_undecodable_bytes_of_the_host_survive() -> None:
    assert b"a\xff" in fields(encode(Job(argv=("ls", b"\xff".decode("utf-8", "surrogateescape")))))


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job(argv=()), "program"),
        (Job(argv=("",)), "program"),
        (Job(argv=("a",), tasks=0), "one task at least"),
        (Job(argv=("a\0b",)), "NUL"),
        (Job(argv=("a",), env={"A=B": "c"}), "A=B"),
        (Job(argv=("a",), env={"": "c"}), "environment"),
        (Job(argv=("a",), uid=-1), "-1"),
        (Job(argv=("a",), uid=2**32 - 1), "id"),
        (Job(argv=("a",), cwd="tmp"), "absolute"),
        (Job(argv=("a",), hostname="not ok"), "not ok"),
        (Job(argv=("a",), groups=tuple(range(65))), "groups"),
        (Job(argv=("a" * 2**21,)), "too long"),
    ],
)
def test_what_cannot_be_is_refused(job: Job, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        encode(job)


def test_messages() -> None:
    assert POWEROFF == b"poweroff 0\n"
    assert message("exec", b"abc") == b"exec 3\nabc"
