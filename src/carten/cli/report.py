"""carten report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carten.cli.options import Overwrite, require_new


def report_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With results of carten.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="HTML.")] = Path("report.html"),
    overwrite: Overwrite = False,
) -> None:
    """Everything that lies in a folder on one HTML page: training, errors, results of jobs, structures, films, tables.

    The page is one file that needs no network. Files that cannot be read are named on it, and here.
    """
    from carten.data.write import replacing
    from carten.report.folder import folder_page

    require_new(output, overwrite)
    html = folder_page(folder, lambda text: typer.echo(f"Warning: {text}", err=True))
    with replacing(output) as file:
        file.write(html)
    typer.echo(f"report: {output.resolve()} ({len(html.encode()) / 1e6:.2f} MB)")
