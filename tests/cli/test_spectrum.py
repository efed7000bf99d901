"""From labels to a spectrum: carbon monoxide with a spring and charges, whose band is known."""

import csv
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms, units

from carten.report.folder import folder_page
from carten.train.config import Config
from carten.train.run import train
from carten.workflows.spectrum import INFRARED, LIGHT

LENGTH, SPRING, CHARGE = 1.13, 119.0, 0.5  # Å, eV/Å^2, e
MASS = 1 / np.sum(1 / Atoms("CO").get_masses())
WAVENUMBER = np.sqrt(SPRING / MASS) / (2 * np.pi * LIGHT)


def molecules(n):
    """Stretched and turned, with energy, forces and dipole."""
    random = np.random.default_rng(0)
    for stretch in np.linspace(-0.15, 0.15, n):
        axis = random.standard_normal(3)
        axis /= np.linalg.norm(axis)
        atoms = Atoms("CO", [np.zeros(3), (LENGTH + stretch) * axis])
        atoms.info["energy"] = 0.5 * SPRING * stretch**2
        atoms.arrays["forces"] = SPRING * stretch * np.array([axis, -axis])
        atoms.info["dipole"] = CHARGE * stretch * axis
        yield atoms


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectrum")
    ase.io.write(folder / "train.extxyz", list(molecules(40)))
    document = {
        "data": {"train": "train.extxyz", "validation": 8, "batch": {"structures": 4}},
        "model": {"cutoff": 3.0, "n_layers": 1, "n_channels": 8, "l_max_edges": 1, "correlation_order": 2},
        "properties": {"energy": {}, "forces": {"weight": 10.0}, "dipole": {"weight": 1000.0}},
        "optimizer": {"lr": 0.02},
        "training": {"epochs": 120, "validate_every": 40, "ema": 0.9},
        "output": "run",
    }
    train(Config.parse(document, folder))
    start = Atoms("CO", [[0, 0, 0], [0, 0, LENGTH]])
    start.set_momenta(np.sqrt(MASS * 2 * units.kB * 300.0) * np.array([[0, 0, 1], [0, 0, -1]]))
    ase.io.write(folder / "start.extxyz", start)
    return folder


def test_the_band_of_a_spring_with_charges(folder, run):
    md = ["--steps", 3000, "--timestep", 0.5, "--interval", 2, "-o", folder / "md.extxyz"]
    assert run("md", folder / "run" / "best.carten", folder / "start.extxyz", *md).code == 0
    output = folder / "spectrum"
    options = ["--resolution", 40, "--temperature", 300, "-o", output]
    said = run("spectrum", folder / "run" / "best.carten", folder / "md.extxyz", *options)
    assert said.code == 0, said.err
    written = json.loads((output / "spectrum.json").read_text())
    line, intensity, band = (column[0] for column in written["tables"]["lines"].values())
    assert said.out.splitlines()[2].split() == [f"{value:.1f}" for value in (line, intensity, band)]
    assert written["results"]["highest infrared band"]["value"] == pytest.approx(band)
    assert line == pytest.approx(WAVENUMBER, rel=0.02)
    assert band == pytest.approx(WAVENUMBER, rel=0.03)
    assert intensity == pytest.approx(INFRARED * CHARGE**2 / MASS, rel=0.2)
    with (output / "spectrum-bands.csv").open() as file:
        wavenumbers, absorption = np.array(list(csv.reader(file))[1:], dtype=float).T
    assert np.trapezoid(absorption, wavenumbers) == pytest.approx(intensity, rel=0.1)
    assert "wavenumber (cm⁻¹)" in (output / "spectrum.svg").read_text()
    assert 'Infrared and Raman spectra <span class="name">spectrum/spectrum</span>' in folder_page(folder)
    again = run("spectrum", folder / "run" / "best.carten", folder / "md.extxyz", *options)
    assert again.code == 1
    assert "--overwrite" in again.err
