"""Bands of a molecule from dynamics beside its harmonic lines: the result of ``carten spectrum``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from carten.math.arrays import Array, Floats
from carten.workflows.results import JobResult, Quantity
from carten.workflows.spectrum import Spectrum, nearest_peaks
from carten.workflows.vibrations import Vibrations

LOWEST = 100.0
"""cm^-1, from which bands are drawn: below are slow motions of the molecule."""
MARGIN = 1.1
"""Of the axis, beyond the highest line."""


@dataclass(frozen=True)
class BandsAndLines(JobResult):
    """Infrared and Raman spectra.

    Args:
        bands: from dynamics.
        harmonic: lines of the same molecule; none where the model has no Hessian or no dipole.
        remark: why there are no lines.
    """

    job: ClassVar[str] = "spectrum"
    size: ClassVar[tuple[float, float]] = (5.2, 8.0)
    bands: Spectrum
    harmonic: Vibrations
    remark: str = ""

    def quantities(self) -> list[Quantity]:
        """The temperature, and the highest bands."""
        curves = {"infrared": self.bands.infrared, "Raman": self.bands.raman}
        above = self.bands.wavenumbers > LOWEST
        highest = {
            name: self.bands.wavenumbers[above][np.argmax(curve[above])]
            for name, curve in curves.items()
            if curve is not None
        }
        bands = [Quantity(f"highest {name} band", float(place), "cm⁻¹") for name, place in highest.items()]
        return [Quantity("temperature", self.bands.temperature, "K"), *bands]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        bands = {"wavenumber_1/cm": self.bands.wavenumbers, "infrared_km/mol/cm-1": self.bands.infrared}
        if self.bands.raman is not None:
            bands["raman_A^4/amu/cm-1"] = self.bands.raman
        return {"lines": self.line_columns(), "bands": bands}

    def line_columns(self) -> dict[str, Array]:
        """Lines and the maxima of bands next to them."""
        at = self.harmonic.wavenumbers
        nearest = nearest_peaks(self.bands.wavenumbers, self.bands.infrared, at)
        columns = {"harmonic_1/cm": at, "infrared_km/mol": self.harmonic.infrared, "infrared_band_1/cm": nearest}
        if self.bands.raman is not None:
            columns["raman_A^4/amu"] = self.harmonic.raman
            columns["raman_band_1/cm"] = nearest_peaks(self.bands.wavenumbers, self.bands.raman, at)
        return columns

    def warnings(self) -> list[str]:
        return [f"no harmonic lines: {self.remark}"] if self.remark else []

    @property
    def panels(self) -> list[tuple[str, Floats, Floats]]:
        """Title, bands and lines of each spectrum."""
        panels = [("infrared (km/mol per cm⁻¹)", self.bands.infrared, self.harmonic.infrared)]
        if self.bands.raman is not None:
            panels.append(("Raman (Å⁴/amu per cm⁻¹)", self.bands.raman, self.harmonic.raman))
        return panels

    def draw(self, figure: Figure) -> None:
        """Bands as curves over lines as sticks."""
        rows = np.atleast_1d(figure.subplots(len(self.panels), sharex=True))
        highest = (
            self.harmonic.wavenumbers.max() if len(self.harmonic.wavenumbers) else self.bands.wavenumbers.max() / MARGIN
        )
        for axes, (title, bands, lines) in zip(rows, self.panels, strict=True):
            self._draw_panel(axes, bands, lines, MARGIN * highest)
            axes.set_ylabel(title)
        rows[-1].set(xlabel="wavenumber (cm⁻¹)", xlim=(0.0, MARGIN * highest))

    def _draw_panel(self, axes: Axes, bands: Floats, lines: Floats, end: float) -> None:
        """Sticks are as high as the curve where both are highest."""
        inside = (self.bands.wavenumbers > LOWEST) & (self.bands.wavenumbers < end)
        top = bands[inside].max()
        if len(lines) and np.nanmax(lines) > 0.0:
            heights = top * lines / np.nanmax(lines)
            axes.vlines(self.harmonic.wavenumbers, 0.0, heights, color="C1", label="harmonic lines")
        axes.plot(self.bands.wavenumbers[inside], bands[inside], color="C0", linewidth=1.2, label="dynamics")
        axes.set_ylim(0.0, 1.05 * top)
        axes.legend(loc="upper center")
