"""Small untrained models and structures: random weights obey the symmetries and conservation laws of trained ones."""

import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from carten.interfaces.ase import Calculator
from carten.model.conditions import Input
from carten.model.config import NetworkConfig
from carten.physics.term import TermConfig
from carten.physics.zbl import ZblConfig
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.properties.spec import property_table

NETWORK = {"n_layers": 1, "n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "cutoff": 4.0}


def small_model(
    elements: tuple[int, ...] = (1, 6, 8),
    properties: tuple[str | Property, ...] = ("energy", "forces", "dipole"),
    dtype: torch.dtype = torch.float64,
    inputs: tuple[Input, ...] = (),
    terms: tuple[TermConfig, ...] = (),
    seed: int = 3,
    n_layers: int = 1,
) -> Potential:
    rows = [row if isinstance(row, Property) else property_table()[row] for row in properties]
    config = NetworkConfig.model_validate(NETWORK | {"n_layers": n_layers, "radial": {"hidden": (8,)}})
    return Potential(config, elements, rows, seed=seed, inputs=inputs, terms=terms).to(dtype).freeze()


def stiff_model() -> Potential:
    """A random model with minima: what pulls is random, a nuclear repulsion keeps atoms apart."""
    model = small_model(properties=("energy", "forces", "stress"), terms=(ZblConfig(),), seed=5)
    model.heads["energies"].scale.fill_(3.0)
    return model


def ethanol() -> Atoms:
    return molecule("CH3CH2OH")


def oxide() -> Atoms:
    """A periodic cell smaller than the cutoff, out of equilibrium."""
    positions = [[0.1, 0.0, 0.0], [1.4, 1.3, 0.2], [0.2, 1.5, 1.6]]
    return Atoms("CO2", positions=positions, cell=[[3.0, 0.2, 0.1], [0.1, 3.1, 0.3], [0.0, 0.1, 3.3]], pbc=True)


def slab() -> Atoms:
    return fcc111("O", (2, 2, 2), a=3.5, vacuum=None, periodic=False)


def diamond() -> Atoms:
    return bulk("C", cubic=True) * (2, 2, 2)


def labelled(count: int, seed: int = 0) -> list[Atoms]:
    """Distorted ethanol molecules with energies and forces of a model that does not change."""
    frames, teacher = [], small_model(properties=("energy", "forces"))
    for number in range(count):
        atoms = ethanol()
        atoms.rattle(0.08, seed=1000 * seed + number)
        atoms.calc = Calculator(teacher)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames
