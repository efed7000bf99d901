"""Pictures from files: SVG becomes part of the page with its colours, everything that is no drawing is left out."""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path
from xml.etree import ElementTree

from carten.drawing import LIGHT
from carten.errors import DataError
from carten.report.document import plain_name
from carten.report.figures import Picture

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_ELEMENTS = {
    *("svg", "g", "path", "defs", "clipPath", "use", "rect", "circle", "ellipse", "line", "polyline", "polygon"),
    *("text", "tspan", "title", "desc"),
}
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_COLOURS = {
    LIGHT.ink: "--ink",
    LIGHT.grid: "--grid",
    LIGHT.muted: "--muted",
    **{colour: f"--series-{number}" for number, colour in enumerate(LIGHT.series[:5], start=1)},
    "#ffffff": "--card",
}
MAX_BYTES = 1_500_000
"""A larger picture is not put into a page."""


def file_picture(path: Path, name: str, caption: str) -> Picture:
    """A picture from a file.

    Args:
        path: .svg or .png.
        name: of the file on the page, different for each of them.
        caption: what it shows.

    Raises:
        DataError: it is no such picture, or too large.
    """
    plain = plain_name(name.rpartition(".")[0])
    return Picture(plain, picture_markup(path, caption, f"{plain}-"), caption)


def picture_markup(path: Path, description: str, prefix: str) -> str:
    """A picture as HTML.

    Args:
        path: .svg or .png.
        description: for screen readers.
        prefix: of the ids inside, different for each picture of a page.

    Raises:
        DataError: it is no such picture, or larger than :data:`MAX_BYTES`.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: {path.stat().st_size / 1e6:.1f} MB are too large for a page, at most 1.5 MB")
    if path.suffix == ".svg":
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not SVG: {error}") from error
        return inline_svg(text, description, prefix, str(path))
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG"):
        raise DataError(f"{path}: is no PNG")
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def inline_svg(text: str, description: str, prefix: str, where: str) -> str:
    """An SVG element in the colours of the page.

    Raises:
        DataError: it is not SVG.
    """
    if "<!ENTITY" in text:
        raise DataError(f"{where}: defines entities, which pictures have no use for")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  # without entities there is nothing to expand
    except ElementTree.ParseError as error:
        raise DataError(f"{where}: is not SVG: {error}") from error
    if root.tag != f"{_SVG}svg":
        raise DataError(f"{where}: is not SVG: its outermost element is {root.tag}")
    _clean(root, prefix)
    root.attrib.pop("height", None)
    root.attrib.pop("width", None)
    root.attrib |= {"role": "img", "aria-label": description}
    ElementTree.register_namespace("", _SVG[1:-1])
    markup = ElementTree.tostring(root, encoding="unicode")
    for colour, variable in _COLOURS.items():
        markup = markup.replace(colour, f"var({variable})")
    return markup


def _clean(element: ElementTree.Element, prefix: str) -> None:
    """Keep shapes and text; links only to ids of the same picture, which get a prefix."""
    for child in list(element):
        if child.tag.removeprefix(_SVG) not in _ELEMENTS:
            element.remove(child)
        else:
            _clean(child, prefix)
    for name, value in list(element.attrib.items()):
        del element.attrib[name]
        name = "href" if name == _LINK else name
        if name == "href" and value.startswith("#"):
            element.set(name, f"#{prefix}{value[1:]}")
        elif name == "id":
            element.set(name, f"{prefix}{value}")
        elif _ATTRIBUTE.fullmatch(name) and name != "href" and not name.lower().startswith("on"):
            element.set(name, re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}\1)", value))
