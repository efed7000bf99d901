"""carten spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.options import Backend, Device, ModelFile, Overwrite, load_model, require_new

if TYPE_CHECKING:
    from carten.workflows.spectrum import Spectrum
    from carten.workflows.vibrations import Lines


def spectrum_command(
    model: ModelFile,
    trajectory: Annotated[
        Path, typer.Argument(metavar="TRAJECTORY", help="Dynamics of one molecule, by carten md.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Columns, CSV.")] = Path(
        "spectrum.csv"
    ),
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="A figure: .svg, .png, .pdf.")] = None,
    resolution: Annotated[float, typer.Option(min=0.1, help="cm⁻¹.")] = 10.0,
    timestep: Annotated[
        float | None, typer.Option(min=1e-6, help="fs between frames, where they carry no time.", show_default=False)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=1e-6, help="K, where frames carry no momenta.", show_default=False)
    ] = None,
    device: Device = None,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Infrared and, with polarizabilities, Raman spectrum of a molecule from dynamics, beside its harmonic lines.

    The classical autocorrelation of the dipole, with the harmonic quantum correction: areas of bands are intensities.
    """
    from carten.data.read import read_structures
    from carten.report.spectrum import draw
    from carten.workflows.spectrum import spectrum as run
    from carten.workflows.vibrations import lines

    for path in (output, plot):
        require_new(path, overwrite)
    potential = load_model(model, device, "float64", backend)
    frames = [atoms for _, atoms in read_structures(trajectory)]
    bands = run(potential, frames, timestep, temperature, resolution)
    _write(bands, output)
    harmonic = lines(potential, frames[0])
    for line in table(bands, harmonic):
        typer.echo(line)
    typer.echo(f"spectrum      {output}")
    if plot is not None:
        draw(bands, harmonic, plot)
        typer.echo(f"figure        {plot}")


def table(bands: Spectrum, harmonic: Lines) -> list[str]:
    """Harmonic lines, and the nearest maximum of the spectra."""
    from carten.workflows.spectrum import nearest_peaks

    infrared = nearest_peaks(bands.wavenumbers, bands.infrared, harmonic.wavenumbers)
    columns = [harmonic.wavenumbers, harmonic.infrared, infrared]
    head = f"{'harmonic':>10}{'km/mol':>10}{'infrared':>10}"
    if bands.raman is not None:
        columns += [harmonic.raman, nearest_peaks(bands.wavenumbers, bands.raman, harmonic.wavenumbers)]
        head += f"{'Å⁴/amu':>10}{'Raman':>10}"
    rows = ["".join(f"{value:>10.1f}" for value in row) for row in zip(*columns, strict=True)]
    return [f"wavenumbers in cm⁻¹, dynamics at {bands.temperature:.0f} K", head, *rows]


def _write(bands: Spectrum, path: Path) -> None:
    import csv

    names = ["wavenumber_cm-1", "infrared_km/mol/cm-1"]
    columns = [bands.wavenumbers, bands.infrared]
    if bands.raman is not None:
        names.append("raman_A^4/amu/cm-1")
        columns.append(bands.raman)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([f"{value:.6g}" for value in row] for row in zip(*columns, strict=True))
