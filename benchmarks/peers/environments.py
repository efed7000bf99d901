"""A virtual environment for each code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==2.13.0"
"""The release every code runs on."""


@dataclass(frozen=True)
class Environment:
    """The environment of a code.

    Args:
        name: of the folder.
        requirements: what to install; all of it agrees with :data:`TORCH`.
        alone: installed without what it asks for, since that would be another torch; ``requirements`` has the rest.
    """

    name: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()


ENVIRONMENTS = (
    Environment("carten", ("--editable", str(ROOT))),
    Environment("mace", ("mace-torch==0.3.16",)),
    Environment("symmetrix", ("symmetrix-xl[mace]==0.1.1", "mace-torch==0.3.16")),
    Environment("flashcart", ("flashcart==0.1.0",)),
    Environment(
        "tace",
        (
            TORCH, "lightning", "omegaconf", "hydra-core>=1.3", "matscipy", "ase", "numpy", "e3nn", "torch_geometric",
            "scipy", "configargparse", "pandas", "lmdb", "huggingface_hub",
        ),
        alone=("tace==0.1.0",),
    ),
    Environment("nequip", ("nequip==0.19.1",)),
    Environment("sevenn", ("sevenn==0.13.0",)),
    Environment("torchmdnet", ("torchmd-net==3.1.0",)),
)  # fmt: skip
"""tace 0.1.0 is the Cartesian code of the paper and asks for torch below 2.10; later releases are spherical."""


def python(cache: Path, name: str) -> Path:
    """The interpreter of an environment."""
    return cache / name / "bin" / "python"


def install(cache: Path, names: Sequence[str]) -> None:
    """Create missing environments; the configuration of pip determines where packages come from.

    Raises:
        RuntimeError: pip failed; its output is in the log that the message names.
    """
    for environment in ENVIRONMENTS:
        if environment.name in names and not _complete(cache, environment):
            print(f"installing {environment.name}", flush=True)
            _create(cache, environment)


def _contents(environment: Environment) -> str:
    return "\n".join([TORCH, *environment.requirements, *environment.alone])


def _complete(cache: Path, environment: Environment) -> bool:
    mark = cache / environment.name / "installed.txt"
    return mark.exists() and mark.read_text() == _contents(environment)


def _create(cache: Path, environment: Environment) -> None:
    folder = cache / environment.name
    constraints = cache / "constraints.txt"
    cache.mkdir(parents=True, exist_ok=True)
    constraints.write_text(f"{TORCH}\n")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    _pip(cache, environment, [*environment.requirements, "--constraint", str(constraints)])
    if environment.alone:
        _pip(cache, environment, [*environment.alone, "--no-deps"])
    (folder / "installed.txt").write_text(_contents(environment))


def _pip(cache: Path, environment: Environment, arguments: Sequence[str]) -> None:
    log = cache / f"{environment.name}.log"
    command = [str(python(cache, environment.name)), "-m", "pip", "install", *arguments]
    with log.open("a") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise RuntimeError(f"installing {environment.name} failed, see {log}")
