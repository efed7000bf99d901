"""TorchSim: its own validator passes, and systems of a batch have the results of the ASE calculator."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.model.config import NetworkConfig
from carten.properties.potential import Potential
from carten.properties.spec import input_table, property_table

pytestmark = pytest.mark.needs("torchsim")

SIZES = {"n_channels": 8, "cutoff": 4.0, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2}
CPU = torch.device("cpu")


def random_model(elements=(1, 6, 8, 12, 14, 26), **options) -> Potential:
    network = NetworkConfig.model_validate({"radial": {"hidden": (8,)}, **SIZES})
    model = Potential(network, elements, [property_table()["energy"]], neighbours=20.0, seed=1, **options)
    model.heads["energies"].scale.fill_(0.5)
    return model.eval()


def waters(n: int = 2) -> Atoms:
    rng, atoms = np.random.default_rng(0), Atoms()
    for corner in np.ndindex(n, n, n):
        water = molecule("H2O")
        water.rattle(0.03, rng=rng)
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(3.2 * np.array(corner))
        atoms += water
    atoms.set_cell(np.array([[1.0, 0, 0], [0.12, 1.01, 0], [-0.1, 0.08, 1.02]]) * 3.2 * n)
    atoms.pbc = True
    return atoms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_validator_of_torchsim_passes(dtype):
    from torch_sim.models.interface import validate_model_outputs

    from carten.interfaces.torchsim import CartenModel

    validate_model_outputs(CartenModel(random_model(), CPU, dtype), CPU, dtype)


def test_a_batch_gives_what_ase_gives():
    import torch_sim

    from carten.interfaces.torchsim import CartenModel

    model = random_model()
    structures = [waters(), waters(1), waters()[:-1]]
    state = torch_sim.io.atoms_to_state(structures, CPU, torch.float64)
    results = {name: value.numpy() for name, value in CartenModel(model, CPU, torch.float64)(state).items()}
    first = 0
    for system, atoms in enumerate(structures):
        atoms.calc = Calculator(model, dtype="float64")
        atoms_of_system = slice(first, first := first + len(atoms))
        assert results["energy"][system] == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(results["forces"][atoms_of_system], atoms.get_forces(), atol=1e-6)
        np.testing.assert_allclose(results["stress"][system], atoms.get_stress(voigt=False), atol=1e-8)


def test_inputs_hold_for_all_systems():
    import torch_sim

    from carten.interfaces.torchsim import CartenModel

    model = random_model(inputs=(input_table()["total_charge"],))
    state = torch_sim.io.atoms_to_state([waters(), waters()], CPU, torch.float64)
    charged = CartenModel(model, CPU, torch.float64, inputs={"total_charge": 1.0})(state)["energy"].numpy()
    atoms = waters()
    atoms.calc = Calculator(model, dtype="float64", inputs={"total_charge": 1.0})
    np.testing.assert_allclose(charged, [atoms.get_potential_energy()] * 2, atol=1e-6)
    with pytest.raises(ModelError, match="total_chrage"):
        CartenModel(model, CPU, inputs={"total_chrage": 1.0})


def test_what_torchsim_cannot_have():
    import torch_sim

    from carten.interfaces.torchsim import CartenModel

    with pytest.raises(ModelError, match="needs partial_charges of every atom"):
        CartenModel(random_model(inputs=(input_table()["partial_charges"],)), CPU)
    state = torch_sim.io.atoms_to_state([Atoms("He", cell=[5, 5, 5], pbc=True)], CPU, torch.float64)
    with pytest.raises(ModelError, match="does not know He"):
        CartenModel(random_model(), CPU, torch.float64)(state)


def test_the_model_is_left_alone():
    from carten.interfaces.torchsim import CartenModel

    model = random_model()
    assert CartenModel(model, CPU, torch.float32).potential.dtype == torch.float32
    assert model.dtype == torch.float64 and next(model.parameters()).requires_grad
