"""Inputs, responses and Hessians from a configuration to a model file and back."""

import gzip
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

import carten
from carten.data.dataset import Dataset, collate
from carten.data.labels import Label, frames_from
from carten.errors import ConfigError, DataError, ModelError
from carten.model.conditions import Category, Exchange, Fidelity, Scalar, Tensor
from carten.properties.io import header, load
from carten.properties.spec import property_table
from carten.train.conditions import input_labels, input_row
from carten.train.config import Config, InputConfig, PropertyConfig
from carten.train.loss import LossTerm, combine, errors, loss_terms
from carten.train.run import train
from carten.train.terms import property_row, terms

Configure = Callable[..., Config]
QUIET = Console(quiet=True)


# --- rows from a configuration ----------------------------------------------------------------------------------------


def labels(inputs: dict[str, dict[str, object]], *structures: Atoms, properties: tuple[str, ...] = ()) -> list[Label]:
    rows = [property_table()[name] for name in properties]
    return input_labels({k: InputConfig(**v) for k, v in inputs.items()}, rows, [("frame", a) for a in structures])


def test_known_inputs_take_what_is_configured():
    (label,) = labels({"total_charge": {"key": "q", "default": 0, "scale": 2.0, "unit": "e"}})
    assert (label.file_key, label.unit, label.row.default, label.row.scale) == ("q", "e", 0.0, 2.0)
    assert input_row("magmoms", InputConfig(embed="exchange")).embed == Exchange()
    assert input_row("fidelity", InputConfig(levels="both", values=("a", "b"))).embed == Fidelity(("a", "b"), "both")


def test_categories_find_their_values_in_the_data():
    one, other = Atoms("H", info={"level": "dft", "m": 1}), Atoms("H", info={"level": "cc", "m": 3})
    found = labels({"fidelity": {"key": "level"}, "spin_multiplicity": {"key": "m", "default": 2}}, one, other)
    assert [label.row.embed.values for label in found] == [("cc", "dft"), (1, 3, 2)]
    assert [f.inputs["fidelity"].tolist() for f in frames_from([("a", one), ("b", other)], (), found)] == [[1], [0]]


def test_declared_inputs_are_embedded_as_their_indices_say():
    new = {"scope": "structure", "indices": "", "parity": 1, "unit": "K"}
    assert input_row("mine", InputConfig(**new)).embed == Scalar()
    assert input_row("mine", InputConfig(**{**new, "embed": "category"})).embed == Category()
    assert input_row("mine", InputConfig(**{**new, "parity": -1})).embed == Tensor()
    assert input_row("mine", InputConfig(**{**new, "indices": "ij=ji", "scope": "atom"})).embed == Tensor()


def test_properties_bring_the_inputs_they_need():
    rows = {"dipole": PropertyConfig(route="derivative"), "charges": PropertyConfig(route="balanced")}
    chosen = [property_row(name, config) for name, config in rows.items()]
    found = {label.name: label.row for label in input_labels({"total_charge": InputConfig(default=0)}, chosen, [])}
    assert found["electric_field"].default == 0.0
    assert found["total_charge"].default == 0.0


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("total_chrage", {}, 'inputs.total_chrage: is not known; did you mean "total_charge"?'),
        ("mine", {"scope": "atom", "unit": "e"}, "To declare an input of your own give .*; missing indices, parity"),
        (
            "mine",
            {"scope": "atom", "unit": "e", "indices": "ii", "parity": 1},
            "inputs.mine.indices: .*different letter",
        ),
        ("total_charge", {"parity": -1}, "total_charge is built in"),
        ("total_charge", {"values": (1, 2)}, "only categories have values"),
        ("total_charge", {"levels": "both"}, "only fidelity has levels"),
        ("total_charge", {"default": "zero"}, "inputs.total_charge.default: expected a number, found 'zero'"),
    ],
)
def test_what_is_wrong_with_inputs(name, config, message):
    with pytest.raises(ConfigError, match=message):
        input_row(name, InputConfig(**config))


def test_tensors_have_no_default_but_zero():
    """All components equal would be a direction."""
    assert input_row("electric_field", InputConfig(default=0)).default == 0
    with pytest.raises(ModelError, match=r"input 'electric_field' has the default 1\.0, but of tensors only 0"):
        input_row("electric_field", InputConfig(default=1.0))


def test_a_property_may_be_declared_a_derivative():
    config = PropertyConfig(
        scope="atom",
        indices="ij",
        parity=1,
        unit="e",
        derivative={"of": "energy", "wrt": ["electric_field", "positions"]},
    )
    row = property_row("mine", config)
    assert (row.routes[0].of, row.routes[0].wrt, row.routes[0].sign) == ("energy", ("electric_field", "positions"), 1)
    with pytest.raises(ConfigError, match=r"forces.derivative: forces is built in"):
        property_row("forces", PropertyConfig(derivative={"of": "energy", "wrt": ["positions"]}))
    with pytest.raises(
        ConfigError, match=r"dipole.route: expected one of readout, derivative, multipole, charges, found 'mean'"
    ):
        property_row("dipole", PropertyConfig(route="mean"))
    assert terms({"hessian": PropertyConfig(rows=3)})[0].rows == 3


# --- losses -----------------------------------------------------------------------------------------------------------


def test_polarization_is_trained_modulo_its_quantum():
    atoms = Atoms("H", cell=[3.0, 4.0, 5.0], pbc=True)
    atoms.info["polarization"] = [0.1, 0.0, -0.2]
    row = property_table()["polarization"]
    batch = collate([Dataset(frames_from([("a", atoms)], [Label(row)]), [row], 2.0)[0]])
    predicted = {"polarization": torch.tensor([[3.2, -8.0, 4.8]], dtype=torch.float64)}
    assert errors(row, predicted, batch).tolist() == [
        [pytest.approx(0.1), pytest.approx(0), pytest.approx(0, abs=1e-12)]
    ]
    found = loss_terms([LossTerm(row)], predicted, batch)
    assert found.tolist() == [[pytest.approx(0.01), 3.0]]
    assert combine([LossTerm(row)], found) == pytest.approx(0.01 / 3)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ethanol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of the shipped data, with a total charge."""
    source = Path(carten.__file__).parent / "datasets" / "ethanol_xtb_train.xyz.gz"
    with gzip.open(source, "rt") as file:
        frames = [atoms for atoms in ase.io.read(file, ":200", format="extxyz") if len(atoms) == 9][::24]
    for atoms in frames:
        atoms.info["total_charge"] = 0
    path = tmp_path_factory.mktemp("data") / "ethanol.extxyz"
    ase.io.write(path, frames)
    return path


def responses(configure: Configure, data: Path, **sections: object) -> Config:
    return configure(
        data={"train": str(data), "validation": str(data), "batch": {"structures": 4}},
        model={"n_channels": 4, "l_max_edges": 2, "correlation_order": 2},
        optimizer={"lr": 0.02},
        dtype="float64",
        **sections,
    )


def test_dipoles_are_learned_as_derivatives_and_charges_add_up(configure: Configure, ethanol: Path):
    config = responses(
        configure,
        ethanol,
        properties={"energy": {}, "dipole": {"route": "derivative", "weight": 10.0}, "charges": {"route": "equalised"}},
        training={"epochs": 60, "validate_every": 60},
    )
    result = train(config, console=QUIET)
    labels = np.array([atoms.get_dipole_moment() for atoms in ase.io.read(ethanol, ":")])
    spread = float(np.sqrt(np.mean(labels**2)))
    assert result.validation["dipole_rmse"] < 0.5 * spread
    model = load(result.model)
    assert list(model.inputs) == ["electric_field", "total_charge", "fragment", "fragment_charge"]
    atoms = ase.io.read(ethanol)
    atoms.calc = carten.Calculator(model)
    assert atoms.get_charges().sum() == pytest.approx(0.0, abs=1e-12)
    polarizability = atoms.calc.get_property("polarizability", atoms)
    step = 1e-3
    for axis in range(3):
        pushed = []
        for sign in (-1, 1):
            atoms.info["electric_field"] = sign * step * np.eye(3)[axis]
            pushed.append(atoms.get_dipole_moment())
        slope = 14.399645 * (pushed[1] - pushed[0]) / (2 * step)
        np.testing.assert_allclose(slope, polarizability[axis], rtol=1e-3, atol=1e-3 * np.abs(polarizability).max())


def test_the_route_of_what_is_not_trained_holds(configure: Configure, ethanol: Path):
    """Dipoles from charges that add up, without labels of these."""
    properties = {
        "dipole": {"route": "multipole"},
        "charges": {"route": "balanced", "weight": 0},
        "polarizability": {"weight": 0},
    }
    result = train(responses(configure, ethanol, properties=properties, training={"epochs": 1}), console=QUIET)
    model = load(result.model)
    assert list(model.inputs) == ["total_charge", "fragment", "fragment_charge"]
    assert model.properties["charges"].routes[0].name == "balanced"
    assert "polarizability" not in model.properties, "nothing is obtained from it"
    atoms = ase.io.read(ethanol)
    atoms.calc = carten.Calculator(model)
    assert np.abs(atoms.get_charges()).max() > 1e-6
    assert atoms.get_charges().sum() == pytest.approx(0.0, abs=1e-12)


def test_an_input_that_a_structure_lacks_is_named_with_it(configure: Configure, ethanol: Path, tmp_path: Path):
    frames = ase.io.read(ethanol, ":")
    del frames[3].info["total_charge"]
    ase.io.write(tmp_path / "some.extxyz", frames)
    config = responses(configure, tmp_path / "some.extxyz", inputs={"total_charge": {}})
    with pytest.raises(DataError, match=r"some.extxyz, frame 3: input total_charge .* is missing and has no default"):
        train(config, console=QUIET)


@pytest.mark.parametrize("given", [{"default": "cc"}, {"values": ["emt", "cc"]}], ids=["default", "values"])
def test_a_level_that_no_structure_has_is_an_error(configure: Configure, alloys: Path, tmp_path: Path, given):
    """It would be predicted with weights nobody trained."""
    frames = ase.io.read(alloys, ":")
    for atoms in frames:
        atoms.info["fidelity"] = "emt"
    ase.io.write(tmp_path / "levels.extxyz", frames)
    config = configure(data={"train": str(tmp_path / "levels.extxyz")}, inputs={"fidelity": given})
    with pytest.raises(DataError, match=r"inputs\.fidelity: none of the 24 structures of .* has the value 'cc'"):
        train(config, console=QUIET)


@pytest.fixture(scope="module")
def hessians(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clusters with Hessians of effective medium theory by central differences."""
    rng, frames = np.random.default_rng(5), []
    for _ in range(4):
        atoms = Atoms("Cu2Au", positions=[[0, 0, 0], [2.5, 0, 0], [1.2, 2.3, 0]] + 0.15 * rng.normal(size=(3, 3)))
        atoms.calc = EMT()
        hessian, step = np.empty((9, 9)), 1e-4
        for k in range(9):
            slopes = []
            for sign in (-1, 1):
                moved = atoms.copy()
                moved.positions.flat[k] += sign * step
                moved.calc = EMT()
                slopes.append(-moved.get_forces().ravel())
            hessian[k] = (slopes[1] - slopes[0]) / (2 * step)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.info["hessian"] = (hessian + hessian.T).ravel() / 2
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "hessians.extxyz"
    ase.io.write(path, frames)
    return path


@pytest.mark.parametrize("rows", [2, None], ids=["rows", "whole"])
def test_hessians_are_learned(configure: Configure, hessians: Path, rows: int | None):
    config = responses(
        configure,
        hessians,
        properties={"energy": {}, "forces": {}, "hessian": {"rows": rows}},
        training={"epochs": 60, "validate_every": 60},
    )
    result = train(config, console=QUIET)
    labels = np.array([atoms.info["hessian"] for atoms in ase.io.read(hessians, ":")])
    assert result.validation["hessian_rmse"] < 0.4 * np.sqrt(np.mean(labels**2))
    atoms = ase.io.read(hessians)
    atoms.calc = carten.Calculator(load(result.model))
    matrix = atoms.calc.get_property("hessian", atoms)
    assert np.sqrt(np.mean((matrix - labels[0].reshape(9, 9)) ** 2)) < 0.7 * np.sqrt(np.mean(labels**2))


def test_levels_of_theory_have_reference_energies_of_their_own(configure: Configure, alloys: Path, tmp_path: Path):
    """The second level differs by an energy of each atom, which no network has to learn."""
    frames = []
    for atoms in ase.io.read(alloys, ":"):
        for level, offset in (("emt", 0.0), ("shifted", 1000.0)):
            copy = atoms.copy()
            copy.info["level"] = level
            extra = offset * (1.0 + (atoms.numbers == 79)).sum()
            copy.calc = SinglePointCalculator(
                copy, energy=atoms.get_potential_energy() + extra, forces=atoms.get_forces()
            )
            frames.append(copy)
    ase.io.write(tmp_path / "levels.extxyz", frames)
    config = configure(
        data={"train": str(tmp_path / "levels.extxyz")}, inputs={"fidelity": {"key": "level"}}, dtype="float64"
    )
    result = train(config, console=QUIET)
    assert result.validation["energy_per_atom_rmse"] < 2000.0, "meV, where the levels are 1000 eV per atom apart"
    found = header(result.model)["reference_energies"]
    difference = [found["shifted"][z] - found["emt"][z] for z in ("29", "79")]
    np.testing.assert_allclose(difference, [1000.0, 2000.0], atol=0.5)
    atoms = frames[0].copy()
    atoms.calc = carten.Calculator(result.model)
    energies = []
    for level in ("emt", "shifted"):
        atoms.info["fidelity"] = level
        energies.append(atoms.get_potential_energy())
    assert energies[1] - energies[0] == pytest.approx(1000.0 * (1.0 + (atoms.numbers == 79)).sum(), abs=5.0)
    atoms.info["fidelity"] = "dft"
    with pytest.raises(DataError, match=r"fidelity .* is 'dft', expected one of 'emt', 'shifted'"):
        atoms.get_potential_energy()
