import re
from pathlib import Path
from typing import Any

import pytest

from carten.errors import ConfigError
from carten.train.config import Config
from carten.train.terms import terms

MINIMAL: dict[str, Any] = {"data": {"train": "train.extxyz"}}


def message(document: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.parse(document)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"training": {"epoch": 3}}, ["training.epoch", 'did you mean "epochs"?', "max_minutes"]),
        ({"modell": {}}, ["modell", 'did you mean "model"?']),
        ({"model": {"radial": {"n_bases": 8}}}, ["model.radial.n_bases", 'did you mean "n_basis"?']),
        ({"properties": {"forces": {"wieght": 1}}}, ["properties.forces.wieght", 'did you mean "weight"?']),
        ({"properties": {"forces": {"loss": "square"}}}, ["properties.forces.loss", "'absolute'", '"squared"?']),
        ({"schedule": {"name": "cosin"}}, ["schedule.name", "'plateau'", "found 'cosin'", '"cosine"?']),
        ({"training": {"ema": 1.5}}, ["training.ema", "less than 1", "found 1.5"]),
        ({"optimizer": {"lr": "fast"}}, ["optimizer.lr", "number", "found 'fast'"]),
        ({"optimizer": {"lr": float("nan")}}, ["optimizer.lr", "finite"]),
        ({"reference_energies": "fit"}, ["reference_energies", "'fitted'", "found 'fit'"]),
        ({"data": {"train": "a", "batch": {}}}, ["data.batch", "structures, atoms, edges"]),
        ({"data": {"train": "a", "validation": 1.5}}, ["data.validation", "below 1", "found 1.5"]),
        ({"data": {"train": "a", "validation": 0}}, ["data.validation", "fraction between 0 and 1"]),
        ({"data": {}}, ["data.train", "required"]),
        ({"properties": {}}, ["properties", "at least 1"]),
        ({"terms": [{"kind": "zbl"}, {"kind": "d33"}]}, ["terms.1.kind", "'zbl', 'd3', 'd4'", "found 'd33'", '"d3"?']),
        ({"terms": [{"functional": "pbe"}]}, ["terms.0.kind", "is required"]),
        ({"terms": [{"kind": "d4"}]}, ["terms.0.functional", "is required"]),
        ({"terms": [{"kind": "d3", "functionl": "pbe"}]}, ["terms.0.functionl", 'did you mean "functional"?']),
        ({"terms": [{"kind": "zbl", "cutof": 1}]}, ["terms.0.cutof", 'did you mean "cutoff"?', "kind, cutoff"]),
        ({"terms": [{"kind": "zbl", "cutoff": -1}]}, ["terms.0.cutoff", "greater than 0", "found -1"]),
        ({"terms": [{"kind": "zbl"}, {"kind": "zbl", "cutoff": 1}]}, ["terms", "zbl is listed twice"]),
        (
            {"terms": [{"kind": "d3", "functional": "pbe"}, {"kind": "d4", "functional": "pbe"}]},
            ["terms", "d3 and d4 both add dispersion; keep one"],
        ),
        ({"terms": {"kind": "zbl"}}, ["terms", "found {'kind': 'zbl'}"]),
        ({"schedule": {"name": "wsd", "warmup": 0.5, "decay": 0.7}}, ["schedule", "at most 1"]),
    ],
)
def test_mistakes_name_the_key_and_what_is_allowed(change: dict[str, Any], expected: list[str]) -> None:
    found = message({**MINIMAL, **change})
    assert all(part in found for part in expected), found


def test_every_mistake_is_reported_at_once() -> None:
    found = message({"data": {"trian": "a"}, "training": {"epoch": 1}, "seed": -1})
    assert "4 mistakes" in found
    assert all(key in found for key in ("data.train:", "data.trian:", "training.epoch:", "seed:"))


@pytest.mark.parametrize("document", [None, [], "text"])
def test_not_a_mapping(document: Any) -> None:
    assert "data" in message(document)


def test_file_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path / "absent.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("data: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        Config.load(path)


def test_paths_are_relative_to_the_file_and_a_dump_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "data: {train: [a.xyz, b.xyz], validation: v.xyz, test: /t.xyz}\nmodel: {preset: ictp}\noutput: out\n"
    )
    config = Config.load(path)
    assert config.data.train == (tmp_path / "a.xyz", tmp_path / "b.xyz")
    assert config.data.validation == (tmp_path / "v.xyz",)
    assert config.data.test == (Path("/t.xyz"),)
    assert config.output == tmp_path / "out"
    copy = tmp_path / "elsewhere" / "config.yaml"
    copy.parent.mkdir()
    copy.write_text(config.dump())
    assert Config.load(copy) == config


def test_numbers_without_a_point_are_numbers() -> None:
    """YAML reads 1e-6 as a string."""
    assert Config.parse({**MINIMAL, "optimizer": {"lr": "1e-3"}}).optimizer.lr == 1e-3


def test_terms_take_weight_loss_and_route_from_the_row() -> None:
    config = Config.parse(
        {
            **MINIMAL,
            "properties": {"energy": {"weight": 0}, "forces": {"weight": 3, "loss": "huber", "route": "readout"}},
        }
    )
    (term,) = terms(config.properties)
    assert (term.property.name, term.weight, term.kind) == ("forces", 3.0, "huber")
    assert type(term.property.routes[0]).__name__ == "Readout"


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"enrgy": {}}, ["properties.enrgy", 'did you mean "energy"?', "scope, indices, parity, unit"]),
        ({"shielding": {"scope": "atom", "indices": "ij"}}, ["properties.shielding", "missing parity, unit"]),
        (
            {"shielding": {"scope": "atom", "indices": "i=j", "parity": 1, "unit": "ppm"}},
            ["properties.shielding.indices"],
        ),
        ({"energy": {"scope": "atom"}}, ["properties.energy.scope", "built in"]),
        *(
            ({name: {"scope": "atom", "indices": "", "parity": 1, "unit": ""}}, [f"properties.{name}: expected a name"])
            for name in ("a.b", "", "training", "keys", "0")
        ),
        ({"energy": {"route": "readout"}}, ["properties.energy.route", "one of sum", "'readout'"]),
        ({"energy": {"weight": 0}}, ["at least one weight"]),
    ],
)
def test_wrong_properties(properties: dict[str, Any], expected: list[str]) -> None:
    config = Config.parse({**MINIMAL, "properties": properties})
    with pytest.raises(ConfigError) as caught:
        terms(config.properties)
    assert all(part in str(caught.value) for part in expected), str(caught.value)


def test_a_new_property_is_declared_in_the_configuration() -> None:
    shielding = {"scope": "atom", "indices": "ij", "parity": 1, "unit": "ppm", "key": "sigma"}
    (term,) = terms(Config.parse({**MINIMAL, "properties": {"shielding": shielding}}).properties)
    assert (term.property.scope, term.property.shape, term.property.unit) == ("atom", (3, 3), "ppm")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 2024-13-45", "seed: expected a valid integer"),  # a date to PyYAML, and an impossible one
        ("output: 2024-13-45 99:99:99", ""),
        (f"seed: {'1' * 5000}", "has a number that can't be read"),
        ("? [a, b]\n: 1", "not valid YAML.*unhashable"),
        ("? {a: 1}\n: 1", "not valid YAML.*unhashable"),
        ("model: !!python/object/apply:os.system [ls]", "not valid YAML.*tag"),
        ("seed: !!int x", "not valid YAML.*tag"),
        ("terms: !!set {a, b}", "not valid YAML.*tag"),
        ("model: " + "[" * 5000, "nested too deeply"),
        ("model: " + "{a: " * 40 + "1" + "}" * 40, "nested too deeply: expected at most 30"),
        ("model: &x [*x]", "nested too deeply"),
        ("seed: 1\nseed: 2", "not valid YAML.*found the key 'seed' twice"),
        ("\n".join(["a0: &a0 [1]", *(f"a{k}: &a{k} [{f'*a{k - 1}, ' * 9}]" for k in range(1, 12))]), "values"),
        ("data: {train: 'a\\0b'}", ""),
        ('data: {train: "a\\0b"}', "data.train: expected the name of a file or folder"),
        ("output: ''", "output: expected the name of a file or folder"),
        ("1: 2", "1: expected keys should be strings"),
        ("seed: 99999999999999999999", "seed: .*less than or equal to"),
        ("training: {epochs: 1" + "0" * 400 + "}", "training.epochs: .*less than or equal to"),
        ("seed: \x00", "not valid YAML"),
        ("x" * 2_000_000, "more than 1048576 bytes"),
    ],
)
def test_no_text_is_more_than_a_mistake(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text if "data" in text else f"data: {{train: a.xyz}}\n{text}")
    if not expected:
        Config.load(path)
        return
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert re.search(expected, str(caught.value), re.IGNORECASE | re.DOTALL), str(caught.value)[:300]


def test_anchors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {train: a.xyz}\nproperties: {energy: &w {weight: 3}, forces: {<<: *w, loss: huber}}")
    properties = Config.load(path).properties
    assert (properties["forces"].weight, properties["forces"].loss) == (3.0, "huber")


def test_a_name_no_file_can_have() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load("a\0b.yaml")
