"""Make the pictures of docs/spectra.md: run its recipes, which tests leave out because each takes minutes.

Usage: ``python scripts/make_spectra.py [--only NAME]``. The lines and bands of the tables on that page are printed.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, IMAGES = ROOT / "docs" / "spectra.md", ROOT / "docs" / "images"
NAMES = ("spectrum_ethanol.svg", "spectrum_ethanol_raman.svg")
"""Pictures of the recipes, in the order of the page."""
RECIPE = re.compile(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```.*?```bash\n(.*?)```", re.DOTALL)


def run(file: str, configuration: str, commands: str, folder: Path) -> None:
    """Run a recipe in an empty folder."""
    (folder / file).write_text(configuration, encoding="utf-8")
    path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n"
    subprocess.run(["bash", "-euxc", path + commands], cwd=folder, check=True)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NAMES, help="one of the pictures")
    only = parser.parse_args().only
    recipes = [recipe for recipe in RECIPE.findall(PAGE.read_text(encoding="utf-8")) if "carten spectrum" in recipe[2]]
    for name, recipe in zip(NAMES, recipes, strict=True):
        if only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                run(*recipe, Path(folder))
                shutil.copy(Path(folder) / "spectrum" / "spectrum.svg", IMAGES / name)
                print((Path(folder) / "spectrum" / "spectrum-lines.csv").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
