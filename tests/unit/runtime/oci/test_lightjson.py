"""The JSON of the hot path says what `json` says, and imports nothing that is slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.oci.lightjson import JsonError, dumps, loads, pretty

ROOT = Path(__file__).parents[4]

floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_round_trip(value: object) -> None:
    assert loads(dumps(value)) == value == json.loads(dumps(value))


def refuse(constant: str) -> float:
    raise ValueError(constant)  # RFC 8259 knows neither NaN nor Infinity


@given(st.text())
def test_any_text_is_read_as_json_reads_it_or_refused(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=refuse)
    except ValueError:
        with pytest.raises(JsonError):
            loads(text)
    else:
        assert loads(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 column 1: Expecting value"),
        ('{"a": 1,\n "b" 2}', "line 2 column 6: Expecting ':' delimiter"),
        ('{"a": 1} x', "line 1 column 10: Extra data"),
        ("[NaN]", "NaN is no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "Exceeds the limit"),
        ('"a\tb"', "Invalid control character"),
    ],
)
def test_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        loads(text)


def test_pretty_is_json_too() -> None:
    value = {"id": "é", "annotations": {"a": "b"}, "pid": 0}
    assert json.loads(pretty(value)) == value
    assert len(pretty(value).splitlines()) == 5


def test_needs_nothing_slow() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from runtime.oci.lightjson import loads;"
        "loads('{}'); print(*sorted({'json', 're', 'enum'}.intersection(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
