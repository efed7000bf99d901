"""The page about a folder: a section for each file of a known kind, and the names of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import carten
from carten.errors import DataError, ModelFileError
from carten.report.document import PageHead, PagePart, Section, assemble_page
from carten.report.kinds import KINDS
from carten.report.sections import HtmlTable, Line
from carten.report.shelf import Shelf
from carten.text import clean


class Unreadable(NamedTuple):
    """A file that is damaged, or not what its name says."""

    path: Path
    kind: str
    problem: str


def folder_page(folder: str | Path, complain: Callable[[str], None] = lambda text: None) -> str:
    """Everything that carten has written to a folder as one HTML page.

    Args:
        folder: with training runs, evaluations, results of jobs, trajectories, tables and pictures, also in folders.
        complain: called with a line about each file that cannot be shown; the page says so, too.

    Raises:
        DataError: there is no such folder, or nothing in it that could be shown.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with results of carten")
    shelf = Shelf(root)
    sections, unreadable = _read(shelf)
    for each in unreadable:
        complain(f"{each.kind} cannot be shown: {each.path}: {each.problem}")
    if not sections and not unreadable:
        names = ", ".join(map(shelf.name, shelf.files[:5])) or "it is empty"
        raise DataError(f"{root}: nothing that carten writes lies in this folder ({names})")
    sections = [*_problems(unreadable, shelf), *sections, *_others(shelf)]
    numbered = [replace(section, anchor=f"section-{number}") for number, section in enumerate(sections)]
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = [f"{len(shelf.shown):,} files", f"carten {carten.__version__}", date]
    return assemble_page(PageHead(clean(root.resolve().name), "", facts, carten.__version__, date), numbered)


def _read(shelf: Shelf) -> tuple[list[Section], list[Unreadable]]:
    """Sections in the order of their groups, within these in that of the files, and files that cannot be read."""
    placed: list[tuple[int, int, Section]] = []
    unreadable = []
    order = list(PagePart)
    for kind in KINDS:
        for place, path in enumerate(shelf.files):
            if path in shelf.shown or not kind.matches(path):
                continue
            try:
                section = kind.section(path, shelf)
            except (DataError, ModelFileError, OSError) as error:
                problem = clean(str(error).removeprefix(f"{path}").lstrip(": "), 300)
                unreadable.append(Unreadable(path, kind.name, problem))
                shelf.shown.add(path)
                continue
            if section is not None:
                placed.append((order.index(section.group), place, section))
                shelf.shown.add(path)
    return [section for _, _, section in sorted(placed, key=lambda entry: entry[:2])], unreadable


def _problems(unreadable: list[Unreadable], shelf: Shelf) -> list[Section]:
    if not unreadable:
        return []
    rows = [Line((shelf.name(each.path), each.kind, each.problem)) for each in unreadable]
    caption = "Damaged, half-written, or not what their names say."
    table = HtmlTable(caption, ("File", "Read as", "What is wrong"), rows, 3)
    summary = f"{len(rows)} file{'s' if len(rows) != 1 else ''}: see what is wrong with each"
    return [Section("Files that cannot be shown", "", tables=[table], summary=summary)]


def _others(shelf: Shelf) -> list[Section]:
    names = [shelf.name(path) for path in shelf.files if path not in shelf.shown]
    if shelf.left_out:
        names.append(f"and {shelf.left_out:,} more files, which were not looked at")
    if not names:
        return []
    summary = f"{len(names):,} files of other kinds"
    return [Section("Other files", "", summary, group=PagePart.OTHERS, summary=summary, preformatted="\n".join(names))]
