"""Print the oldest allowed versions of all that carten and its report need, as constraints for pip.

torch stays as in constraints.txt: older builds come with gigabytes of CUDA, or not at all for a new Python.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("torch",)


def oldest(requirements: list[str], pinned: dict[str, str]) -> list[str]:
    """Constraints from requirements such as ``numpy>=1.26``.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    constraints = []
    for requirement in requirements:
        match = re.fullmatch(r"([\w-]+)>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: expected a requirement such as numpy>=1.26, found {requirement!r}")
        name, bound = match.groups()
        constraints.append(f"{name}=={pinned[name] if name in KEPT else bound}")
    return constraints


def main() -> None:
    """Print the constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    requirements = [*project["dependencies"], *project["optional-dependencies"]["report"]]
    print("\n".join(oldest(requirements, pinned)))


if __name__ == "__main__":
    main()
