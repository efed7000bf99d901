"""Dynamics that ends where a criterion is met, with the frame kept."""

import ase.io
import numpy as np
import pytest

import carten
from carten.errors import ConfigError
from carten.uncertainty import save_ensemble
from carten.workflows.limits import close_contacts
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.stop import ShortContacts, parse_criterion
from small import ethanol, small_model
from uncertainty.ensembles import KINDS, ensemble, plain_model


def criterion(text, model, trained=()):
    return parse_criterion(text, model.properties, dict(trained), model.cutoff)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_when_forces_are_uncertain(kind, tmp_path):
    several, runs = ensemble(kind), []
    for name, threshold in (("free", lambda: 1e9), ("stopped", lambda: runs[0].mean())):
        atoms = ethanol()
        atoms.calc = carten.Calculator(several)
        stop = criterion(f"forces_uncertainty>{threshold()}", several)
        settings = Settings(steps=40, timestep=1.0, interval=2, temperature=1000.0, stop_at=(stop,))
        summary = run_dynamics(atoms, settings, tmp_path / f"{name}.extxyz")
        frames = ase.io.read(tmp_path / f"{name}.extxyz", ":")
        runs.append(np.array([frame.arrays["forces_uncertainty"].max() for frame in frames]))
    first = int(np.argmax(runs[0] > runs[0].mean()))
    assert len(frames) == first + 1 < len(runs[0]) and frames[-1].info["step"] == summary.steps == 2 * first
    atom = int(frames[-1].arrays["forces_uncertainty"].argmax())
    assert f"forces_uncertainty of atom {atom} ({frames[-1].symbols[atom]}) is " in summary.stopped
    assert "eV/Angstrom, above" in summary.stopped


def test_a_run_ends_when_atoms_are_closer_than_in_training(tmp_path):
    atoms = ethanol()
    atoms.calc = carten.Calculator(plain_model())
    shortest = min(atoms.get_distance(i, j) for i in range(9) for j in range(i) if {*atoms.numbers[[i, j]]} == {1, 6})
    trained = dict.fromkeys(("H-H", "C-C", "C-O", "H-O"), 0.1) | {"H-C": shortest - 0.01}
    stop = criterion("contacts", plain_model(), trained.items())
    settings = Settings(steps=400, interval=1, temperature=900.0, stop_at=(stop,))
    summary = run_dynamics(atoms, settings, tmp_path / "md.extxyz")
    last = ase.io.read(tmp_path / "md.extxyz")
    assert "(H-C) are" in summary.stopped and "the closest H-C contact in the training data is" in summary.stopped
    assert close_contacts(last, trained, 4.0) and 0 < last.info["step"] == summary.steps < 400


def test_a_stopped_run_continues_when_it_is_restarted(tmp_path):
    atoms = ethanol()
    atoms.calc = carten.Calculator(plain_model())
    stop = (criterion("forces>0.0001", plain_model()),)
    first = run_dynamics(atoms, Settings(steps=6, interval=2, stop_at=stop), tmp_path / "md.extxyz")
    assert (first.steps, first.new_steps) == (0, 0) and first.stopped.startswith("forces of atom")
    again = run_dynamics(atoms, Settings(steps=6, interval=2), tmp_path / "md.extxyz", restart=True)
    assert again.steps == 6 and not again.stopped


def test_criteria_of_structures_and_of_norms():
    atoms = ethanol()
    atoms.calc = carten.Calculator(small_model())
    norms = np.linalg.norm(atoms.get_forces(), axis=1)
    energy = atoms.get_potential_energy()
    reason = criterion(f"energy<{energy + 0.1}", small_model()).reason(atoms)
    assert reason == f"energy is {energy:.4g} eV, below {energy + 0.1:g}"
    assert criterion(f"energy>{energy + 0.1}", small_model()).reason(atoms) is None
    assert criterion(f"forces>{norms.max() - 1e-6}", small_model()).reason(atoms) is not None
    assert criterion(f"forces>{norms.max() + 1e-6}", small_model()).reason(atoms) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forces_uncertainty>0.3", "does not give forces_uncertainty; it has no uncertainties: train it with"),
        ("contacts", "does not say how close atoms were in its training data"),
        ("frces>1", "does not give frces; it gives energies, energy"),
        ("hessian>1", "hessian is of pairs of atoms"),
        ("forces_uncertainty=0.3", "expected PROPERTY>VALUE, PROPERTY<VALUE or contacts, found 'forces_unc"),
        ("forces>", "expected PROPERTY>VALUE"),
        ("forces>1e999", "expected PROPERTY>VALUE"),
        ("forces>1-2", "expected PROPERTY>VALUE"),
    ],
)
def test_what_the_model_can_not_give_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        criterion(text, small_model())


def test_contacts_of_a_file_are_those_it_remembers():
    assert criterion("contacts", small_model(), {"H-O": 0.9}.items()) == ShortContacts({"H-O": 0.9}, 4.0)


def test_the_command_stops_and_says_so(tmp_path, runner):
    save_ensemble(tmp_path / "model.carten", ensemble("readouts"), [{}])
    ase.io.write(tmp_path / "start.xyz", ethanol())
    arguments = ["md", tmp_path / "model.carten", tmp_path / "start.xyz", "--steps", "4", "-o", tmp_path / "md.extxyz"]
    result = runner(*arguments, "--stop-at", "forces_uncertainty>1e-6")
    assert "stopped at step 0: forces_uncertainty of atom" in result.output and "(--stop-at)" in result.output
    assert result.exit_code == 0 and len(ase.io.read(tmp_path / "md.extxyz", ":")) == 1
    refused = runner(*arguments[:-1], tmp_path / "b.extxyz", "--stop-at", "dipole_uncertainty>1")
    assert refused.exit_code == 1 and "does not give dipole_uncertainty" in refused.output
    assert not (tmp_path / "b.extxyz").exists()
