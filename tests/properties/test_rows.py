"""Every row of the tables: it is consistent, it survives a file, and a network can read it from its features."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import contract
from carten.errors import ModelFileError
from carten.math.symmetry import decompose
from carten.properties.routes import AtomicVirial, Derivative, Property, Readout, Sum
from carten.properties.rows import dump, load_input, load_property
from carten.properties.spec import INPUTS, PROPERTIES, input_table, property_table
from carten.units import conversion
from model import models
from model.models import molecule

ROWS = [*PROPERTIES, *INPUTS]
RANK_AND_PARITY = {"positions": (1, -1), "strain": (2, 1), **{row.name: (row.rank, row.parity) for row in INPUTS}}
READ = [row for row in PROPERTIES if any(isinstance(route, Readout) for route in row.routes)]


def named(row):
    return row.name


def derivatives():
    for row in PROPERTIES:
        for route in row.routes:
            if isinstance(route, Derivative):
                yield pytest.param(row, route, id=f"{row.name} of {route.of}")


def test_names_are_unique():
    assert len({row.name for row in PROPERTIES}) == len(PROPERTIES)
    assert len({row.name for row in INPUTS}) == len(INPUTS)
    assert list(property_table().values()) == list(PROPERTIES)
    assert list(input_table().values()) == list(INPUTS)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_row_is_well_formed(row):
    assert row.parity in (-1, 1)
    assert decompose(row.indices).rank == row.rank
    assert row.shape == (3,) * row.rank


@pytest.mark.parametrize("row", PROPERTIES, ids=named)
def test_units_are_known(row):
    """From the unit in memory to that of reports."""
    assert conversion(row.unit, row.report_unit) > 0


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_row_survives_a_file(row):
    load = load_property if isinstance(row, Property) else load_input
    assert load(json.loads(json.dumps(dump(row)))) == row


@pytest.mark.parametrize(("row", "route"), list(derivatives()))
def test_a_derivative_has_the_rank_and_parity_of_its_factors(row, route):
    of = property_table()[route.of]
    rank, parity = of.rank, of.parity
    for name in route.wrt:
        rank, parity = rank + RANK_AND_PARITY[name][0], parity * RANK_AND_PARITY[name][1]
    assert (row.rank, row.parity) == (rank, parity)
    assert of.scope == "structure", "the derivative of a property of atoms would be that of its sum"


@pytest.mark.parametrize("row", PROPERTIES, ids=named)
def test_a_route_leads_to_a_property_of_the_table(row):
    for route in row.routes:
        if isinstance(route, Sum | Derivative | AtomicVirial):
            assert route.of in property_table()
        if isinstance(route, Sum):
            of = property_table()[route.of]
            assert (of.scope, of.indices, of.parity) == ("atom", row.indices, row.parity)


@pytest.mark.parametrize("row", READ, ids=named)
def test_a_network_reads_it(row):
    """Directly from the features, with the symmetry of its indices, and equivariant."""
    read = next(route for route in row.routes if isinstance(route, Readout))
    options = {"l_max_edges": max(2, row.rank), "l_max_features": 2, "correlation_order": 2, "odd_products": True}
    model = models.build(options, (replace(row, routes=(read,)),))
    values = contract.results(model, molecule(), names=[row.name])[row.name]
    assert values.shape == ((5 if row.scope == "atom" else 1), *row.shape)
    assert decompose(row.indices).is_symmetric(values, tol=1e-12)
    contract.check_rotations(model, molecule())


def test_a_route_nobody_knows():
    row = dump(PROPERTIES[0])
    row["routes"][0]["kind"] = "Oracle"
    with pytest.raises(ModelFileError, match=r"expected one of Readout, .*, found 'Oracle': please upgrade"):
        load_property(row)


@pytest.mark.parametrize(
    ("row", "extensive"),
    [("energy", True), ("forces", False), ("stress", False), ("virial", True), ("dipole", True), ("charges", False)],
)
def test_what_grows_with_the_number_of_atoms(row, extensive):
    assert property_table()[row].extensive == extensive


def test_a_mean_does_not_grow():
    assert not Property("gap", "structure", "", +1, "eV", (Readout("mean"),)).extensive


def test_reports_use_their_own_unit_or_the_same():
    assert Property("a", "atom", "", +1, "eV", report="meV").report_unit == "meV"
    assert Property("a", "atom", "", +1, "eV").report_unit == "eV"


def test_tables_are_read_without_heavy_libraries():
    """Names of properties, for the command line and editors."""
    code = (
        "import sys; from carten.properties.spec import property_table; assert property_table()['forces'].rank == 1; "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "scipy", "ase", "torchpme", "numpy"}.isdisjoint(found)
