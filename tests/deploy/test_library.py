"""Compiled libraries give what the models give: every kind of network, of input and of readout."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from carten.deploy import deploy
from carten.interfaces.ase import Calculator
from carten.model.conditions import Exchange
from carten.model.config import NetworkConfig
from carten.physics.zbl import ZblConfig
from carten.properties.potential import Potential
from carten.properties.routes import Readout
from carten.properties.spec import Fidelity, input_table, property_table
from contract import graphs
from deploy.snapshots import snapshot
from model.models import ELEMENTS, MAIN, SMALL, VARIANTS, crystal, model, molecule, slab, wire
from small import oxide, small_model

pytestmark = pytest.mark.needs("cpp")
EXACT, TABLES = 1e-10, 1e-6
"""Of libraries that evaluate radial networks, and of those that look them up in tables that are right to 1e-6."""
TABLE = input_table()
MODES = ("embedding", "heads", "both")
LEVELS = {mode: replace(TABLE["fidelity"], embed=Fidelity(("pbe", "hse", "cc"), mode)) for mode in MODES}
INPUTS = {
    "charge": ((TABLE["total_charge"],), {}),
    "level by embedding": ((LEVELS["embedding"],), {}),
    "level by readouts": ((LEVELS["heads"],), {}),
    "level by both": ((LEVELS["both"],), {}),
    "field and charges": ((TABLE["electric_field"], TABLE["partial_charges"]), {"n_layers": 3}),
    "moments": ((TABLE["magmoms"],), {"odd_products": True}),
    "moments that are exchanged": ((replace(TABLE["magmoms"], embed=Exchange()),), {"n_layers": 3}),
    "charge, spatial products": ((TABLE["total_charge"],), {"product": {"kind": "spatial"}}),
}
STRUCTURES = (molecule, crystal, slab, wire)


def told(atoms, rows):
    """The structure with values for inputs."""
    generator = np.random.default_rng(5)
    for row in rows:
        if isinstance(row.embed, Fidelity):
            atoms.info[row.name] = 1
        elif row.scope == "atom":
            atoms.arrays[row.name] = generator.normal(size=(len(atoms), *row.shape))
        else:
            atoms.info[row.name] = generator.normal(size=row.shape) if row.rank else 1.0
    return atoms


def require_same(potential, exact, tolerance, rows=()):
    library = snapshot(potential, exact=exact)
    for make in STRUCTURES:
        atoms = told(make(), rows)
        names = [n for n in library.usual if atoms.cell.rank == 3 or not potential.properties[n].per_volume]
        sample = graphs(potential, [atoms])
        expected, found = potential(sample, names), library(sample, names)
        for name in names:
            scale = float(expected[name].abs().max())
            error = float((found[name] - expected[name]).abs().max())
            assert error <= tolerance * scale + 1e-13, f"{name} of {atoms.symbols}: {error:.1e} of {scale:.2g}"


@pytest.mark.parametrize("name", [*MAIN, *VARIANTS])
def test_every_kind_of_network(name):
    require_same(model(name), exact=True, tolerance=EXACT)


@pytest.mark.parametrize(
    "name", ["carten", "tace", "tace with gates", "ictp", "products of fewer channels", "spatial", "three layers"]
)
def test_tables(name):
    require_same(model(name), exact=False, tolerance=TABLES)


@pytest.mark.parametrize("name", INPUTS)
def test_every_kind_of_input(name):
    rows, options = INPUTS[name]
    small = {"n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2}
    config = NetworkConfig.model_validate({**SMALL, **small, **options})
    properties = [property_table()[n] for n in ("energy", "dipole")]
    potential = Potential(config, ELEMENTS, properties, 6.0, 1, inputs=rows).eval()
    with torch.no_grad():
        for head in potential.heads.values():
            head.shift.normal_(generator=torch.Generator().manual_seed(2))
            head.scale.fill_(1.3)
    require_same(potential, exact=True, tolerance=EXACT, rows=rows)


DIRECT = {name: replace(property_table()[name], routes=(Readout(),)) for name in ("forces", "virial")}


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize(
    "rows",
    [
        (DIRECT["forces"],),
        (property_table()["energy"], DIRECT["forces"]),
        (property_table()["energy"], property_table()["stress"], DIRECT["virial"]),
    ],
)
def test_forces_and_virials_that_are_read_directly(rows, n_layers):
    potential = small_model(properties=rows, n_layers=n_layers)
    atoms = oxide()
    library, reference = (Calculator(potential, backend=backend) for backend in ("auto", "reference"))
    for row in rows:
        found, expected = (calculator.get_property(row.name, atoms) for calculator in (library, reference))
        np.testing.assert_allclose(found, expected, rtol=0, atol=TABLES * np.abs(expected).max())


def test_repulsion_of_nuclei_and_their_cores():
    config = NetworkConfig.model_validate({**SMALL, "n_channels": 4})
    potential = Potential(config, ELEMENTS, [property_table()["energy"]], 6.0, 1, terms=[ZblConfig()]).eval()
    library = snapshot(potential, exact=True)
    for distance in (0.2, 0.5, 0.7, 0.85, 1.0, 1.2, 1.35):
        atoms = molecule()[:2]
        atoms.positions[1] = atoms.positions[0] + distance * np.array([0.6, 0.0, 0.8])
        sample, names = graphs(potential, [atoms]), ["energies", "forces", "virial"]
        expected, found = potential(sample, names), library(sample, names)
        for name in names:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-10)


def test_threads_change_the_order_of_sums_only():
    potential, atoms = model("carten"), crystal() * (3, 3, 2)
    atoms.rattle(0.05, seed=1)
    names = ["energies", "forces", "virial", "virials"]
    sample = graphs(potential, [atoms])
    expected = snapshot(potential)(sample, names)
    for threads in (2, 3, 64):
        found = snapshot(potential, threads=threads)(sample, names)
        again = snapshot(potential, threads=threads)(sample, names)
        for name in names:
            scale = float(expected[name].abs().max())
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-13 * scale)
            assert torch.equal(found[name], again[name])


def test_float32_is_close():
    potential = model("carten")
    sample = graphs(potential, [crystal()])
    expected = potential(sample, ["energies", "forces"])
    found = snapshot(potential, "float32")(sample, ["energies", "forces"])
    for name, values in expected.items():
        assert 0 < float((found[name] - values).abs().max()) < 2e-5 * float(values.abs().max())


def test_the_model_stays_as_it_is():
    potential = model("one layer")
    before = {name: value.clone() for name, value in potential.state_dict().items()}
    flags = [parameter.requires_grad for parameter in potential.parameters()]
    with torch.inference_mode():
        deploy(potential, "float32")
    assert potential.dtype == torch.float64
    assert [parameter.requires_grad for parameter in potential.parameters()] == flags
    assert all(torch.equal(value, before[name]) for name, value in potential.state_dict().items())
