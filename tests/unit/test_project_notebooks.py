"""Notebooks are reports for people: valid, without outputs, and without logic."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from lab.experiment import builtin_suites, load_suite
from lab.experiments import known_experiments
from lab.report.execute import NOTEBOOKS, notebooks_dir

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a cell may consist of: imports, names for the results of calls, and calls.
PLAIN = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
VALUE = (ast.Call, ast.Attribute, ast.Name, ast.Constant, ast.keyword, ast.Load, ast.Store)

every = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_experiments_of_a_bare_bench_have_notebooks() -> None:
    """Of another one the report has the tables."""
    quick = {spec.kind for spec in load_suite(builtin_suites()["quick"]).experiment}
    assert quick <= set(NOTEBOOKS) <= set(known_experiments())
    assert sorted(NOTEBOOKS.values()) == [path.stem for path in PATHS]
    assert notebooks_dir() == ROOT / "notebooks"


@every
def test_it_is_valid_with_an_id_for_every_cell(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the notebooks extra is not installed")
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    ids = [cell["id"] for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@every
def test_it_is_committed_as_it_was_written(path: Path) -> None:
    document = json.loads(path.read_text())
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert path.read_text() == json.dumps(document, indent=1, ensure_ascii=False) + "\n"


@every
def test_it_holds_no_logic(path: Path) -> None:
    for source in code(path):
        assert len(source.splitlines()) <= 8, source
        for statement in ast.parse(source).body:
            assert isinstance(statement, PLAIN), source
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                parts = list(ast.walk(statement))[1:]
                assert all(isinstance(part, VALUE) for part in parts), source


@every
def test_it_imports_the_lab_alone(path: Path) -> None:
    for source in code(path):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] == "lab"
            assert not isinstance(node, ast.Import)


@every
def test_its_parameters_stand_in_one_tagged_cell(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert ["".join(cell["source"]) for cell in tagged] == ['RUN = "latest"\nRESULTS = None']


@every
def test_it_tells_what_can_fool_its_numbers(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert text.startswith("# ")
    assert "**What can fool this:**" in text
