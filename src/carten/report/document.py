"""A self-contained HTML page of sections: the template ``page.html`` with everything it shows.

The template escapes all text. Its scripts are named by their hashes in the page's content security policy, so that
no other script could run even if a text came through unescaped.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from itertools import groupby
from typing import Any, Literal, NamedTuple

import jinja2

from carten.report.figures import Picture
from carten.report.scenes import Scene
from carten.report.sections import Headline, HtmlTable
from carten.text import clean

_SCRIPTS = ("page.js", "tables.js", "plots.js", "scenes.js")


class PagePart(StrEnum):
    """Parts of a page, in this order; sections of none come first."""

    NONE = ""
    TRAINING = "Training"
    ERRORS = "Errors"
    RESULTS = "Results"
    STRUCTURES = "Structures and dynamics"
    MODELS = "Models"
    OTHERS = "Tables and pictures"


class Remark(NamedTuple):
    """What a reader of a section must know."""

    kind: Literal["failure", "warning"]
    text: str


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        title: heading.
        anchor: of links to it.
        text: below the heading.
        pictures: figures.
        tables: below the figures.
        scene: structures to turn, above the figures.
        preformatted: text of fixed width, folded.
        notes: terms and what they mean.
        remarks: above all else.
        name: of the file, beside the title.
        group: part of the page; with groups, contents are a table.
        summary: what the contents say of it.
        data: names of tables behind the pictures, and these as CSV, for saving.
    """

    title: str
    anchor: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[HtmlTable] = ()
    scene: Scene | None = None
    preformatted: str = ""
    notes: Sequence[tuple[str, str]] = ()
    remarks: Sequence[Remark] = ()
    name: str = ""
    group: PagePart = PagePart.NONE
    summary: str = ""
    data: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class PageHead:
    """What stands above the sections.

    Args:
        subject: name of what the page is about.
        about: what was done with it, for example the name of the data.
        facts: in one line.
        version: of carten.
        date: when the page was written.
        headlines: the most important numbers.
        link: word between subject and about.
    """

    subject: str
    about: str
    facts: Sequence[str]
    version: str
    date: str
    headlines: Sequence[Headline] = ()
    link: str = "on"


def assemble_page(head: PageHead, sections: Sequence[Section], tables: Mapping[str, str] | None = None) -> str:
    """The page as HTML; no part of it is requested from the network.

    Args:
        head: what stands above.
        sections: in order.
        tables: data behind figures by the name of their table, packed (:func:`packed`).
    """
    scripts = [_resource(name) for name in _SCRIPTS]
    data = {
        f"{section.anchor}-{number}": packed(text)
        for section in sections
        for number, (_, text) in enumerate(section.data)
    }
    return _template().render(
        head=head,
        title=f"{head.subject} {head.link} {head.about}".strip(),
        sections=sections,
        parts=_parts(sections),
        tables={**(tables or {}), **data},
        scenes={section.anchor: packed(section.scene.json()) for section in sections if section.scene},
        policy=_policy(scripts),
        style=_resource("page.css"),
        scripts=scripts,
    )


def _parts(sections: Sequence[Section]) -> list[tuple[str, list[Section]]]:
    """Sections by their group, as they follow one another; none where no section has one."""
    parts = [(str(group), list(members)) for group, members in groupby(sections, key=lambda section: section.group)]
    return parts if any(group for group, _ in parts) else []


def packed(text: str) -> str:
    """Text compressed with gzip, in base64: letters, digits, ``+``, ``/`` and ``=`` only."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def plain_name(name: str) -> str:
    """A name as part of the names of files and of elements."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy that allows these scripts, and no request."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _resource(name: str) -> str:
    return resources.files("carten.report").joinpath(name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_printable
    )
    return environment.from_string(_resource("page.html"))


def _printable(value: Any) -> Any:
    """Text without control characters; what is markup already stays as it is."""
    if type(value) is str and len(value) < 10_000:
        return "\n".join(clean(line, 10_000) if line.strip() == line else line for line in value.split("\n"))
    return value
