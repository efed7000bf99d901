"""Small models of every kind, and structures without symmetry to try them on."""

from functools import cache

from ase import Atoms

from carten.model.config import NetworkConfig
from carten.properties.potential import Potential
from carten.properties.routes import Property, Readout
from carten.properties.spec import property_table

ELEMENTS = (1, 6, 7, 8)
CUTOFF = 3.0
SMALL = {"cutoff": CUTOFF, "n_channels": 3, "n_readout_channels": 3, "radial": {"hidden": (6,)}}

BUILT_IN = tuple(property_table()[name] for name in ("energy", "dipole", "polarizability", "charges"))
ANY = (
    Property("gap", "structure", "", +1, "eV", (Readout("mean"),)),
    Property("direct", "atom", "i", -1, "eV/Angstrom"),
    Property("quadrupole", "atom", "ij=ji", +1, "e*Angstrom^2"),
)
RANK_3 = (Property("octupole", "structure", "ijk=jik=ikj", -1, "e*Angstrom^3"),)
RANK_4 = (Property("elastic", "structure", "ijkl=jikl=ijlk=klij", +1, "eV/Angstrom^3", (Readout("mean"),)),)
PSEUDO = (
    Property("chirality", "structure", "", -1, ""),
    Property("moment", "structure", "i", +1, "mu_B"),
    Property("shielding", "atom", "ij", +1, "ppm"),
    Property("gyration", "structure", "ij", -1, ""),
)
SCALARS = (BUILT_IN[0], BUILT_IN[3], ANY[0])
VECTORS = (*SCALARS, BUILT_IN[1], ANY[1])
TENSORS = (*BUILT_IN, *ANY)

SPATIAL = {"product": {"kind": "spatial"}}
GATED = {"preset": "tace", "interaction": {"gate": True}, "residual": {"source": "both"}}
LATENT = {"preset": "ictp", "product": {"paths": "symmetric", "channels": 2}}
MAIN = {
    "carten": ({}, (*TENSORS, *RANK_3)),
    "tace": ({"preset": "tace"}, (*TENSORS, *RANK_3)),
    "ictp": ({"preset": "ictp"}, (*TENSORS, *RANK_3)),
    "spatial": (SPATIAL, (*TENSORS, *RANK_3)),
    "carten with odd products": ({"odd_products": True, "l_max_edges": 2}, (*TENSORS, *PSEUDO)),
    "tace with gates and odd products": ({**GATED, "odd_products": True, "l_max_edges": 2}, (*TENSORS, *PSEUDO)),
    "ictp with odd products": (
        {"preset": "ictp", "odd_products": True, "l_max_edges": 2, "radial": {"basis": "chebyshev", "hidden": (6,)}},
        (*TENSORS, *PSEUDO),
    ),
}
"""Every kind of product with every check."""

VARIANTS = {
    "tace with gates": (GATED, TENSORS),
    "tace, one layer": ({"preset": "tace", "n_layers": 1}, (*TENSORS, *RANK_3)),
    "products of fewer channels": (LATENT, TENSORS),
    "channelwise products of fewer channels": ({"product": {"channels": 2}}, TENSORS),
    "spatial products of fewer channels": ({"product": {"kind": "spatial", "channels": 2}}, TENSORS),
    "no residual": ({"residual": {"source": "none"}}, TENSORS),
    "channelwise, full paths": ({"product": {"paths": "full"}}, TENSORS),
    "coupled, symmetric paths": ({"product": {"weights": "coupled"}}, TENSORS),
    "weights of all elements": ({"product": {"elements": False}}, TENSORS),
    "coupled weights of all elements": ({"preset": "ictp", "product": {"elements": False}}, TENSORS),
    "spatial, weights of all elements": ({"product": {"kind": "spatial", "elements": False}}, TENSORS),
    "radial functions of the elements": ({"radial": {"elements": True, "hidden": (6, 6)}}, TENSORS),
    "linear radial functions": ({"radial": {"hidden": ()}}, TENSORS),
    "chebyshev basis": ({"radial": {"basis": "chebyshev", "n_basis": 5, "hidden": (6,)}}, TENSORS),
    "envelope of power 2": ({"radial": {"envelope_power": 2, "hidden": (6,)}}, TENSORS),
    "one layer": ({"n_layers": 1}, (*TENSORS, *RANK_3)),
    "three layers": ({"n_layers": 3, "l_max_edges": 2, "l_max_features": 1}, TENSORS),
    "order 1": ({"correlation_order": 1}, TENSORS),
    "order 2": ({"correlation_order": 2}, TENSORS),
    "order 4": ({"correlation_order": 4, "l_max_edges": 2, "n_channels": 2}, TENSORS),
    "coupled, order 4": ({"preset": "ictp", "correlation_order": 4, "l_max_edges": 2, "n_channels": 2}, TENSORS),
    "spatial, order 4": ({**SPATIAL, "correlation_order": 4, "l_max_edges": 4, "l_max_features": 4}, TENSORS),
    "rank 4": ({"l_max_edges": 4, "l_max_features": 4, "n_channels": 2}, (*SCALARS, *RANK_3, *RANK_4)),
    "rank 4, odd products": (
        {"l_max_edges": 4, "l_max_features": 4, "n_channels": 2, "correlation_order": 2, "odd_products": True},
        (*VECTORS, *RANK_3, *RANK_4, *PSEUDO[2:]),
    ),
    "coupled, odd products, order 1": ({"preset": "ictp", "odd_products": True, "correlation_order": 1}, VECTORS),
    "features of higher rank than edges": ({"preset": "ictp", "l_max_edges": 1, "l_max_features": 3}, TENSORS),
    "features of rank 0": ({"l_max_features": 0}, TENSORS),
    "vectors": ({"l_max_edges": 1, "l_max_features": 1}, VECTORS),
    "scalars": ({"l_max_edges": 0, "l_max_features": 0}, SCALARS),
}
"""Everything else that can be chosen."""


def build(options: dict[str, object], rows: tuple[Property, ...] = TENSORS, seed: int = 0) -> Potential:
    """A small model in evaluation mode."""
    radial = {"hidden": (6,), **options.get("radial", {})}
    config = NetworkConfig.model_validate({**SMALL, **options, "radial": radial})
    return Potential(config, ELEMENTS, rows, neighbours=6.0, seed=seed, backend="reference").eval()


@cache
def model(name: str) -> Potential:
    """One of the models above."""
    return build(*{**MAIN, **VARIANTS}[name])


def molecule() -> Atoms:
    """Five atoms without symmetry, of four elements, each with all others as neighbours."""
    positions = [[0.0, 0.0, 0.0], [1.0, 0.1, 0.2], [-0.5, 1.1, -0.3], [-0.4, -0.8, 0.7], [0.3, -0.6, -1.2]]
    return Atoms("CHOHN", positions=positions)


def stretched() -> Atoms:
    """Five atoms without symmetry; only the first and the last are within 0.5 A of the cutoff."""
    positions = [[0.0, 0.0, 0.0], [1.18, 0.3, -0.75], [1.54, 0.78, 1.53], [0.35, 0.78, -0.72], [1.61, 2.52, 0.26]]
    return Atoms("CHOHN", positions=positions)


def crystal() -> Atoms:
    """Two atoms in a triclinic cell smaller than the cutoff."""
    cell = [[2.2, 0.1, 0.0], [0.3, 2.5, 0.2], [-0.2, 0.4, 2.4]]
    return Atoms("CO", positions=[[0.0, 0.0, 0.0], [1.1, 0.8, 0.6]], cell=cell, pbc=True)


def slab() -> Atoms:
    """Three atoms, periodic in two directions; the third cell vector is there but not periodic."""
    cell = [[2.6, 0.2, 0.0], [0.4, 3.1, 0.0], [0.1, 0.3, 9.0]]
    positions = [[0.0, 0.0, 0.0], [1.2, 0.9, 0.8], [0.3, 1.6, 1.9]]
    return Atoms("CNH", positions=positions, cell=cell, pbc=[True, True, False])


def wire() -> Atoms:
    """Three atoms, periodic in one direction, without other cell vectors."""
    positions = [[0.0, 0.0, 0.0], [1.1, 0.7, 0.3], [0.4, -0.6, 1.1]]
    return Atoms("OCH", positions=positions, cell=[[2.7, 0.3, -0.2], [0, 0, 0], [0, 0, 0]], pbc=[True, False, False])
