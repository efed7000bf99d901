"""Tables of the results, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.peers.catalogue import CHANNELS, CODES, PAPER
from benchmarks.peers.records import Record

NAMES = [code.name for code in CODES]
OWN = NAMES[0]
MODULES = {code.name: code.module for code in CODES}
Cell = Callable[[Record, Record], str]
"""Text for a record, given carten's for the same task."""


def tables(records: Sequence[Record]) -> str:
    """All tables."""
    inference = [record for record in records if record["kind"] == "infer"]
    training = [record for record in records if record["kind"] == "train"]
    scan = [record for record in records if record["kind"] == "scan"]
    parts = [_conditions(records)]
    if inference:
        parts += ["### Energy and forces, µs per atom", _by_system(inference, _value("us_per_atom"))]
        parts += ["### Peak memory of the process, MB", _by_system(inference, _value("peak_memory_mb"))]
    if training:
        parts += ["### One training step of five structures", _training(training)]
    if scan:
        parts += ["### Against L and ν, µs per atom", _scan(scan)]
    parts += ["### Start-up, s", _start(records), "### Versions and settings", _versions(records)]
    return "\n\n".join(parts)


def _conditions(records: Sequence[Record]) -> str:
    machines = ", ".join(sorted({record["machine"] for record in records}))
    threads = sorted({record["threads"] for record in records})
    count = ", ".join(map(str, threads))
    what = f"{machines}; {count} {'thread' if threads == [1] else 'threads'} for every code; float32."
    if any(record["clock"] == "processor" for record in records):
        what += " The machine had other work to do: times are what the processor spent on the one thread."
    return what


def _by_system(records: Sequence[Record], cell: Cell) -> str:
    """One row per code and one column per structure, smallest first."""
    columns = sorted({(record["n_atoms"], record["system"]) for record in records})
    heads = [f"{system}, {size} atoms" for size, system in columns]
    found = [[r for r in records if (r["n_atoms"], r["system"]) == column] for column in columns]
    return _table(heads, found, [cell] * len(columns))


def _training(records: Sequence[Record]) -> str:
    counted = [_with_work(record, records) for record in records]
    return _table(
        ["ms", "µs per atom", "peak memory, MB", "10⁶ MAC per atom", "10⁹ MAC per s"],
        [counted] * 5,
        [_step, _value("us_per_atom"), _value("peak_memory_mb"), _plain("mega_macs"), _plain("giga_macs_per_second")],
    )


def _with_work(record: Record, others: Sequence[Record]) -> Record:
    """With multiply-adds (MAC): of an atom, and in a second; those of compiled code are those of its eager variant."""
    same = [r for r in others if MODULES[r["model"]] == MODULES[record["model"]] and r.get("multiply_adds")]
    if not same or "us_per_atom" not in record:
        return record
    millions = 1e-6 * same[0]["multiply_adds"] / record["n_atoms"]
    return {**record, "mega_macs": millions, "giga_macs_per_second": 1e3 * millions / record["us_per_atom"]}


def _scan(records: Sequence[Record]) -> str:
    """Along L = l_max at the ν of the papers, and along ν at their L and l_max, for each number of channels."""
    heads, found = [], []
    for channels in CHANNELS:
        own = [record for record in records if record["settings"]["channels"] == channels]
        for key, letter in (("l_features", "L"), ("correlation", "ν")):
            along = axis(own, key)
            for value in sorted({record["settings"][key] for record in along}):
                heads.append(f"{channels} channels, {letter} {value}")
                found.append([record for record in along if record["settings"][key] == value])
    names = [name for name in NAMES if any(record["model"] == name for record in records)]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for head, row in zip(heads, found, strict=True):
        lines.append(f"| {head} | " + " | ".join(_cell(row, name, _value("us_per_atom")) for name in names) + " |")
    return "\n".join(lines)


def axis(records: Iterable[Record], key: str) -> list[Record]:
    """Records along ``l_features`` (with ``l_edges`` equal to it) or ``correlation``, all else as in the papers."""
    kept = []
    for record in records:
        size = record["settings"]
        ranks = (size["l_features"], size["l_edges"])
        common = ranks == (PAPER.l_features, PAPER.l_edges)
        if (key == "correlation" and common) or (
            key == "l_features" and ranks[0] == ranks[1] and size["correlation"] == PAPER.correlation
        ):
            kept.append(record)
    return kept


def _start(records: Sequence[Record]) -> str:
    """From the command to the first result, of the smallest structure."""
    tasks = [("infer", "energy and forces"), ("train", "training step")]
    heads = [f"{task}, {when}" for _, task in tasks for when in ("first time", "later")]
    found, cells = [], []
    for kind, _ in tasks:
        own = [record for record in records if record["kind"] == kind]
        least = min((record["n_atoms"] for record in own), default=0)
        smallest = [record for record in own if record["n_atoms"] == least]
        found += [smallest, smallest]
        cells += [_plain("first_start_seconds"), _plain("start_seconds")]
    return _table(heads, found, cells)


def _table(heads: Sequence[str], found: Sequence[Sequence[Record]], cells: Sequence[Cell]) -> str:
    names = [name for name in NAMES if any(record["model"] == name for own in found for record in own)]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name in names:
        texts = [_cell(own, name, cell) for own, cell in zip(found, cells, strict=True)]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _cell(records: Sequence[Record], name: str, cell: Cell) -> str:
    record = next((record for record in records if record["model"] == name), None)
    own = next((record for record in records if record["model"] == OWN), {})
    return "–" if record is None else cell(record, own)


def _value(key: str) -> Cell:
    """A value and how many times carten's it is."""

    def cell(record: Record, own: Record) -> str:
        if key not in record:
            return str(record.get("error", "–"))[:60].replace("|", " ")
        ratio = "" if record["model"] == OWN or key not in own else f" ({record[key] / own[key]:.1f} ×)"
        return _digits(record[key]) + ratio

    return cell


def _plain(key: str) -> Cell:
    def cell(record: Record, _own: Record) -> str:
        return _digits(record[key]) if key in record else "–"

    return cell


def _step(record: Record, _own: Record) -> str:
    if "us_per_atom" not in record:
        return str(record.get("error", "–"))[:60].replace("|", " ")
    return _digits(1e-3 * record["us_per_atom"] * record["n_atoms"])


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _versions(records: Sequence[Record]) -> str:
    lines = ["| code | version | differs from the common settings in |", "|---|---|---|"]
    for name in NAMES:
        own = [record for record in records if record["model"] == name]
        if own:
            lines.append(f"| {name} | {own[-1]['version']} | {own[-1]['note']} |")
    return "\n".join(lines)
