"""Make the pictures of pages in the documentation, taken by headless Chromium from the results of ``carten demo``.

docs/images/report.png shows the report of its evaluation, folder.png the page about its folder (``carten report``), and
checks.png the page of ``carten benchmark`` about its model.

Usage: ``python scripts/make_report_image.py``, or with ``--demo FOLDER`` for a demo that was run already.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH = 1400
HEIGHTS = {"report.png": 1880, "folder.png": 1560, "checks.png": 1560}
PROGRAM = "import sys; sys.argv[0] = 'carten'; from carten.cli import app; app()"
MINUTES = 0.7


def carten(*arguments: object) -> None:
    """Run a command of carten."""
    subprocess.run([sys.executable, "-c", PROGRAM, *map(str, arguments)], check=True)


def pages(demo: Path, folder: Path) -> dict[str, Path]:
    """The page of each picture, from the files of a demo."""
    carten("report", demo, "-o", folder / "folder.html")
    carten("benchmark", demo / "run" / "best.carten", demo / "start.extxyz", "-o", folder / "checks")
    names = (demo / "report.html", folder / "folder.html", folder / "checks" / "benchmark.html")
    return dict(zip(HEIGHTS, names, strict=True))


def photograph(page: Path, image: Path) -> None:
    """Save the top of a page as PNG."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser on PATH: looked for {', '.join(BROWSERS)}")
    options = [
        f"--window-size={WIDTH},{HEIGHTS[image.name]}",
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        "--disable-gpu",
    ]
    address = page.resolve().as_uri()
    subprocess.run([browser, *options, f"--screenshot={image}", address], check=True, capture_output=True)
    print(f"{image}: {image.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="folder of a demo that was run already")
    parser.add_argument("--output", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = arguments.demo or folder / "demo"
        if arguments.demo is None:
            carten("demo", "-o", demo, "--minutes", MINUTES)
        for image, page in pages(demo, folder).items():
            photograph(page, arguments.output / image)


if __name__ == "__main__":
    main()
