"""The calculator has a snapshot of the model, is right however it is called, and says what evaluated."""

import copy
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.optimize import BFGS

import carten
from carten.errors import ConfigError, DataError, ModelError
from carten.ops import compiler
from carten.physics.config import load_terms
from carten.properties.io import save
from small import ethanol, oxide, small_model

pytestmark = pytest.mark.needs("cpp")
SEVERAL = ("CH3CH2OH", "H2O", "CH4")


def alone(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy and forces from a calculator of its own."""
    fresh = atoms.copy()
    fresh.calc = carten.Calculator(small_model(), skin=0.0)
    return fresh.get_potential_energy(), fresh.get_forces()


@pytest.mark.parametrize("arguments", [(), (["energy"],), (["forces"], []), (["energy", "forces"], all_changes)])
def test_calculate_gives_the_results_of_the_structure_it_is_given(arguments):
    calculator = carten.Calculator(small_model())
    for name in SEVERAL:
        atoms = molecule(name)
        calculator.calculate(atoms, *arguments)
        energy, forces = alone(atoms)
        assert calculator.results["energy"] == pytest.approx(energy, abs=1e-12)
        np.testing.assert_allclose(calculator.results["forces"], forces, atol=1e-12)


def test_atoms_that_change_in_place_are_seen():
    calculator, atoms = carten.Calculator(small_model()), ethanol()
    for seed in range(4):
        atoms.rattle(0.02, seed=seed)
        calculator.calculate(atoms, ["energy"], [])
        assert calculator.results["energy"] == pytest.approx(alone(atoms)[0], abs=1e-12)
        atoms.positions[0] += 0.01
        assert calculator.get_property("energy", atoms) == pytest.approx(alone(atoms)[0], abs=1e-12)
    calculator.calculate()
    assert calculator.results["energy"] == pytest.approx(alone(atoms)[0], abs=1e-12)


def test_results_do_not_survive_an_error():
    calculator, atoms = carten.Calculator(small_model()), ethanol()
    atoms.calc = calculator
    atoms.get_potential_energy()
    clash = ethanol()
    clash.positions[3] = clash.positions[4]
    with pytest.raises(DataError, match="atoms 3 and 4 coincide"):
        calculator.calculate(clash)
    assert "energy" not in calculator.results
    assert atoms.get_potential_energy() == pytest.approx(alone(atoms)[0], abs=1e-12)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_forces_are_right_where_torch_records_nothing(mode, backend):
    atoms = ethanol()
    atoms.rattle(0.05, seed=1)
    _, forces = alone(atoms)
    with mode():
        atoms.calc = carten.Calculator(small_model(), backend=backend)
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5 * np.abs(forces).max())
        hessian = atoms.calc.get_property("hessian", atoms)
        assert np.abs(hessian).max() > 0.1
        assert not BFGS(atoms, logfile=None).run(fmax=1e-8, steps=1)
    assert np.abs(atoms.get_forces()).max() > 1e-3


def test_files_open_where_torch_records_nothing(tmp_path):
    save(tmp_path / "model.carten", small_model(), {})
    with torch.inference_mode():
        atoms = ethanol()
        atoms.calc = carten.Calculator(tmp_path / "model.carten")
        found = atoms.get_potential_energy()
    assert found == pytest.approx(alone(ethanol())[0], abs=1e-12)


def test_the_model_is_the_callers():
    model = small_model()
    model.requires_grad_(True)
    model.train()
    calculators = [carten.Calculator(model, dtype=dtype) for dtype in ("float32", "float64")]
    energies = []
    for calculator in calculators:
        atoms = ethanol()
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert model.training
    assert model.dtype == torch.float64
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert 0 < abs(energies[0] - energies[1]) < 1e-5
    assert energies[1] == pytest.approx(alone(ethanol())[0], abs=1e-12)


def test_weights_that_change_later_do_not_reach_it_but_a_new_one():
    model, atoms = small_model(), ethanol()
    atoms.calc = carten.Calculator(model)
    before = atoms.get_potential_energy()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    atoms.rattle(1e-9)
    assert atoms.get_potential_energy() == pytest.approx(before, abs=1e-7)
    atoms.calc = carten.Calculator(model)
    after = atoms.get_potential_energy()
    assert abs(after - before) > 1e-3
    atoms.calc = carten.Calculator(model, backend="reference")
    assert atoms.get_potential_energy() == pytest.approx(after, rel=1e-5)


def test_one_calculator_in_many_threads():
    calculator, structures = carten.Calculator(small_model()), [molecule(name) for name in SEVERAL]
    expected = [alone(atoms) for atoms in structures]
    problems: list[str] = []

    def work(k: int) -> None:
        for n in range(40):
            atoms, (energy, forces) = structures[(k + n) % 3], expected[(k + n) % 3]
            try:
                found = calculator.get_property("energy", atoms), calculator.get_property("forces", atoms)
            except Exception as error:  # noqa: BLE001  whatever goes wrong in a thread is a failure
                problems.append(repr(error))
                continue
            if abs(found[0] - energy) > 1e-10 or np.abs(found[1] - forces).max() > 1e-10:
                problems.append(f"{found[0]} instead of {energy}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_calculators_are_copied_and_pickled():
    atoms = ethanol()
    calculator = carten.Calculator(small_model(), threads=2)
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    for copied in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        other = ethanol()
        other.calc = copied
        assert other.get_potential_energy() == pytest.approx(energy, abs=1e-12)
        assert copied.path == "library"


def test_what_a_library_does_not_have_is_evaluated_with_torch():
    atoms = oxide()
    atoms.calc = carten.Calculator(small_model())
    assert atoms.calc.path == "library"
    atoms.calc.get_property("elastic", atoms)
    assert atoms.calc.path == "torch"
    atoms.get_forces()
    atoms.rattle(0.01)
    forces = atoms.get_forces()
    assert atoms.calc.path == "library"
    atoms.calc = carten.Calculator(small_model(), backend="reference")
    assert atoms.calc.path == "torch"
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=2e-6 * np.abs(forces).max())


def test_long_ranged_terms_are_evaluated_with_torch():
    model = small_model(terms=tuple(load_terms([{"kind": "les"}])))
    atoms = ethanol()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.calc = carten.Calculator(model)
        assert np.abs(atoms.get_forces()).max() > 0
    assert atoms.calc.path == "torch"


def test_without_a_compiler_torch_evaluates_and_that_is_said(monkeypatch):
    broken = compiler.Compiler("", "", "no C++ compiler found")
    monkeypatch.setattr(compiler, "compiler", lambda: broken)
    atoms = ethanol()
    model = small_model(elements=(1, 6, 7, 8, 16))  # in no cache
    with pytest.warns(UserWarning, match="evaluated with torch, which is slower: no C"):
        atoms.calc = carten.Calculator(model, dtype="float32")
    assert atoms.calc.path == "torch"


def test_devices_and_precisions_that_are_not_there():
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="the device 'cuda' can't be used here"):
            carten.Calculator(small_model(), device="cuda")
    with pytest.raises(ConfigError, match="the device 'gpu7' can't be used here"):
        carten.Calculator(small_model(), device="gpu7")
    with pytest.raises(ValueError, match="dtype must be"):
        carten.Calculator(small_model(), dtype="float16")


def test_what_is_missing_is_named():
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]], pbc=True)
    atoms.calc = carten.Calculator(small_model())
    with pytest.raises(DataError, match="periodic directions a, b, c need cell vectors"):
        atoms.get_potential_energy()
    alone_in_space = ethanol()
    alone_in_space.calc = carten.Calculator(small_model())
    with pytest.raises(PropertyNotImplementedError, match="stress is per volume"):
        alone_in_space.get_stress()
    assert alone_in_space.get_potential_energy() < 1e6
    with pytest.raises(ModelError, match="does not know Fe"):
        alone_in_space.calc.calculate(Atoms("Fe"))


def test_a_model_whose_radial_functions_are_too_sharp_for_tables():
    model, atoms = small_model(), ethanol()
    with torch.no_grad():
        for layer in model.network.layers:
            layer.interaction.radial.weight[0].mul_(2000.0)
    with pytest.warns(UserWarning, match="tables can't reproduce the radial functions"):
        atoms.calc = carten.Calculator(model)
    assert atoms.calc.path == "library"
    forces = atoms.get_forces()
    atoms.calc = carten.Calculator(model, backend="reference")
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-10 * np.abs(forces).max())


def test_torch_is_not_needed_for_what_is_kept(tmp_path):
    path = tmp_path / "model.carten"
    save(path, small_model(), {})
    program = (
        "import sys, carten\n"
        "from ase.build import molecule\n"
        f"atoms = molecule('CH3CH2OH')\natoms.calc = carten.Calculator({str(path)!r})\n"
        "print(atoms.get_potential_energy(), abs(atoms.get_forces()).max() > 0, 'torch' in sys.modules)\n"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    energy, moving, torch_was_there = done.stdout.split()
    assert (moving, torch_was_there) == ("True", "False")
    assert float(energy) == pytest.approx(alone(ethanol())[0], abs=1e-10)
