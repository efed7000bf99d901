import csv
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from carten.cli.training import breakdown_table
from carten.data.batches import BatchSampler, Bounds
from carten.data.dataset import Dataset, collate
from carten.data.labels import Label, read_frames
from carten.errors import ConfigError, DataError, ModelError, TrainingError
from carten.interfaces.ase import Calculator
from carten.properties.io import header, load
from carten.properties.spec import property_table
from carten.train import progress
from carten.train.config import Config
from carten.train.files import BEST, LAST, LOG, METRICS, PICTURES
from carten.train.metrics import PropertyErrors
from carten.train.module import Fit
from carten.train.run import train

Configure = Callable[..., Config]
QUIET = Console(quiet=True)
STRESS = {"energy": {"weight": 10}, "forces": {}, "stress": {"weight": 100}}


def rows(config: Config) -> list[dict[str, float]]:
    with (config.output / METRICS).open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_overfits_two_structures(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    two = tmp_path / "two.extxyz"
    ase.io.write(two, ase.io.read(alloys, ":2"))
    config = configure(
        data={"train": str(two), "validation": str(two), "batch": {"structures": 2}},
        model={"n_channels": 8, "correlation_order": 3, "l_max_edges": 2},
        properties={**STRESS, "forces": {"weight": 10}},
        training={"epochs": 300, "validate_every": 100},
        optimizer={"lr": 0.03},
        dtype="float64",
    )
    found = train(config, console=QUIET).validation
    # their forces reach 2000 meV/A: below one per cent of that
    assert found["energy_per_atom_rmse"] < 1.0
    assert found["forces_rmse"] < 10.0
    assert found["stress_rmse"] < 5.0


def test_outputs_of_a_run(configure: Configure, alloys: Path) -> None:
    config = configure(properties=STRESS, data={"test": str(alloys)})
    text = io.StringIO()
    result = train(config, console=Console(file=text))
    assert sorted(os.listdir(config.output)) == [BEST, "config.yaml", *PICTURES, LAST, LOG, METRICS, "tensorboard"]
    assert Config.load(config.output / "config.yaml") == config
    found = rows(config)
    assert [row["epoch"] for row in found] == [1, 2, 3]
    assert list(found[0])[:6] == ["epoch", "step", "minutes", "lr", "train_loss", "validation_loss"]
    assert {"validation_energy_rmse", "validation_energy_per_atom_mae", "validation_stress_max"} <= set(found[0])
    assert min(row["validation_loss"] for row in found) == pytest.approx(result.validation["loss"], rel=1e-6)
    facts = header(config.output / BEST)["provenance"]
    assert facts["validation"]["loss"] == result.validation["loss"]
    assert Config.parse(facts["config"]) == config
    assert {"energies", "forces", "stress", "virial", "virials"} <= set(header(config.output / BEST)["units"])
    assert re.search(r"epoch +loss +energy +energy_per_atom +forces +stress", text.getvalue())
    assert "meV/Angstrom" in text.getvalue()


def test_the_file_holds_the_model_that_was_validated(configure: Configure, alloys: Path) -> None:
    """Test errors of the run are those of the averaged weights in the file, computed independently."""
    result = train(configure(data={"test": str(alloys)}, dtype="float64"), console=QUIET)
    model = load(result.model)
    table = property_table()
    names = ("energy", "forces")
    dataset = Dataset(read_frames(alloys, [Label(table[name]) for name in names]), [table[n] for n in names], 3.5)
    errors = PropertyErrors([table[name] for name in names])
    for indices in BatchSampler(dataset, Bounds(structures=7), shuffle=False).batches(0):
        batch = collate([dataset[index] for index in indices])
        errors.update(model(batch.graph, names), batch)
    assert errors.compute() == pytest.approx({name: result.test[name] for name in errors.compute()}, rel=1e-9)


def test_a_preset_that_is_no_longer_what_it_was_says_so(configure: Configure) -> None:
    shown = io.StringIO()
    train(configure(training={"epochs": 1}, model={"preset": "tace"}), console=Console(file=shown, width=1000))
    assert "preset tace (products mix channels, as its authors have them; the preset that was" in shown.getvalue()


def test_errors_by_group_and_element(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    """The same as of the model in the file on each group, computed independently."""
    frames = ase.io.read(alloys, ":")
    for k, atoms in enumerate(frames):
        atoms.info["config_type"] = ("bulk", "vacancy", "[red]")[k % 3]
    ase.io.write(tmp_path / "groups.extxyz", frames)
    data = {"train": str(tmp_path / "groups.extxyz"), "test": str(tmp_path / "groups.extxyz")}
    result = train(configure(data=data, dtype="float64"), console=QUIET)
    breakdowns = result.breakdowns["test"]
    calculator = Calculator(result.model)
    deviations: dict[str, list[tuple[Any, ...]]] = {}
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = calculator
        energy = 1e3 * (copy.get_potential_energy() - atoms.get_potential_energy())
        forces = 1e3 * (copy.get_forces() - atoms.get_forces())
        deviations.setdefault(atoms.info["config_type"], []).append((energy / len(atoms), forces, atoms.numbers))
    assert list(breakdowns["by group"]["energy_per_atom"]) == ["[red]", "bulk", "vacancy"]
    for group, found in deviations.items():
        energies, forces = (np.array([each[k] for each in found]) for k in range(2))
        for name, values in (("energy_per_atom", energies), ("forces", forces)):
            expected = {"rmse": np.sqrt(np.mean(values**2)), "bias": values.mean(), "count": values.size}
            assert breakdowns["by group"][name][group] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    everything = [each for found in deviations.values() for each in found]
    numbers, forces = (np.concatenate([each[k] for each in everything]) for k in (2, 1))
    for symbol, number in (("Cu", 29), ("Au", 79)):
        expected = np.sqrt(np.mean(forces[numbers == number] ** 2))
        assert breakdowns["by element"]["forces"][symbol]["rmse"] == pytest.approx(expected, rel=1e-3)
    shown = io.StringIO()
    table = breakdown_table("by group", {"test": breakdowns["by group"]}, load(result.model).properties)
    Console(file=shown, width=200).print(table)
    assert re.search(r"energy +meV/atom *\n +\[red\] +[\d.]+ +-?[\d.]+ +8", shown.getvalue())
    assert set(result.breakdowns["validation"]["by group"]["forces"]) <= set(deviations)


def test_two_runs_are_the_same_and_the_global_random_state_is_left_alone(configure: Configure, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    first = train(configure(), console=QUIET)
    second = train(configure(output=str(tmp_path / "second"), training={"checkpoint_minutes": 1e-6}), console=QUIET)
    assert first.validation == second.validation
    assert torch.equal(before, torch.get_rng_state())


def test_workers_change_nothing(configure: Configure, tmp_path: Path) -> None:
    first = train(configure(training={"epochs": 2}), console=QUIET)
    second = train(configure(training={"epochs": 2}, data={"workers": 2}, output=str(tmp_path / "w")), console=QUIET)
    assert first.validation == second.validation


def test_a_label_that_is_missing_everywhere_is_an_error_before_training(configure: Configure) -> None:
    with pytest.raises(DataError, match=r'"dipole".*names in it: .*forces'):
        train(configure(properties={"energy": {}, "dipole": {}}), console=QUIET)


def test_a_run_that_could_not_start_leaves_its_folder_to_the_next(configure: Configure) -> None:
    with pytest.raises(ModelError, match=r"'stress' needs features of rank 2, .*set model.l_max_edges: 2"):
        train(configure(properties={"stress": {"route": "mean"}}), console=QUIET)
    config = configure(training={"epochs": 1})
    assert not config.output.exists()
    train(config, console=QUIET)
    with pytest.raises(ConfigError, match="has files already"):
        train(config, console=QUIET)


def test_validation_without_labels_is_an_error(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    """Its loss would be 0 for any model."""
    bare = [atoms.copy() for atoms in ase.io.read(alloys, ":4")]
    ase.io.write(tmp_path / "bare.extxyz", bare)
    with pytest.raises(DataError, match="none of the 4 structures for validation carries a label of energy, forces"):
        train(configure(data={"validation": str(tmp_path / "bare.extxyz")}), console=QUIET)


def test_a_label_carried_by_some_structures_is_enough(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    structures = ase.io.read(alloys, ":")
    for atoms in structures[1:]:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    path = tmp_path / "some.extxyz"
    ase.io.write(path, structures)
    config = configure(data={"train": str(path), "validation": str(alloys)}, training={"epochs": 1})
    assert np.isfinite(list(train(config, console=QUIET).validation.values())).all()


def test_an_infinite_loss_names_the_structure_and_keeps_the_checkpoint(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label is broken in memory after the first epoch."""
    config = configure(training={"epochs": 3, "checkpoint_minutes": 0})
    step = Fit.training_step

    def broken(self: Fit, batch):
        if self.current_epoch == 1 and 5 in batch.index.tolist():
            batch.targets["energy"][batch.index.tolist().index(5)] = 1e200
        return step(self, batch)

    monkeypatch.setattr(Fit, "training_step", broken)
    with pytest.raises(TrainingError, match=r"NaN or infinite at structures \[5\]"):
        train(config, console=QUIET)
    monkeypatch.undo()
    result = train(config, resume=True, console=QUIET)
    assert (result.epochs, len(rows(config))) == (3, 3)
    assert np.isfinite(result.validation["loss"])


def test_weights_that_blow_up_stop_the_run(configure: Configure) -> None:
    config = configure(optimizer={"lr": 1e30}, schedule={"warmup": 0.0}, training={"clip": None})
    with pytest.raises(TrainingError, match=r"NaN or infinite at structures \[\d+"):
        train(config, console=QUIET)


def test_a_log_file_gets_lines_at_intervals(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between validations that are far apart."""
    lines = {}
    for interval in (0.0, 1000.0):
        monkeypatch.setattr(progress, "INTERVAL", interval)
        text, config = io.StringIO(), configure(output=f"{configure().output}-{interval}", training={"epochs": 2})
        train(config, console=Console(file=text, width=1000))
        lines[interval] = re.findall(r"^ +(\d) step (\d) of 8, \d+ ms/step, 0:00:\d\d left$", text.getvalue(), re.M)
    assert lines[0.0] == [(str(1 + (step - 1) // 4), str(step)) for step in range(1, 9)]
    assert lines[1000.0] == []


def test_a_time_limit_ends_the_decay_and_validates(configure: Configure) -> None:
    config = configure(training={"epochs": 100_000, "max_minutes": 0.05, "validate_every": 100_000})
    result = train(config, console=QUIET)
    (row,) = rows(config)
    assert result.minutes >= 0.05
    assert result.epochs < 100_000
    assert row["lr"] < 0.5 * config.optimizer.lr  # even if the last step was a slow one
    assert row["step"] == result.steps
    assert (config.output / LAST).exists()
    again = train(configure(training={"epochs": 100_000, "max_minutes": 0.1}), resume=True, console=QUIET)
    assert again.steps > result.steps


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"n_layers": 2**20}, r"model: some .* parameters need .* GB in training, this machine has .* GB: lower"),
        ({"radial": {"hidden": [2**20, 2**20]}}, r"parameters need .* GB in training"),
        ({"n_channels": 2**20}, r"parameters need .* GB in training"),
        ({"l_max_edges": 8, "correlation_order": 6}, r"(have about .* paths|parameters need) .* correlation_order"),
        ({"cutoff": 0.1}, r"model.cutoff: no atom in the 16 structures to train on has a neighbour within 0.1 Å"),
    ],
)
def test_models_that_cannot_be_built(configure: Configure, model: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, ModelError), match=message):
        train(configure(model=model), console=QUIET)
    assert not configure().output.exists()


def test_early_stop(configure: Configure) -> None:
    config = configure(optimizer={"lr": 1e-12}, training={"epochs": 50, "patience": 3, "ema": 0})
    result = train(config, console=QUIET)
    assert result.epochs < 10


def test_the_last_epoch_is_validated(configure: Configure) -> None:
    config = configure(training={"epochs": 5, "validate_every": 3})
    train(config, console=QUIET)
    assert [row["epoch"] for row in rows(config)] == [3, 5]


@pytest.mark.parametrize(
    ("given", "message"),
    [({"Cu": -1.0}, "no energy for Au"), ({"Cu": 1.0, "Au": 1.0, "Xx": 1.0}, r"reference_energies\.Xx")],
)
def test_given_reference_energies_must_fit(configure: Configure, given: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(configure(reference_energies=given), console=QUIET)


@pytest.mark.parametrize("energies", ["none", "fitted", {"Cu": -0.1, "Au": -0.2}])
def test_reference_energies_reach_the_model(configure: Configure, energies: object) -> None:
    result = train(configure(reference_energies=energies, training={"epochs": 1}), console=QUIET)
    found = header(result.model)["reference_energies"]
    expected = {"none": {"29": 0.0, "79": 0.0}}.get(str(energies), {"29": -0.1, "79": -0.2})
    assert (found == expected) != (energies == "fitted")


def test_a_property_of_ones_own(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    """A traceful tensor per atom, declared in the configuration alone: here the outer product of the force."""
    structures = ase.io.read(alloys, ":")
    for atoms in structures:
        forces = atoms.get_forces()
        atoms.arrays["sigma"] = (np.einsum("ni,nj->nij", forces, forces) + 3.0 * np.eye(3)).reshape(-1, 9)
        atoms.calc = None
    path = tmp_path / "tensors.extxyz"
    ase.io.write(path, structures)
    sigma = {"scope": "atom", "indices": "ij=ji", "parity": 1, "unit": "ppm", "key": "sigma"}
    config = configure(
        data={"train": str(path)},
        model={"l_max_edges": 2, "l_max_features": 2},
        properties={"shielding": sigma},
        training={"epochs": 1},
        optimizer={"lr": 1e-9},
    )
    found = train(config, console=QUIET).validation
    spread = np.concatenate([atoms.arrays["sigma"] for atoms in structures])
    # the untrained model starts from the invariant part of the mean: it is closer than zero is
    assert found["shielding_rmse"] < 0.7 * np.sqrt(np.mean(spread**2))
