"""What a model is, in words: for files, the terminal and notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

import carten
from carten.properties.header import FORMAT
from carten.properties.members import Uncertainty
from carten.properties.rows import dump, load_property
from carten.text import number, unit

if TYPE_CHECKING:
    from carten.properties.potential import Potential


def model_facts(model: Potential) -> Iterator[tuple[str, str]]:
    """What a model in memory is, line by line; how it was trained where its weights are those of its file."""
    is_trained_further = any(parameter.requires_grad for parameter in model.parameters())
    head = header_facts(model, {} if is_trained_further else model.provenance)
    yield from described_header(head, sum(parameter.numel() for parameter in model.parameters()))


def described_header(head: Mapping[str, Any], parameters: int | None = None) -> Iterator[tuple[str, str]]:
    """What a header says, line by line.

    Args:
        head: of a model file.
        parameters: their number; left out where it is not known.
    """
    network = head["network"]
    symbols = {str(number): chemical_symbols[number] for number in head["elements"]}
    made_for = [row["name"] for row in head["properties"]]
    yield "elements", " ".join(symbols.values())
    yield "predicts", ", ".join(f"{name} ({head['units'][name]})" for name in made_for)
    yield "derived", ", ".join(name for name in head["units"] if name not in made_for)
    yield (
        "network",
        f"{network['preset']}, {network['n_layers']} layers, {network['n_channels']} channels, "
        f"correlation order {network['correlation_order']}, "
        f"l_max {network['l_max_edges']} (edges) and {network['l_max_features']} (features)",
    )
    yield "cutoff", f"{network['cutoff']:g} Å, {head['neighbours']:.1f} neighbours on average"
    yield ("precision", head["dtype"]) if parameters is None else ("parameters", f"{parameters:,} in {head['dtype']}")
    if head["inputs"]:
        yield "inputs", ", ".join(_told(row) for row in head["inputs"])
    if head["terms"]:
        yield "energy terms", ", ".join(_added(term) for term in head["terms"])
    references = head["reference_energies"]
    by_level = references if any(isinstance(reference, dict) for reference in references.values()) else {"": references}
    for level, by_element in by_level.items():
        if by_element:
            energies = ", ".join(f"{symbols[number]} {energy:.4f}" for number, energy in by_element.items())
            yield f"E0 (eV){level and ' '}{level}", energies
    yield from origin(head)


def origin(head: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How a model was made, line by line: its card, training, errors on the validation set."""
    provenance = head["provenance"]
    yield from ((name, str(text)) for name, text in provenance.get("card", {}).items())
    for each in (*provenance.get("sources", ()), provenance):
        if "epoch" in each:
            yield "trained", _length(each)
        yield from (("validation", text) for text in _validation(head, each.get("validation", {})))


def _length(provenance: Mapping[str, Any]) -> str:
    """How long a training took, of what, and what it began with."""
    config = provenance.get("config", {})
    start, data = config.get("start"), config.get("data")
    model = start.get("model") if isinstance(start, dict) else None
    files = data.get("train") if isinstance(data, dict) else None
    names = [Path(str(file)).name for file in files] if isinstance(files, list) else []
    parts = [f"{provenance['epoch']} epochs, {provenance['step']} steps, {provenance['minutes']:.1f} minutes"]
    if names:
        parts.append(f"on {', '.join(names[:3])}{', ..' if len(names) > 3 else ''}")
    if model:
        parts.append(f"from {Path(str(model)).name}")
    return " ".join(parts)


def sources_with(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trainings that lead to a model, the last one included: the ``sources`` of one that starts from it."""
    last = {key: value for key, value in provenance.items() if key != "sources"}
    return [*provenance.get("sources", ()), *([last] if last else [])]


def header_facts(model: Potential, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The header of a file that holds a model."""
    return {
        "format": FORMAT,
        "version": carten.__version__,
        "network": model.config.model_dump(mode="json"),
        "elements": list(model.elements),
        "neighbours": model.neighbours,
        "properties": [dump(model.properties[name]) for name in model.requested],
        "inputs": [dump(row) for row in model.inputs.values()],
        "terms": [config.model_dump(mode="json") for config in model.term_configs],
        "units": {name: row.unit for name, row in model.properties.items()},
        "reference_energies": _reference_energies(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "provenance": dict(provenance),
        "pulls_ions": model.design.pulls_ions,
        "uncertainty": None if model.uncertainty is None else uncertainty_facts(model.uncertainty),
    }


def uncertainty_facts(uncertainty: Uncertainty) -> dict[str, Any]:
    """What a header says of the errors of a model."""
    return {
        "scales": dict(uncertainty.scales),
        "draws": uncertainty.draws,
        "facts": dict(uncertainty.facts),
    }


def _told(row: Mapping[str, Any]) -> str:
    """An input, with its unit or values, and its default."""
    values = row["embed"].get("values")
    values_or_unit = "one of " + ", ".join(map(str, values)) if values else row["unit"]
    default = "" if row["default"] is None else f"by default {row['default']}"
    remarks = ", ".join(filter(None, (values_or_unit, default)))
    return f"{row['name']} ({remarks})" if remarks else str(row["name"])


def _added(term: Mapping[str, Any]) -> str:
    """A term with its options."""
    options = ", ".join(f"{name} {value}" for name, value in term.items() if name != "kind" and value is not None)
    return f"{term['kind']} ({options})" if options else str(term["kind"])


def _validation(head: Mapping[str, Any], errors: Mapping[str, float]) -> Iterator[str]:
    """Errors on a validation set, a line for each property."""
    for row in map(load_property, head["properties"]):
        if {f"{row.name}_rmse", f"{row.name}_mae"} <= errors.keys():
            rmse, mae = (number(errors[f"{row.name}_{kind}"]) for kind in ("rmse", "mae"))
            yield f"{row.name} RMSE {rmse}, MAE {mae} {unit(row.report_unit)}"


def _reference_energies(model: Potential) -> dict[str, float] | dict[str, dict[str, float]]:
    """Energies of isolated atoms in eV by atomic number, for people who read the header; by level if there are some."""
    if "energies" not in model.heads:
        return {}
    values = model.heads["energies"].get_buffer("reference")[:, 0].view(-1, len(model.elements)).tolist()
    energies = [{str(z): value for z, value in zip(model.elements, row, strict=True)} for row in values]
    return energies[0] if model.levels is None else dict(zip(map(str, model.levels.values), energies, strict=True))
