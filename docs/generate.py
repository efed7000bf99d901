"""Pages made from the code: tables of properties, inputs, names and configuration keys, and the list of modules.

``python docs/generate.py`` writes the tables into ``docs/tables``, where they are committed; a test compares them.
"""

import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

import carten
from carten.learning.config import LoopConfig
from carten.report.catalogue import INPUT_HEADER, PROPERTY_HEADER, alias_cells, input_cells, property_cells
from carten.report.options import options_of, summary_of
from carten.train.config import Config
from carten.workflows.criteria import CRITERIA, SECTIONS

TABLES = Path(__file__).parent / "tables"
PACKAGES = {
    "math": "Mathematics: pure functions on tables and tensors",
    "ops": "Operators: plans and the back ends that run them",
    "model": "The network and the graph it reads",
    "physics": "Energy terms: repulsion, dispersion, electrostatics",
    "properties": "Properties and inputs, the potential, model files",
    "data": "Reading, neighbour lists, data sets, statistics",
    "train": "Losses, optimisers, training",
    "uncertainty": "Uncertainty: ensembles, posteriors, calibration",
    "interfaces": "Other programs",
    "workflows": "Jobs",
    "learning": "Labels and active learning",
    "report": "Evaluation and its report",
}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; `|` inside cells is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"


def configuration(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """A heading, a summary and a table for a section and every section below it."""
    rows, below = [], []
    for option in options_of(model):
        allowed = option.allowed
        if option.section is not None:
            inner = f"{path}{option.name}.{'<name>.' if option.named else ''}"
            below += configuration(option.section, inner)
            allowed = f"names, each with a section `{inner[:-1]}`" if option.named else "section, see below"
        for entry in option.kinds:
            below += configuration(entry, f"{path}{option.name}: {entry.model_fields['kind'].default}.")
        default = option.default if option.default in ("", "required") else f"`{option.default}`"
        rows.append([f"`{option.name}`", allowed, default, option.meaning])
    yield f"## {f'`{path[:-1]}`' if path else 'Top level'}\n\n{summary_of(model)}"
    yield markdown_table(["key", "allowed", "default", "meaning"], rows)
    yield from below


def criteria() -> Iterator[str]:
    """A heading and a table for each section of a benchmark."""
    header = ["check", "green, amber up to", "what it is", "what to do"]
    for section in SECTIONS:
        rows = [[x.name, x.bounds, x.meaning, x.advice] for x in CRITERIA.values() if x.section == section]
        yield f"### {section}\n\n{markdown_table(header, rows)}"


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


def tables() -> dict[str, str]:
    """The committed pages by name."""
    return {
        "properties.md": markdown_table(PROPERTY_HEADER, property_cells()),
        "inputs.md": markdown_table(INPUT_HEADER, input_cells()),
        "aliases.md": markdown_table(["carten", "ASE"], alias_cells()),
        "benchmark.md": "\n".join(criteria()),
        "configuration.md": "\n\n".join(configuration(Config)),
        "learning.md": "\n\n".join(configuration(LoopConfig)),
    }


def write(folder: Path, pages: dict[str, str]) -> None:
    """Write pages into a folder, leaving unchanged files alone."""
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(TABLES, tables())
