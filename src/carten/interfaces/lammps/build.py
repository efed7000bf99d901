"""The plugin of LAMMPS, compiled against the headers of an installation and kept."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from carten.errors import ModelError
from carten.interfaces.lammps.installation import Installation
from carten.ops import compiler
from carten.ops.cache import cache_folder, private_folder

PLUGIN = "cartenplugin.so"
"""LAMMPS loads every ``*plugin.so`` of a folder, so that each folder holds one."""


def plugin_folder(installation: Installation) -> Path:
    """The folder of the plugin, which is compiled unless it is there.

    One folder for each LAMMPS, MPI and version of carten: processes that compile at once write the same file, which
    appears complete.

    Raises:
        ModelError: the LAMMPS is too old or has no plugins; or the compiler failed.
    """
    source = plugin_source()
    key = f"{source}\n{installation.identity}\n{compiler.compiler().version}"
    folder = cache_folder() / f"lammps-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    with private_folder(folder):
        if not (folder / PLUGIN).exists():
            build_plugin(installation, folder / PLUGIN)
    return folder


def build_plugin(installation: Installation, output: Path) -> Path:
    """Compile the plugin into a file.

    Raises:
        ModelError: as for :func:`plugin_folder`.
    """
    installation.require_usable()
    source = f"/* {installation.identity} */\n{plugin_source()}"
    flags = (*installation.definitions, *(f"-I{folder}" for folder in installation.include), "-fvisibility=hidden")
    try:
        return compiler.build([source], output, attempts=[flags], link_flags=["-ldl"])
    except ModelError as error:
        raise ModelError(f"pair_style carten can't be compiled for {installation.program}: {error}") from error


def plugin_source() -> str:
    """The plugin in one file, with the headers of models in place of their inclusion."""
    text = resources.files("carten.interfaces.lammps").joinpath("plugin.cpp").read_text(encoding="utf-8")
    for name in ("carten_open.hpp", "carten_model.h"):
        header = resources.files("carten.deploy").joinpath("native", name).read_text(encoding="utf-8")
        text = text.replace(f'#include "{name}"', header)
    return text
