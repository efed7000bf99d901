"""The figure of infrared and Raman spectra: bands from dynamics over harmonic lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from carten.drawing import LIGHT, Drawing
from carten.math.arrays import Floats
from carten.workflows.spectrum import Spectrum
from carten.workflows.vibrations import Vibrations


def draw(bands: Spectrum, lines: Vibrations, path: Path) -> None:
    """Write the figure; its format is that of the file's suffix."""
    panels = [("infrared", "km/mol per cm⁻¹", bands.infrared, lines.infrared)]
    if bands.raman is not None:
        panels.append(("Raman", "Å⁴/amu per cm⁻¹", bands.raman, lines.raman))
    with Drawing(2.6 * len(panels), 8.0, LIGHT) as drawing:
        rows = np.atleast_1d(drawing.figure.subplots(len(panels), sharex=True))
        for row, (name, unit, curve, sticks) in zip(rows, panels, strict=True):
            _panel(row, bands.wavenumbers, curve, lines.wavenumbers, sticks)
            row.set(ylabel=f"{name}, {unit}")
        row.set(xlabel="wavenumber, cm⁻¹", xlim=(0.0, 1.1 * lines.wavenumbers.max()))
        drawing.save(path)


def _panel(axes: Axes, wavenumbers: Floats, curve: Floats, where: Floats, sticks: Floats) -> None:
    """Bands as a curve; lines as sticks as high as the curve where both are highest."""
    inside = (wavenumbers > 100.0) & (wavenumbers < 1.1 * where.max())
    top = curve[inside].max()
    axes.vlines(where, 0.0, top * sticks / sticks.max(), color="C1", label="harmonic lines")
    axes.plot(wavenumbers[inside], curve[inside], color="C0", linewidth=1.2, label="dynamics")
    axes.set_ylim(0.0, 1.05 * top)
    axes.legend(loc="upper center")
