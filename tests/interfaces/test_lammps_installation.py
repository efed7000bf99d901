"""What is found, and refused, before any LAMMPS runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from ase import Atoms

from carten.errors import DataError, ModelError

pytestmark = [pytest.mark.needs("lammps"), pytest.mark.needs("cpp")]


def test_the_module_of_the_entry_point_is_light():
    text = "import sys, carten.interfaces.lammps; print([m for m in ('torch', 'numpy', 'ase') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_not_lammps(tmp_path):
    from carten.interfaces.lammps.agreement import write_data_file
    from carten.interfaces.lammps.build import build_plugin
    from carten.interfaces.lammps.installation import Installation, from_program

    with pytest.raises(ModelError, match="no program"):
        from_program("lmp-that-is-not-there")
    with pytest.raises(ModelError, match="does not describe a LAMMPS"):
        build_plugin(Installation(Path("/bin/true"), Path("/bin/true"), ()), tmp_path / "plugin.so")
    with pytest.raises(DataError, match="no atoms"):
        write_data_file(Atoms(), tmp_path / "structure.data")
    with pytest.raises(DataError, match="no cell"):
        write_data_file(Atoms("H", pbc=True), tmp_path / "structure.data")


def test_a_lammps_is_asked_for_its_description_from_within_mpiexec(monkeypatch):
    """As when the plugin is compiled by the first run in parallel: it is a process of its own, not one of mpiexec's."""
    from carten.interfaces.lammps.installation import from_wheel

    for key, value in {"PMI_FD": "99", "PMI_RANK": "0", "PMI_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    assert "Massively Parallel Simulator" in from_wheel().description
