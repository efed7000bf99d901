"""Models for KIM (Knowledgebase of Interatomic Models): folders that ``kim-api`` compiles and installs.

KIM has no exchange between the layers of a network: ghosts have to reach layers × cutoff.
"""

from __future__ import annotations

import re
import tempfile
from importlib import resources
from pathlib import Path

from carten import deploy
from carten.deploy import Deployed
from carten.errors import ConfigError, ModelError

CMAKE = """cmake_minimum_required(VERSION 3.10)
list(APPEND CMAKE_PREFIX_PATH $ENV{{KIM_API_CMAKE_PREFIX_DIR}})
find_package(KIM-API-ITEMS 2.2 REQUIRED CONFIG)
kim_api_items_setup_before_project(ITEM_TYPE "portableModel")
project({name})
kim_api_items_setup_after_project(ITEM_TYPE "portableModel")
add_kim_api_model_library(NAME ${{PROJECT_NAME}} CREATE_ROUTINE_NAME "model_create" CREATE_ROUTINE_LANGUAGE "cpp")
target_sources(${{PROJECT_NAME}} PRIVATE model.cpp)
target_compile_features(${{PROJECT_NAME}} PRIVATE cxx_std_17)
target_compile_definitions(${{PROJECT_NAME}} PRIVATE
  CARTEN_NAME="{name}" CARTEN_LIBRARY="${{CMAKE_CURRENT_SOURCE_DIR}}/model.so")
target_link_libraries(${{PROJECT_NAME}} PRIVATE ${{CMAKE_DL_LIBS}})
"""
"""How ``kim-api-collections-management install`` compiles a portable model."""

NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")


def export_portable_model(
    model: str | Path, folder: str | Path, dtype: str | None = None, march: str = "native"
) -> Deployed:
    """Write a model as a portable model of KIM, to be installed by ``kim-api-collections-management``.

    Args:
        model: a ``.carten`` file.
        folder: what is written; its name is that of the model in KIM. Files of another export are replaced.
        dtype: ``"float32"`` or ``"float64"``, that of the model by default.
        march: processor, as for :func:`carten.deploy.export`.

    Raises:
        ConfigError: KIM can't have a model of this name; an unknown dtype or processor.
        ModelFileError: the file is no model.
        ModelError: the model can't be compiled, or needs what KIM does not have.
        OSError: the folder can't be written.
    """
    folder = Path(folder).resolve()
    if not NAME.fullmatch(folder.name):
        raise ConfigError(
            f"{folder.name}: the folder has the name of the model in KIM, letters, digits and _ after a first letter"
        )
    with tempfile.TemporaryDirectory(prefix="carten-") as place:
        library = deploy.export(model, Path(place) / "model.so", dtype, march)
    _require_possible(library, str(model))
    files = {"CMakeLists.txt": CMAKE.format(name=folder.name).encode(), "model.so": library.content}
    files["model.cpp"] = resources.files("carten.interfaces.kim").joinpath("model.cpp").read_bytes()
    for name in ("carten_open.hpp", "carten_model.h"):
        files[name] = resources.files("carten.deploy").joinpath("native", name).read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return library


def _require_possible(library: Deployed, where: str) -> None:
    """Check that a model needs atoms only, and has forces that are derivatives.

    Raises:
        ModelError: it does not.
    """
    if "forces" in library.readouts:
        raise ModelError(f"{where} reads forces from features, but in KIM they are derivatives of its energy")
    if needed := [row["name"] for row in library.header["inputs"] if row.get("default") is None]:
        raise ModelError(f"{where} needs {', '.join(needed)}, but KIM gives a model atoms and elements only")
