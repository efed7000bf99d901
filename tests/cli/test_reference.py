"""Reference on the command line: every row of the tables, every option, the schema."""

import json
import re

import pytest
import yaml
from ase.io import write

from carten.model.config import PRESETS
from carten.properties.spec import INPUTS, PROPERTIES
from carten.train.config import Config
from small import labelled


def uncommented(text: str) -> str:
    return "\n".join(re.sub("^# ", "", line) for line in text.splitlines()[1:])


@pytest.mark.parametrize("preset", PRESETS)
def test_init_all_names_every_option_with_its_default(run, preset):
    """With and without the comment signs it is the configuration of the preset."""
    text = run("init", "--all", "--preset", preset).out
    default = Config.parse({"data": {"train": "train.extxyz"}, "model": {"preset": preset}})
    assert Config.parse(yaml.safe_load(text)) == default
    document = yaml.safe_load(uncommented(text))
    assert Config.parse(document).model_dump() == default.model_dump()
    assert set(document) == set(Config.model_fields)
    for section in ("data", "model", "optimizer", "schedule", "training"):
        assert set(document[section]) == set(type(getattr(default, section)).model_fields), section
    for word in ("kind les", "permittivity", "route: null", "embed: null", "functional: required"):
        assert word in text


def test_init_all_takes_the_labels_of_data(run, tmp_path):
    frames = labelled(2)
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.calc = None
    write(tmp_path / "data.extxyz", frames)
    config = Config.parse(yaml.safe_load(run("init", "--all", "--data", tmp_path / "data.extxyz").out))
    assert config.properties["energy"].key == "REF_energy"
    assert list(config.properties) == ["energy"]


def test_properties_lists_all_rows_with_their_units(run):
    said = run("properties")
    assert said.code == 0
    for row in (*PROPERTIES, *INPUTS):
        assert re.search(rf"^{row.name} .*{re.escape(row.unit)}", said.out, re.MULTILINE), row.name
    assert "equilibrated" in said.out
    one = run("properties", "stress").out
    assert "positive under tension" in one
    assert "derivative: ∂energy/∂strain / volume" in one
    assert "no property or input 'stres'" in run("properties", "stres").err


def test_the_schema_is_that_of_configurations(run):
    schema = json.loads(run("config", "--schema").out)
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["required"] == ["data"]


def test_config_prints_a_configuration_with_all_defaults(run, tmp_path):
    (tmp_path / "config.yaml").write_text("data: {train: a.extxyz}")
    said = run("config", tmp_path / "config.yaml")
    assert yaml.safe_load(said.out)["training"]["epochs"] == 200
    (tmp_path / "wrong.yaml").write_text("data: {trian: a.extxyz}")
    assert 'did you mean "train"?' in run("config", tmp_path / "wrong.yaml").err
    assert run("config").code == 2
    assert run("config", tmp_path / "config.yaml", "--schema").code == 2
