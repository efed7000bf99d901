"""The report of ``carten check`` as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ase.data import chemical_symbols

from carten.data.findings import Duplicates, LabelReport, Report, counted_noun
from carten.data.geometry import Contact
from carten.data.label_check import OUTLIER
from carten.data.labels import ASYMMETRY

_KINDS = ("not periodic", "periodic in 1 direction", "periodic in 2 directions", "periodic in 3 directions")
_SHOWN = 10
_HARMLESS = ("as expected", "undecided")
_SPREAD = 1e-3  # eV
_TOUCHING = 0.7  # of the sum of covalent radii


def report_lines(report: Report) -> list[str]:
    """All of a report, one item per line, headings flush left."""
    return [
        *_structures(report),
        *_labels(report),
        *_inputs(report),
        *_references(report),
        *_geometry(report),
        *_warnings(report),
        *_problems(report),
    ]


def _structures(report: Report) -> Iterator[str]:
    low, mean, high = report.atoms
    kinds = ", ".join(f"{count} {_KINDS[directions]}" for directions, count in report.periodic.items())
    sizes = counted_noun(low, "atom") if low == high else f"{low} to {high} atoms (mean {mean:.1f})"
    yield f"{counted_noun(report.n_structures, 'structure')} of {sizes}: {kinds}"
    names = [f"{_symbol(number)} {count}" for number, count in report.elements.items()]
    yield f"{counted_noun(len(names), 'element')}, with the number of structures: {', '.join(names)}"
    yield f"{report.neighbours:.1f} neighbours per atom within {report.cutoff:g} Å on average"
    if report.sampled < report.n_structures:
        yield f"names of labels, reference energies and comparisons of labels are those of {report.sampled} structures"


def _symbol(number: int) -> str:
    return chemical_symbols[number] if 0 <= number < len(chemical_symbols) else f"(no element: {number})"


def _labels(report: Report) -> Iterator[str]:
    yield "Labels"
    if not report.labels:
        yield "  none of the properties asked for, or known, is in the data"
    for label in report.labels:
        key = f' (key "{label.key}")' if label.key != label.name else ""
        yield (
            f"  {label.name}{key}: {label.carried} of {report.n_structures} structures; {label.lowest:.8g} to "
            f"{label.highest:.8g}, mean {label.mean:.6g}, rms {label.rms:.6g} {label.unit}"
        )
        yield from _suspicions(label)
        if label.name in report.others:
            yield f"    other candidates: {', '.join(report.others[label.name])}"
    for name, count in report.left_out.items():
        yield f"  {name} of {count} structures is not read: it is per volume, they are not periodic or have no cell"
    for key in report.zero:
        yield f"  {key} is zero in all structures and not taken as a label"
    if report.stress is not None:
        yield f"  stress sign and unit: {report.stress.verdict}; {report.stress.reason}"
    for agreement in report.agreements:
        yield (
            f"  {agreement.slope} as slope of {agreement.of}: {agreement.verdict}; {agreement.ratio:.3g} of the change "
            f"(expected about 1), correlation {agreement.correlation:.3f}, in {agreement.pairs} {agreement.among}"
        )
    for name, shape, count in report.unused:
        yield f"  not used: {name} {list(shape) if shape else 'number'}, {counted_noun(count, 'structure')}"
    for hint in report.hints:
        yield f"  {hint}"


def _inputs(report: Report) -> Iterator[str]:
    if report.inputs:
        yield "Inputs (used if the configuration lists them)"
    for row in report.inputs:
        key = f' (key "{row.key}")' if row.key != row.name else ""
        values = ", ".join(f"{value} {count}" for value, count in row.values)
        content = values or f"{row.lowest:.8g} to {row.highest:.8g} {row.unit}".rstrip()
        yield f"  {row.name}{key}: {row.carried} of {report.n_structures} structures; {content}"


def _suspicions(label: LabelReport) -> Iterator[str]:
    if label.n_outliers:
        many = "" if label.outliers else " (too many to stand out: a broad distribution)"
        yield f"    {label.n_outliers} beyond {OUTLIER:g} robust standard deviations of the {label.compared}{many}"
    for outlier in label.outliers:
        yield f"      {outlier.where}: {outlier.value:.6g} ({outlier.score:.1f} standard deviations)"
    if label.zero:
        yield f"    exactly zero in {label.zero} of {label.carried} structures: is it computed there?"
    if label.sums is not None:
        rms, largest, where = label.sums
        summed = "the atoms of a structure" + (f" less {label.total}" if label.total else "")
        yield f"    sum over {summed}: rms {rms:.2g}, largest {largest:.2g} {label.unit} ({where})"
    if label.asymmetry is not None and label.asymmetry > ASYMMETRY:
        percent = 100 * label.asymmetry
        yield (
            f"    violates its index symmetry by {percent:.2g} % ({label.asymmetric}); predictions will obey it "
            "(project: true in the configuration makes the labels obey it too)"
        )


def _references(report: Report) -> Iterator[str]:
    if report.references is None:
        return
    yield "Reference energies in eV"
    for number, value in report.references.values.items():
        yield f"  {chemical_symbols[number]}: {value:.6f} ({report.references.origin[number]})"
    if report.references.undetermined:
        names = ", ".join(chemical_symbols[number] for number in report.references.undetermined)
        yield f"  the compositions do not determine {names} individually: those nearest to the mean are taken"
    if report.references.residual is not None:
        yield f"  residual: rms {report.references.residual:.4g} eV/atom"


def _geometry(report: Report) -> Iterator[str]:
    yield "Geometry"
    yield from _first([_contact(contact) for contact in report.contacts])
    if report.duplicates:
        surplus = sum(len(group.where) - 1 for group in report.duplicates)
        groups = counted_noun(len(report.duplicates), "group")
        yield f"  {counted_noun(surplus, 'duplicate')} in {groups} of equal geometry:"
    yield from _first([_group(group) for group in report.duplicates])
    if any(group.spread is not None and group.spread > _SPREAD for group in report.duplicates):
        yield "    equal geometries differ in energy: make what distinguishes them (charge, field) an input, or drop"


def _contact(contact: Contact) -> str:
    pair = "-".join(chemical_symbols[number] for number in contact.elements)
    i, j = contact.atoms
    close = " (!)" if contact.ratio < _TOUCHING else ""
    return (
        f"  closest {pair}: {contact.distance:.3f} Å, {contact.ratio:.2f} of the covalent radii{close}, "
        f"atoms {i} and {j} of {contact.where}"
    )


def _group(group: Duplicates) -> str:
    names = " = ".join(group.where[:3]) + (f" = ... ({len(group.where)} in all)" if len(group.where) > 3 else "")
    energies = f", energies within {group.spread:.2g} eV" if group.spread is not None else ""
    return f"    {names}{energies}"


def _warnings(report: Report) -> Iterator[str]:
    """What makes a model wrong though training would accept it, once more and in one place."""
    warnings = [
        f"  {agreement.slope} as slope of {agreement.of}: {agreement.verdict}"
        for agreement in report.agreements
        if agreement.verdict not in _HARMLESS
    ]
    if report.stress is not None and report.stress.verdict not in _HARMLESS:
        warnings.append(f"  stress: {report.stress.verdict}")
    warnings += [
        f"  {label.name} violates its index symmetry" for label in report.labels if (label.asymmetry or 0.0) > ASYMMETRY
    ]
    if any(group.spread is not None and group.spread > _SPREAD for group in report.duplicates):
        warnings.append("  equal geometries differ in energy")
    warnings += [
        f"  {label.name} is exactly zero in {counted_noun(label.zero, 'structure')}"
        for label in report.labels
        if label.zero
    ]
    yield f"Warnings: {len(warnings) or 'none'}"
    yield from _first(warnings)


def _problems(report: Report) -> Iterator[str]:
    yield f"Problems: {len(report.problems) or 'none'}"
    yield from _first([f"  {problem}" for problem in report.problems])


def _first(items: Sequence[str]) -> list[str]:
    n_hidden = len(items) - _SHOWN
    return [*items[:_SHOWN], f"  ... and {n_hidden} more"] if n_hidden > 0 else list(items)
