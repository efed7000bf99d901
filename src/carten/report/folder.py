"""The page about a folder: a section for each file of a known kind, and the names of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import carten
from carten.errors import DataError, ModelFileError
from carten.report.document import PageHead, Remark, Section, assemble_page
from carten.report.kinds import KINDS, FileKind, UnknownFile
from carten.report.shelf import Shelf
from carten.text import clean

BROKEN = (DataError, ModelFileError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)
"""What files that are damaged, or not what their name says, lead to."""


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
    sections: list[tuple[Path, Section]] = []
    for kind in KINDS:
        for path in shelf.files:
            if path not in shelf.shown and kind.matches(path):
                section = _section(kind, path, shelf, complain)
                if section is not None:
                    sections.append((path, section))
    if not sections:
        names = ", ".join(map(shelf.name, shelf.files[:5])) or "it is empty"
        raise DataError(f"{root}: nothing that carten writes lies in this folder ({names})")
    place = {path: number for number, path in enumerate(shelf.files)}
    sections.sort(key=lambda pair: place[pair[0]])
    numbered = [replace(section, anchor=f"section-{number}") for number, (_, section) in enumerate(sections)]
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = [f"{len(shelf.shown):,} files", f"carten {carten.__version__}", date]
    head = PageHead(clean(root.resolve().name), "", facts, carten.__version__, date)
    return assemble_page(head, [*numbered, *_others(shelf)])


def _section(kind: FileKind, path: Path, shelf: Shelf, complain: Callable[[str], None]) -> Section | None:
    try:
        section = kind.section(path, shelf)
    except UnknownFile:
        return None
    except BROKEN as error:
        text = clean(str(error), 300) if isinstance(error, DataError | ModelFileError) else f"{path}: {error!r}"
        complain(f"{kind.name} {text}")
        section = Section(
            shelf.name(path), "", remarks=[Remark("failure", f"this {kind.name} cannot be shown: {text}")]
        )
    shelf.shown.add(path)
    return section


def _others(shelf: Shelf) -> list[Section]:
    names = [shelf.name(path) for path in shelf.files if path not in shelf.shown]
    if shelf.left_out:
        names.append(f"and {shelf.left_out:,} more files, which were not looked at")
    return [Section("Other files", "others", "Not shown on this page.", preformatted="\n".join(names))] if names else []
