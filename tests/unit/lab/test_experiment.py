"""The experiment file: what it accepts, and the one sentence it answers to a mistake."""

import tomllib

import pytest
import tomli_w

from lab.bench import plan_suite
from lab.errors import ExperimentError, UsageError
from lab.experiment import builtin_suites, load_suite, parse_suite


def suite(**experiment: object) -> dict[str, object]:
    return {"name": "t", "experiment": [{"kind": "boot", **experiment}]}


@pytest.mark.parametrize("name", sorted(builtin_suites()))
def test_every_builtin_suite_is_valid_and_plans(name: str) -> None:
    planned = plan_suite(load_suite(builtin_suites()[name]))
    assert all(item.plan.trials for item in planned)


def test_a_suite_written_back_to_toml_reads_the_same() -> None:
    original = load_suite(builtin_suites()["quick"])
    text = tomli_w.dumps(original.as_document())
    assert parse_suite(tomllib.loads(text), source="copy") == original


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (suite(trails=3), ["experiment[0].trails", 'did you mean "trials"', "backends"]),
        (suite(trials=-1), ["trials", "-1"]),
        (suite(trials={"vm": 0}), ["trials", "vm"]),
        (suite(limits={"memory": "lots"}), ["limits.memory", "lots", "64M"]),
        (suite(limits={"memry": "64M"}), ["limits.memry", 'did you mean "memory"', "cpus"]),
        (suite(settle="soon"), ["settle", "250ms"]),
        (suite(backends=["vm", "vm"]), ["backends", "once"]),
        ({"name": "t"}, ["experiment", "missing"]),
        ({"name": "t", "experiment": []}, ["experiment"]),
        (
            {"name": "t", "sead": 1, "experiment": [{"kind": "boot"}]},
            ["sead", 'did you mean "seed"'],
        ),
        ({"name": "../x", "experiment": [{"kind": "boot"}]}, ["name"]),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    document: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ExperimentError) as caught:
        parse_suite(document, source="my.toml")
    message = str(caught.value)
    assert message.startswith("my.toml: ")
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (suite(backends=["vm", "contaner"]), ["backends", "contaner", '"container"', "native"]),
        ({"name": "t", "experiment": [{"kind": "bot"}]}, ["kind", "bot", '"boot"', "density"]),
        (suite(image="busybix"), ["image", "busybix", '"busybox"', "debian"]),
        (suite(options={"vm": {"machine": "pc98"}}), ["options.vm.machine", "pc98", "microvm"]),
        (suite(options={"vm": {"mashine": "q35"}}), ["options.vm.mashine", '"machine"']),
        (suite(trials={"vmm": 3}), ["vmm", "vm"]),
    ],
)
def test_a_name_that_does_not_exist_is_refused_with_the_choices(
    document: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        plan_suite(parse_suite(document, source="my.toml"))
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_file_that_is_no_toml_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.toml"
    path.write_text("[[experiment")
    with pytest.raises(ExperimentError, match=r"bad\.toml: not valid TOML"):
        load_suite(path)
    with pytest.raises(ExperimentError, match="cannot be read"):
        load_suite(tmp_path / "none.toml")


def test_levels_and_trials_may_differ_between_backends() -> None:
    parsed = parse_suite(
        suite(trials={"vm": 2, "native": 5}, levels={"vm": [3, 1, 3]}), source="t"
    ).experiment[0]
    assert (parsed.trials_of("vm"), parsed.trials_of("native")) == (2, 5)
    assert parsed.levels_of("vm") == (1, 3)
