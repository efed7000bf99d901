"""A small model for every row of the property table and every route to it, and structures that carry every input."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase import Atoms

from carten.math.symmetry import decompose
from carten.model.conditions import Category, Coupled, Input, Tensor
from carten.model.config import NetworkConfig
from carten.ops.space import Part
from carten.physics.charges import LesConfig
from carten.properties.planning import has_readout, needed_inputs
from carten.properties.potential import Potential
from carten.properties.routes import Derivative, Latent, Multipole, Property
from carten.properties.spec import PROPERTIES, input_table, property_table
from model.models import crystal

ELEMENTS = (1, 6, 8)
SMALL = {"cutoff": 3.0, "n_channels": 2, "n_readout_channels": 2, "radial": {"hidden": (4,), "n_basis": 4}}
CASES = [
    pytest.param(row, k, id=f"{row.name} by {route.name}") for row in PROPERTIES for k, route in enumerate(row.routes)
]
DERIVATIVES = [case for case in CASES if isinstance(case.values[0].routes[case.values[1]], Derivative)]


def by(row: Property, k: int) -> Property:
    """The row with its k-th route first."""
    return replace(row, routes=(row.routes[k],))


@cache
def model(row: Property, k: int = 0, more: tuple[Property, ...] = ()) -> Potential:
    """A model of one row by one route, and of the energy where that is what it is derived from, or has a part in."""
    chosen = by(row, k)
    route = chosen.routes[0]
    of = {Derivative: getattr(route, "of", ""), Latent: "energy"}.get(type(route), row.name)
    rows = (property_table()[of],) if of != row.name else ()
    return build((*rows, chosen, *more), **options(chosen))


def options(row: Property) -> dict[str, object]:
    """Of the network: fourth derivatives are only cheap for the smallest."""
    fourth = isinstance(route := row.routes[0], Derivative) and len(route.wrt) > 3
    return {"correlation_order": 2, "l_max_edges": 1} if fourth else {}


def build(rows: tuple[Property, ...], inputs: tuple[Input, ...] = (), **options: object) -> Potential:
    """A small network that has what the rows and inputs need."""
    named = {row.name: row for row in rows}
    table = {row.name: row for row in (*input_table().values(), *inputs)}
    needed = [name for row in named.values() for name in needed_inputs(row) if name in table]
    told = [*inputs, *(table[name] for name in needed)]
    parts = [(l, row.parity) for row in named.values() if has_readout(row) for l, _ in decompose(row.indices).parts]
    parts += [(l, i.parity) for i in told if isinstance(i.embed, Tensor) for l, _ in decompose(i.indices).parts]
    pseudo = any(not Part(*part).natural for part in parts)
    config = {
        **SMALL,
        "l_max_edges": max([2, *(l for l, _ in parts)]),
        "l_max_features": 1,
        "n_layers": 2 if pseudo else 1,
        "correlation_order": 2 if pseudo else 3,
        "odd_products": pseudo,
        **options,
    }
    network = NetworkConfig.model_validate(config)
    latent = [row.routes[0] for row in rows if isinstance(row.routes[0], Latent)]
    terms = [LesConfig(dipoles=bool(latent[0].dipoles))] if latent else []
    rows = tuple(named.values())
    return Potential(network, ELEMENTS, rows, 6.0, seed=1, backend="reference", inputs=inputs, terms=terms).eval()


def told(atoms: Atoms, seed: int = 0) -> Atoms:
    """The structure with a value for every input of the table that networks are told."""
    generator = np.random.default_rng(seed)
    for row in input_table().values():
        if isinstance(row.embed, Coupled):
            continue
        shape = (len(atoms), *row.shape) if row.scope == "atom" else row.shape
        value = row.scale * generator.normal(scale=0.5, size=shape)
        value = np.asarray(int(generator.integers(2))) if isinstance(row.embed, Category) else value
        (atoms.arrays if row.scope == "atom" else atoms.info)[row.name] = value
    return atoms


def solid() -> Atoms:
    """Two atoms in a triclinic cell smaller than the cutoff."""
    return told(crystal())


def other_solid() -> Atoms:
    """Four atoms in another cell."""
    cell = [[3.9, 0.1, 0.0], [0.3, 3.7, 0.2], [-0.2, 0.4, 3.1]]
    positions = [[0.0, 0.0, 0.0], [1.1, 0.8, 0.6], [0.2, 1.7, 1.9], [2.4, 0.3, 1.4]]
    return told(Atoms("HOCH", positions=positions, cell=cell, pbc=True), seed=1)


def ion() -> Atoms:
    """Three atoms without symmetry."""
    return told(Atoms("OCH", positions=[[0.0, 0.0, 0.0], [1.1, 0.3, 0.2], [-0.5, 0.9, -0.3]]))


def other_ion() -> Atoms:
    """Four atoms without symmetry."""
    positions = [[0.0, 0.0, 0.0], [1.0, 0.1, 0.2], [-0.5, 1.1, -0.3], [-0.4, -0.8, 0.7]]
    return told(Atoms("CHOH", positions=positions), seed=1)


def structures(row: Property, k: int) -> tuple[Atoms, Atoms]:
    """Two for which the property is defined."""
    route = row.routes[k]  # in cells a sum of charges times positions depends on the images that are given
    molecules = isinstance(route, Multipole) or (isinstance(route, Latent) and row.scope == "structure")
    found = (ion(), other_ion()) if molecules else (solid(), other_solid())
    if isinstance(route, Latent):  # in a field energies depend on the origin and on images too
        for atoms in found:
            del atoms.info["electric_field"]
    return found
