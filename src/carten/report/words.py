"""What jobs are called on pages, and what their pictures show."""

from __future__ import annotations

from typing import NamedTuple


class JobWords(NamedTuple):
    """Words for people."""

    title: str
    caption: str


_WORDS = {
    "adsorb": ("Adsorption", "adsorption energies by site"),
    "angles": ("Bond angles", "distribution of the angles between bonds"),
    "averages": ("Averages", "temperature, energy, density and volume over time"),
    "benchmark": ("Physical checks", "energies of two atoms over their distance"),
    "conductivity": (
        "Thermal conductivity",
        "spectrum of the heat flux and its smooth part; at zero frequency it is the conductivity",
    ),
    "defects": ("Point defects", "formation energies of defects"),
    "dielectric": ("Dielectric constant", "infrared absorption"),
    "diffusion": ("Diffusion", "mean square displacements over time"),
    "elastic": ("Elastic constants", "Young's modulus over the direction"),
    "eos": ("Equation of state", "energy over volume, with fitted equations of state"),
    "learn": ("Active learning", "errors of forces over the number of labelled structures"),
    "magnetic": ("Magnetic structure", "exchange constants over the distance of neighbours"),
    "md": ("Dynamics", "temperature, and changes of the energy, over time"),
    "neb": ("Minimum energy path", "energy along the path"),
    "phonons": ("Phonons", "phonon bands and density of states"),
    "qha": ("Thermal expansion", "thermal expansion over the temperature"),
    "rdf": ("Radial distribution", "distribution of distances between atoms"),
    "screen": ("Screening", "formation energies, or distances to the convex hull"),
    "spectrum": ("Infrared and Raman spectra", "bands from dynamics over harmonic lines"),
    "spins": ("Spin dynamics", "change of the energy, and magnetic order, over time"),
    "states": ("Vibrational density of states", "from velocities, by element"),
    "surface": ("Surfaces", "surface energies, and the shape in equilibrium"),
    "ts": ("Saddle point", "energy and largest force over the steps of the search"),
    "vibrations": ("Vibrations", "harmonic lines, broadened"),
    "viscosity": ("Viscosity", "spectrum of the stress and its smooth part; at zero frequency it is the viscosity"),
}


def job_words(job: str) -> JobWords:
    """Words for a job; its own name for one that is not known here."""
    title, caption = _WORDS.get(job, (job.capitalize(), ""))
    return JobWords(title, caption)
