"""Configuration of Sphinx; `make docs` builds with warnings as errors."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx

import carten

sys.path.insert(0, str(Path(__file__).parent))

import generate

project = "carten"
author = "The carten developers"
copyright = "The carten developers"  # the name Sphinx reads
version = release = carten.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["_build", "_generated", "tables"]
html_theme = "furo"
html_title = f"carten {version}"
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "linkify"]
myst_heading_anchors = 3
suppress_warnings = ["ref.python"]  # a name such as Tensor stands for several classes
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_mock_imports = [] if find_spec("torch_sim") else ["torch_sim"]  # which needs Python 3.12
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
copybutton_prompt_text = "$ "

ROLE = re.compile(r":\w+:(?=`)")
LITERAL = re.compile(r"(``.+?``|`[^`]+`)")
SPECIAL = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")


def as_plain_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text with code between backquotes: escape what reStructuredText would read as markup."""
    for number, line in enumerate(lines):
        parts = LITERAL.split(ROLE.sub("", line))
        parts[0::2] = [SPECIAL.sub(r"\\\1", part) for part in parts[0::2]]
        parts[1::2] = [f"``{part.strip('`')}``" for part in parts[1::2]]
        lines[number] = "".join(parts)


def setup(app: Sphinx) -> None:
    """Write the list of modules before Sphinx reads the pages, and read docstrings before napoleon does."""
    generate.write(Path(__file__).parent / "_generated", {"modules.md": generate.modules()})
    app.connect("autodoc-process-docstring", as_plain_text, priority=100)
