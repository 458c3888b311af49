"""docs/reference/record-format.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from lab import record
from lab.frame import COLUMNS
from lab.record import FORMAT, Record, TrialId, WorkloadFacts
from lab.series import MEASURES
from lab.summary import document

from . import records as made
from .reference import DOC, ROOT, plain, rows, section


@pytest.mark.parametrize(
    ("heading", "model"),
    [("The record", Record), ("The trial", TrialId), ("The workload", WorkloadFacts)],
)
def test_every_field_is_told_with_its_meaning_and_no_other(
    heading: str, model: type[BaseModel]
) -> None:
    told = rows(heading)
    assert list(told) == list(model.model_fields), "the same fields in the same order"
    for name, field in model.model_fields.items():
        assert field.description, f"{name} has no description"
        assert plain(told[name][-1]).startswith(field.description), name


@pytest.mark.parametrize(
    ("heading", "model"),
    [("The record", Record), ("The trial", TrialId), ("The workload", WorkloadFacts)],
)
def test_types_are_told_rightly(heading: str, model: type[BaseModel]) -> None:
    names = {"integer", "number", "string", "boolean", "array", "object", "null"}
    for name, schema in model.model_json_schema()["properties"].items():
        told = plain(rows(heading)[name][0])
        options = schema.get("anyOf", [schema])
        types = {one["type"] for one in options if "type" in one} & names
        if "enum" in schema:
            assert told.split(", ") == schema["enum"]
            continue
        assert all(kind in told for kind in types), (name, told, types)
        assert ("null" in told) == ("null" in types), name


def test_the_version_and_its_history_are_told() -> None:
    assert f"own, **{FORMAT}**" in DOC
    told = [int(n) for n in re.findall(r"^- \*\*(\d+)\*\*: ", section("History"), re.M)]
    history = [int(n) for n in re.findall(r"^- (\d+): ", record.__doc__ or "", re.M)]
    assert told == history == list(range(FORMAT, 0, -1))


def test_the_columns_are_told() -> None:
    assert tuple(rows("The table")) == COLUMNS


def test_the_example_of_a_reader_works(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", section("The table"), re.S)
    assert code is not None
    made.write(tmp_path, made.density())
    made.write(tmp_path, made.boot())
    source = code[1].replace('lab.load("', f'lab.load(results={str(tmp_path)!r}, experiment="')
    source = source.replace('"20261124T"', 'run="20261124T"')
    scope: dict[str, object] = {}
    exec(source, scope)
    assert len(scope["frame"]) == 12  # type: ignore[arg-type]


def test_metrics_of_the_synthetic_records_are_told() -> None:
    told = rows("Metrics")
    for kind in (made.boot, made.density, made.disk):
        for one in kind():
            assert all(told[name][0] == one.trial.experiment for name in one.metrics)
    assert set(MEASURES) <= set(told)


def test_the_json_of_show_is_told(tmp_path: Path) -> None:
    shown = document([made.write(tmp_path, made.disk())])
    told = rows("`lab show --json`")
    assert list(told) == list(shown)
    text = section("`lab show --json`")
    (experiment,) = shown["experiments"]
    table = experiment["tables"][0]
    objects = [cell for row in table["rows"] for cell in row.values() if isinstance(cell, dict)]
    for key in {*experiment, *table, *(key for cell in objects for key in cell)}:
        assert f"`{key}`" in text, key


def test_links_to_other_pages_and_sections_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", DOC, re.M)
    }
    for target in re.findall(r"\]\(([^)h]\S*?)\)", DOC):
        page, _, anchor = target.partition("#")
        if page:
            assert (ROOT / "docs/reference" / page).is_file(), target
        else:
            assert anchor in anchors, target
