"""What a library is, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ase.data import chemical_symbols

from carten.properties.facts import origin
from carten.properties.members import UNCERTAIN


def library_facts(header: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the header of a library says, line by line."""
    network, units = header["network"], {row["name"]: row["unit"] for row in header["properties"]}
    units |= {f"{name}{UNCERTAIN}": each for name, each in units.items()}
    yield "library", f"compiled by carten {header['version']} for {header['machine']}, {header['march']}"
    yield "elements", " ".join(chemical_symbols[number] for number in header["elements"])
    yield "gives", ", ".join(f"{row['name']} ({units[row['name']]})" for row in header["rows"] if row["source"])
    if rest := [row["name"] for row in header["rows"] if not row["source"]]:
        yield "in Python only", ", ".join(rest)
    if header["readouts"]:
        yield "readouts", ", ".join(header["readouts"])
    if header["inputs"]:
        yield "is told", ", ".join(row["name"] for row in header["inputs"])
    if header["terms"]:
        yield "adds", ", ".join(term["kind"] for term in header["terms"])
    size = f"{network['n_layers']} layers, {network['n_channels']} channels"
    yield "network", f"{network['preset']}, {size}, cutoff {network['cutoff']:g} Å"
    intervals = header["intervals"]
    radial = f"tables of {intervals} intervals" if intervals else "evaluated exactly"
    yield "precision", f"{header['dtype']}; radial functions: {radial}"
    yield "parameters", f"{header['parameters']:,}"
    if model := header.get("model"):
        yield from origin(model)
