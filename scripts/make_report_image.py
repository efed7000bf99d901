"""Make docs/images/report.png: a picture of the report that ``carten demo`` writes, taken by headless Chromium.

Usage: ``python scripts/make_report_image.py``, or with ``--report FILE`` for a report that exists already.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1400, 1880
MINUTES = 0.7


def demo_report(folder: Path) -> Path:
    """The report of a short demo."""
    program = "import sys; sys.argv[0] = 'carten'; from carten.cli import app; app()"
    output = folder / "demo"
    subprocess.run([sys.executable, "-c", program, "demo", "-o", output, "--minutes", str(MINUTES)], check=True)
    return output / "report.html"


def photograph(report: Path, image: Path) -> None:
    """Save the top of a page as PNG."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser on PATH: looked for {', '.join(BROWSERS)}")
    options = [
        f"--window-size={WIDTH},{HEIGHT}",
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        "--disable-gpu",
    ]
    address = report.resolve().as_uri()
    subprocess.run([browser, *options, f"--screenshot={image}", address], check=True, capture_output=True)
    print(f"{image}: {image.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, help="a report that exists already")
    parser.add_argument("--output", type=Path, default=IMAGE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photograph(arguments.report or demo_report(Path(folder)), arguments.output)


if __name__ == "__main__":
    main()
