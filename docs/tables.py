"""Pages made from the code: the property and input tables, the configuration reference, the list of modules."""

import pkgutil
from collections import Counter
from pathlib import Path

import carten
from carten.model.conditions import Input
from carten.physics.names import CHARGE, ELECTRONEGATIVITIES, HARDNESSES
from carten.properties.routes import (
    AtomicVirial,
    Balanced,
    Derivative,
    Equilibrated,
    Latent,
    Multipole,
    Permittivity,
    Positive,
    Property,
    Readout,
    Route,
    Sum,
)
from carten.properties.spec import INPUTS, PROPERTIES
from carten.train.config import Config
from configuration_tables import tables_of
from markdown_table import markdown_table

PACKAGES = {
    "math": "Mathematics: pure functions on tables and tensors",
    "ops": "Operators: plans and the back ends that run them",
    "model": "The network and the graph it reads",
    "physics": "Energy terms: repulsion, dispersion, electrostatics",
    "properties": "Properties and inputs, the potential, model files",
    "data": "Reading, neighbour lists, data sets, statistics",
    "train": "Losses, optimisers, training",
    "interfaces": "Other programs",
    "workflows": "Jobs",
    "report": "Evaluation and its report",
}


def partial(of: str, wrt: tuple[str, ...]) -> str:
    """A derivative of any order in symbols."""
    powers = Counter(wrt)
    order = "⁰¹²³⁴⁵⁶"[len(wrt)] if len(wrt) > 1 else ""
    below = " ".join(f"∂`{name}`{'⁰¹²³⁴⁵⁶'[power] if power > 1 else ''}" for name, power in powers.items())
    return f"∂{order}`{of}`/{below}"


def describe(route: Route) -> str:
    """A route in words, after its name in configurations."""
    match route:
        case Readout() | Positive() | Balanced():
            words = f"from the features{corrected(route)}"
        case Equilibrated():
            words = f"of least energy at a given `{CHARGE}`, from `{ELECTRONEGATIVITIES}` and `{HARDNESSES}`"
        case Sum(of):
            words = f"sum of `{of}`"
        case Multipole(charges, dipoles) | Latent(charges, dipoles):
            words = f"from `{charges}`{f' and `{dipoles}`' if dipoles else ''}"
        case Permittivity(of):
            words = f"1 + 4π `{of}` / volume"
        case AtomicVirial(of, sign, per_volume):
            words = (
                f"{'−' if sign < 0 else ''}shares of atoms in the virial of `{of}`{' / volume' if per_volume else ''}"
            )
        case Derivative(of, wrt, sign, per_volume):
            words = f"{'−' if sign < 0 else ''}{partial(of, wrt)}{' / volume' if per_volume else ''}"
    return f"`{route.name}`: {words}"


def corrected(route: Readout | Positive | Balanced) -> str:
    """What is done to values that are read from the features."""
    match route:
        case Readout(reduce):
            return "" if reduce == "sum" else ", mean over atoms"
        case Positive():
            return ", above zero"
        case Balanced(total, by):
            weights = ", by learned softnesses" if by == "softness" else ""
            return f", corrected to add up to {f'`{total}`' if total else 'zero'}{weights}"


def common(row: Property | Input) -> list[str]:
    """The cells that both tables share."""
    indices = f"`{row.indices}`" if row.indices else "scalar"
    return [f"`{row.name}`", row.scope, indices, "even" if row.parity > 0 else "odd", row.unit]


def properties() -> str:
    """The table of properties."""

    def row(p: Property) -> list[str]:
        routes = "<br>".join(describe(route) for route in p.routes)
        return [*common(p), p.report_unit, routes, p.note]

    header = ["name", "per", "indices", "under inversion", "unit", "errors in", "routes (default first)", "conventions"]
    return markdown_table(header, map(row, PROPERTIES))


def inputs() -> str:
    """The table of inputs."""

    def row(i: Input) -> list[str]:
        default = "an error" if i.default is None else f"{i.default:g} {i.unit}"
        return [*common(i), type(i.embed).__name__.lower(), f"{i.scale:g}", default, i.note]

    header = ["name", "per", "indices", "under inversion", "unit", "embedded as", "scale", "when absent", "meaning"]
    return markdown_table(header, map(row, INPUTS))


def aliases() -> str:
    """The names that ASE has for rows of the tables."""
    rows = [[f"`{row.name}`", f"`{row.ase}`"] for row in (*PROPERTIES, *INPUTS) if row.ase]
    return markdown_table(["carten", "ASE"], rows)


def modules() -> str:
    """An autodoc section for every public module, layer by layer."""
    top = [m.name for m in pkgutil.iter_modules(carten.__path__) if not m.ispkg and not m.name.startswith("_")]
    sections = [("Top level", [f"carten.{name}" for name in top if name != "cli"])]
    for package, title in PACKAGES.items():
        path = [f"{carten.__path__[0]}/{package}"]
        names = [m.name for m in pkgutil.walk_packages(path, f"carten.{package}.") if not m.ispkg]
        sections.append((title, [name for name in names if not name.rsplit(".", 1)[1].startswith("_")]))
    lines = []
    for title, names in sections:
        lines.append(f"## {title}\n")
        lines += [f"### {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in names]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write every generated page into a folder, leaving unchanged files alone."""
    folder.mkdir(exist_ok=True)
    pages = {
        "properties.md": properties(),
        "inputs.md": inputs(),
        "aliases.md": aliases(),
        "modules.md": modules(),
        "configuration.md": tables_of(Config),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
