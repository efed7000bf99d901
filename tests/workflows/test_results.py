"""Results of jobs: files that other programs read, pictures without a display, what is not finite."""

import json
from dataclasses import dataclass
from typing import ClassVar
from xml.etree import ElementTree

import ase.io
import matplotlib as mpl
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from matplotlib.image import imread

from carten.drawing import LIGHT, PAGE
from carten.errors import ConfigError, DataError
from carten.interfaces.ase import Calculator
from carten.workflows.results import JobResult, Quantity, as_calculator, require_crystal
from small import small_model


@dataclass(frozen=True)
class Numbers(JobResult):
    job: ClassVar[str] = "numbers"
    value: float

    def quantities(self):
        return [Quantity("value", self.value, "GPa"), Quantity("matrix <b>", np.eye(2)), Quantity("stable", True)]

    def tables(self):
        columns = {"x_A": np.arange(3.0), "y": np.array([1.0, np.nan, 1e-7]), "label": np.array(["a", "", "Γ"])}
        return {"points": columns}

    def structures(self):
        return [molecule("H2O")]

    def draw(self, figure):
        axes = figure.subplots()
        axes.plot([0, 1], [0, self.value], color="C1")
        axes.set_title("x < y")


def test_files_are_what_other_programs_read(tmp_path):
    paths = Numbers(2.5).save(tmp_path / "folder")
    assert [path.name for path in paths] == [
        "numbers.json",
        "numbers-points.csv",
        "numbers.extxyz",
        "numbers.svg",
        "numbers.png",
    ]
    document = json.loads(paths[0].read_text())
    assert document["results"]["value"] == {"value": 2.5, "unit": "GPa"}
    assert document["tables"]["points"]["y"] == [1.0, None, 1e-7]
    assert document["tables"]["points"]["label"] == ["a", "", "Γ"]
    assert np.genfromtxt(paths[1], delimiter=",", names=True, encoding="utf-8")["x_A"].tolist() == [0.0, 1.0, 2.0]
    assert ase.io.read(paths[2]).get_chemical_formula() == "H2O"
    svg = paths[3].read_text()
    ElementTree.fromstring(svg)
    assert LIGHT.series[1] in svg and not any(colour in svg for colour in (PAGE.ink, *PAGE.series))
    assert imread(paths[4]).shape[0] > 400


def test_what_is_not_finite_is_null(tmp_path):
    (path, *_) = Numbers(float("nan")).save(tmp_path)
    assert json.loads(path.read_text())["results"]["value"]["value"] is None


def test_a_notebook_gets_a_table_and_the_picture():
    html = Numbers(2.5)._repr_html_()
    assert "<td>value</td><td>2.5</td><td>GPa</td>" in html and "<svg" in html
    assert "<b>" not in html and "matrix &lt;b&gt;" in html


def test_pictures_repeat_need_no_display_and_change_no_setting(tmp_path):
    before = dict(mpl.rcParams)
    Numbers(1.0).plot(tmp_path / "one.svg")
    Numbers(1.0).plot(tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert dict(mpl.rcParams) == before
    with pytest.raises(ConfigError, match=r"ending in \.svg, \.png"):
        Numbers(1.0).plot(tmp_path / "one.gif")


def test_models_and_calculators():
    calculator = EMT()
    assert as_calculator(calculator) is calculator
    assert isinstance(as_calculator(small_model()), Calculator)


def test_a_molecule_is_no_crystal():
    require_crystal(bulk("Cu"), "eos")
    with pytest.raises(DataError, match=r"eos needs a crystal.*H2O.*set both"):
        require_crystal(molecule("H2O"), "eos")
    with pytest.raises(DataError, match="no atoms"):
        require_crystal(ase.Atoms(pbc=True, cell=[1, 1, 1]), "eos")
