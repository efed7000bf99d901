"""Files from strangers: which formats are read, what never happens while reading, and no frame lost in silence."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import sqlite3
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import ase.db
import ase.io
import lmdb
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import ioformats
from typer.testing import CliRunner

from carten.cli import app
from carten.data import formats
from carten.data.pages import Pages
from carten.data.read import read_structures
from carten.errors import DataError

COMPRESSORS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def crystals(n_frames=20):
    frames = []
    for number in range(n_frames):
        atoms = bulk("Cu", cubic=True)
        atoms.positions[0, 0] += 0.01 * number
        atoms.calc = SinglePointCalculator(atoms, energy=-float(number), forces=np.full((4, 3), 0.1))
        frames.append(atoms)
    return frames


@pytest.fixture
def text(tmp_path):
    ase.io.write(tmp_path / "source.extxyz", crystals())
    return (tmp_path / "source.extxyz").read_bytes()


def refused(path, *words, **options):
    with pytest.raises(DataError) as error:
        read_structures(path, **options)
    for word in (path.name, *words):
        assert word in str(error.value), f"{word!r} not in {error.value}"


# --- nothing runs ---


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A folder of programs, each of which leaves a mark when it is started."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("castep", "castep.serial", "castep.mpi", "gpaw", "vasp", "orca", "sh_marker"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CASTEP_COMMAND", "castep")
    return tmp_path / "started"


class Marker:
    """Leaves a mark when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_program_is_started(tmp_path, trap):
    (tmp_path / "a.cell").write_text(
        "%BLOCK LATTICE_CART\n3 0 0\n0 3 0\n0 0 3\n%ENDBLOCK LATTICE_CART\n"
        "%BLOCK POSITIONS_FRAC\nCu 0 0 0\n%ENDBLOCK POSITIONS_FRAC\n"
    )
    refused(tmp_path / "a.cell", "not in a format read by default", "castep-cell", "--format")
    assert not trap.exists()


def test_no_pickle_is_read(tmp_path):
    mark = tmp_path / "mark"
    data = pickle.dumps({1: Marker(mark)})
    old_trajectory = b"PickleTrajectory" + data
    for name in (
        "a.traj",
        "a.pckl",
        "a.bundle",
        "a.npy",
        "a.gpw",
        "a.pkl",
        "a.json",
        "a.db",
        "a.aselmdb",
        "a.xyz",
        "a",
    ):
        for content in (data, old_trajectory):
            (tmp_path / name).write_bytes(content)
            refused(tmp_path / name)
    with (
        lmdb.open(str(tmp_path / "b.lmdb"), subdir=False, map_size=2**20) as environment,
        environment.begin(write=True) as t,
    ):
        t.put(b"1", data)
    refused(tmp_path / "b.lmdb", "pickles")
    assert not mark.exists()


def test_safe_formats_neither_start_programs_nor_unpickle():
    """In the source of every reader that is used unasked; those known to do either are not among them."""
    words = ("subprocess", "os.system", "popen", "import pickle", "pickleload", "exec(", "urlopen", "ctypes")
    found = {}
    for name in formats.SAFE - {formats.EXTXYZ, formats.SQLITE, formats.JSON, formats.LMDB}:
        source = Path(ioformats[name].module.__file__).read_text()
        found[name] = [word for word in words if word in source]
    assert {name: occurring for name, occurring in found.items() if occurring} == {}
    others = {"castep-cell", "gpw", "bundletrajectory", "gamess-us-out", "abinit-gsr", "postgresql", "mysql"}
    assert not others & formats.SAFE


def test_files_of_safe_formats_are_read_without_side_effects(tmp_path):
    """Every format that ASE can write too: no program, no pickle."""
    crystal = bulk("Cu", cubic=True)
    written = []
    for suffix, format in {
        "poscar": "vasp", "cif": "cif", "pdb": "proteindatabank", "gro": "gromacs", "xsf": "xsf", "cube": "cube",
        "gen": "gen", "pwi": "espresso-in", "res": "res", "traj": "traj", "xyz": "extxyz", "json": "json", "db": "db",
    }.items():  # fmt: skip
        options = {"pseudopotentials": {"Cu": "x"}} if format == "espresso-in" else {}
        ase.io.write(tmp_path / f"a.{suffix}", crystal, format=format, **options)
        written.append(f"a.{suffix}")
    program = f"""
import sys
from carten.data.read import read_structures
STARTS = ('subprocess.Popen', 'os.system', 'os.exec', 'os.fork', 'os.posix_spawn', 'pickle.find_class')
for name in {written!r}:
    read_structures(name)  # imports what the reader needs
sys.addaudithook(lambda event, arguments: print(event, arguments, flush=True) if event in STARTS else None)
for name in {written!r}:
    assert len(read_structures(name)[0][1]) == 4, name
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, ""), run.stdout + run.stderr[-2000:]


@pytest.mark.parametrize(
    "name", ["-", "postgres.xyz", "mysql.xyz", "a@0.xyz", "a@:5", "[ab]*.xyz", "a?.xyz", "pg:x.xyz"]
)
def test_names_are_only_names(tmp_path, text, monkeypatch, name):
    """ASE reads standard input for ``-``, connects to servers, and takes what follows an @ for an index."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(text)
    assert len(read_structures(name)) == 20
    assert len(read_structures(Path(name))) == 20


def test_other_formats_need_to_be_named(tmp_path):
    atoms = bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "a.in", atoms, format="aims")
    refused(tmp_path / "a.in", "may be aims")
    assert len(read_structures(tmp_path / "a.in", format="aims")[0][1]) == 4
    refused(tmp_path / "a.in", "'aimz' is not known", "did you mean aims", format="aimz")
    refused(tmp_path / "a.in", format="extxyz")
    ase.io.write(tmp_path / "b.dat", atoms, format="extxyz")
    assert len(read_structures(tmp_path / "b.dat", format="extxyz")) == 1
    assert len(read_structures(tmp_path / "b.dat", format="xyz")) == 1


def test_directories_and_devices_are_no_files(tmp_path):
    (tmp_path / "a.bundle").mkdir()
    refused(tmp_path / "a.bundle", "without .aselmdb files")
    os.mkfifo(tmp_path / "pipe.xyz")
    refused(tmp_path / "pipe.xyz", "neither a file nor")
    for name in ("a\0.xyz", "x" * 5000):
        with pytest.raises(DataError, match=r"cannot be opened|no such file"):
            read_structures(name)


# --- no frame is lost ---


@pytest.mark.parametrize(
    "name", ["b.xyz", "b.XYZ", "b.Xyz", "b", "b.extxyz.1", "b.dat", "b.EXTXYZ", "xyz.in", "inp", "geometry"]
)
@pytest.mark.parametrize("compression", [None, "gz", "bz2", "xz"])
def test_a_blank_line_is_never_the_end(tmp_path, text, name, compression):
    """Whatever the name, compressed or not, whatever the suffix says: all frames, or an error."""
    lines = text.splitlines(keepends=True)
    compress = COMPRESSORS.get(compression, bytes)
    for suffix in {"", f".{compression or ''}", f".{(compression or '').upper()}"}:
        path = tmp_path / f"{name}{suffix.rstrip('.')}"
        path.write_bytes(compress(text))
        assert len(read_structures(path)) == 20
        for blanks in (b"\n", b" \n", b"\n" * 9000):
            path.write_bytes(compress(b"".join([*lines[:60], blanks, *lines[60:]])))
            refused(path, "line 61 is blank but more follows")
            path.write_bytes(compress(b"".join([*lines, blanks])))
            assert len(read_structures(path)) == 20
        path.write_bytes(compress(b"".join([*lines[:63], b"\n", *lines[63:]])))
        refused(path, "frame 10 (line 61)", "announces 4 atoms, found 1")


@pytest.mark.parametrize("compression", list(COMPRESSORS))
@pytest.mark.parametrize("name", ["c.xyz", "c", "c.traj"])
def test_compressed_files_that_are_cut_or_damaged(tmp_path, text, compression, name):
    whole = COMPRESSORS[compression](text)
    path = tmp_path / f"{name}.{compression}"
    for length in (9, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path)
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            read_structures(path)
        except DataError:
            continue
        assert name != "c.traj"


@pytest.mark.parametrize(
    "atoms",
    [
        "Si 0.0 0.0 0.0\nSi 2.0 0.0 0.0\nH 0.0 2.0 0.0",
        "Si 0.0 0.0 0.0\nSi 2.0 0.0 0.0\nH 0 2 0",
        "Si 0 0 10\nSi 2 0 10\nH 0 2 5",
        "Si 0.5 0.25 1.125\nSi 2.5 0.25 1.125\nH 0.0 2.0 0.0",
    ],
)
def test_a_whole_file_needs_no_newline_at_its_end(tmp_path, atoms):
    for end in ("", "\n", "\r\n", "  "):
        (tmp_path / "n.xyz").write_text(f"3\nProperties=species:S:1:pos:R:3 energy=-1.5\n{atoms}{end}", newline="")
        if "1.125" in atoms and end in ("", "  "):
            continue  # may have been 0.000
        assert len(read_structures(tmp_path / "n.xyz")[0][1]) == 3


@pytest.mark.parametrize(
    "last", ["H  0.00000000  2.0000", "H  0.00000000  2.00000000", "H  0.00000000  2.00000000  0.0000", "H"]
)
def test_a_file_that_is_cut_within_its_last_line(tmp_path, last):
    first = "Si  0.00000000  0.00000000  0.00000000\n"
    (tmp_path / "n.xyz").write_text(f"2\n\n{first}{last}")
    refused(tmp_path / "n.xyz")


def test_more_atoms_than_memory_holds(tmp_path):
    for count in ("100000000", "999999999999", "99999999999999999999999", "1" * 5000, "²", "١٢"):
        (tmp_path / "n.xyz").write_text(f"{count}\n\nH 0 0 0\n", encoding="utf-8")
        refused(tmp_path / "n.xyz", "frame 0")
    (tmp_path / "n.xyz").write_text("1\nProperties=species:S:1:pos:R:3:x:R:1000000000\nH 0 0 0\n")
    refused(tmp_path / "n.xyz", "declare 1000000004")


# --- keys of the comment line ---

ATOMS = "\nCu 0 0 0 1 2 3\nCu 1.8 1.8 0 1 2 3\n"
CELL = '="3.6 0 0 0.5 3.7 0 0 0 3.8"'
CELL_ROWS = [[3.6, 0, 0], [0.5, 3.7, 0], [0, 0, 3.8]]
COLUMNS = "=species:S:1:pos:R:3:forces:R:3"


@pytest.mark.parametrize(
    ("lattice", "columns", "pbc"),
    [
        ("Lattice", "Properties", ""), ("lattice", "Properties", ""), ("LATTICE", "PROPERTIES", ""),
        ("lattice", "properties", 'PBC="T F T"'), ("Lattice", "Properties", 'Pbc="t f t"'),
        ("Lattice", "Properties", 'pbc="true false TRUE"'), ("Lattice", "Properties", 'pbc="1 0 1"'),
    ],
)  # fmt: skip
def test_keys_of_the_structure_in_any_case(tmp_path, lattice, columns, pbc):
    (tmp_path / "l.xyz").write_text(f"2\n{lattice}{CELL} {columns}{COLUMNS} {pbc} energy=-7.4{ATOMS}")
    atoms = read_structures(tmp_path / "l.xyz")[0][1]
    assert np.array_equal(atoms.cell, CELL_ROWS)
    assert atoms.pbc.tolist() == ([True, False, True] if pbc else [True, True, True])
    assert np.array_equal(atoms.get_forces(), [[1, 2, 3]] * 2)


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        (f"Latice{CELL} Properties{COLUMNS}", ["Latice", 'write Lattice="']),
        (f"cell{CELL} Properties{COLUMNS}", ["'cell'", 'write Lattice="']),
        (f"unit_cell{CELL} Properties{COLUMNS}", ["'unit_cell'", 'write Lattice="']),
        (f'lattice="3.6 0 0 0 3.6 0 0 0 x" Properties{COLUMNS}', ["nine numbers"]),
        (f'lattice="3.6 3.6 3.6" Properties{COLUMNS}', ["nine numbers"]),
        (f"Lattice{CELL} lattice{CELL} Properties{COLUMNS}", ["remove one"]),
        (f"Lattice{CELL} Propertys{COLUMNS}", ["Propertys", "write Properties="]),
        (f"Lattice{CELL} columns{COLUMNS}", ["columns", "write Properties="]),
        (f'Lattice{CELL} pbc="F F X" Properties{COLUMNS}', ["three of T and F"]),
        (f'Lattice{CELL} pbc="none" Properties{COLUMNS}', ["three of T and F"]),
        (f'Lattice{CELL} pbc="T F" Properties{COLUMNS}', ["three of T and F"]),
        (f'Lattice{CELL} periodic="T T F" Properties{COLUMNS}', ["'periodic'", "write pbc="]),
        (f"Lattice{CELL} Properties=species:S:1:Pos:R:3:forces:R:3", ['"pos"']),
        (f"Lattice{CELL} Properties=element:S:1:pos:R:3:forces:R:3", ['"species"']),
        (f"Lattice{CELL} Properties=species:S:1:pos:R:3", ["7 columns", "declare 4"]),
        (f"Lattice{CELL} Properties=species:S:1:pos:R:3:forces:R:4", ["7 columns", "declare 8"]),
        (f"Lattice{CELL} Properties=species:S:1:pos:Q:3:forces:R:3", ["types R, I, S and L"]),
        (f"Lattice{CELL} Properties{COLUMNS} energy=1 energy=2", ["'energy' more than once"]),
        (f'Lattice{CELL} Properties{COLUMNS} a="_JSON {"[" * 9000}"', ["frame 0"]),
    ],
)
def test_keys_that_would_change_the_structure_unseen(tmp_path, comment, words):
    (tmp_path / "l.xyz").write_text(f"2\n{comment}{ATOMS}")
    refused(tmp_path / "l.xyz", "frame 0", *words)


def test_keys_that_only_look_like_those_of_the_structure(tmp_path):
    comment = f'lattice=fcc supercell="2 2 2" lattice_constant=3.6 name="a=b a=c" pbc="F F F" Properties{COLUMNS}'
    (tmp_path / "l.xyz").write_text(f"2\n{comment}{ATOMS}")
    atoms = read_structures(tmp_path / "l.xyz")[0][1]
    assert (atoms.info["lattice"], atoms.info["name"]) == ("fcc", "a=b a=c")


def test_what_other_systems_write(tmp_path):
    """Byte order marks, other line ends, columns beyond those of plain XYZ, cells as lines."""
    for content in (
        "\ufeff2\n\nH 0 0 0\nH 0 0 1\n", "2\r\n\r\nH 0 0 0\r\nH 0 0 1\r\n", "2\n\nH 0 0 0 9 9\nH 0 0 1 9 9\n",
        "2\n\nH 0 0 0\nH 0 0 1\nVEC1 5 0 0\n",
    ):  # fmt: skip
        (tmp_path / "w.xyz").write_text(content, encoding="utf-8", newline="")
        atoms = read_structures(tmp_path / "w.xyz")[0][1]
        assert np.array_equal(atoms.positions, [[0, 0, 0], [0, 0, 1]])
        assert atoms.pbc[0] == ("VEC" in content)
    (tmp_path / "w.xyz").write_bytes("1\nnote=\xc5\nH 0 0 0\n".encode("latin-1"))
    refused(tmp_path / "w.xyz", "no text")


# --- databases ---


def entries(path):
    pages = Pages(path)
    return [(place.key, pages.read(place.start, place.size)) for place in pages.places()]


def write_database(path, frames):
    with ase.db.connect(path, use_lock_file=False) as database:
        for atoms in frames:
            database.write(atoms, temperature=300.0, data={"dipole": np.array([1.0, 2.0, 3.0])})


@pytest.mark.parametrize("suffix", ["db", "json", "aselmdb"])
def test_reading_leaves_a_database_as_it_is(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_database(path, crystals(3))
    before = (path.read_bytes(), sorted(entry.name for entry in tmp_path.iterdir()))
    path.chmod(0o444)
    structures = read_structures(path)
    assert [atoms.info["temperature"] for _, atoms in structures] == [300.0] * 3
    assert (path.read_bytes(), sorted(entry.name for entry in tmp_path.iterdir())) == before


def test_a_foreign_sqlite_file_gets_no_tables(tmp_path):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    refused(path, "no table of structures")
    assert path.read_bytes() == before


def test_views_of_a_database_are_not_computed(tmp_path):
    """One that never ends, in place of the table of structures."""
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE VIEW systems AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n"
        )
    refused(path, "view")


@pytest.mark.parametrize("suffix", ["json", "aselmdb", "traj"])
def test_arrays_larger_than_their_file(tmp_path, suffix):
    """ASE's JSON fills an array of any announced size with one number."""
    path = tmp_path / f"a.{suffix}"
    huge = {"__ndarray__": [[10**11], "float64", [0.0]]}
    row = {"numbers": [1], "positions": [[0, 0, 0]], "data": {"x": huge}}
    if suffix == "json":
        path.write_text(json.dumps({"1": row, "ids": [1], "nextid": 2}))
    elif suffix == "traj":
        ase.io.write(path, Atoms("H", info={"x": np.zeros(10**5)}))
        content = path.read_bytes()
        assert content.count(b"[100000]") == 1
        path.write_bytes(content.replace(b"[100000]", b"[999999]"))
    else:
        with lmdb.open(str(path), subdir=False, map_size=2**20) as environment, environment.begin(write=True) as t:
            t.put(b"1", zlib.compress(json.dumps(row).encode()))
            t.put(b"nextid", zlib.compress(b"2"))
    refused(path, "array of 999999 numbers" if suffix == "traj" else "array of 100000000000 numbers")


def test_pages_hold_what_the_lmdb_library_reads(tmp_path):
    """Small and large values, several levels of pages, entries removed and replaced."""
    path = tmp_path / "a.lmdb"
    rng = np.random.default_rng(0)
    environment = lmdb.open(str(path), subdir=False, map_size=2**27)
    for _ in range(5):
        with environment.begin(write=True) as t:
            for _ in range(400):
                t.put(
                    str(rng.integers(3000)).encode(), rng.bytes(int(rng.choice([0, 1, 40, 2000, 2040, 9000, 200000])))
                )
            for _ in range(150):
                t.delete(str(rng.integers(3000)).encode())
    with environment.begin() as t:
        expected = [(bytes(key), bytes(value)) for key, value in t.cursor()]
    environment.close()
    assert len(expected) > 800
    assert entries(path) == expected


def test_an_empty_lmdb_file_has_no_structures(tmp_path):
    lmdb.open(str(tmp_path / "a.aselmdb"), subdir=False, map_size=2**20).close()
    refused(tmp_path / "a.aselmdb", "no structure in it")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_lmdb_files_never_kill_the_process(tmp_path, seed):
    """Every 200 mutations of bytes that are read, above all page numbers and offsets."""
    path = tmp_path / "a.aselmdb"
    write_database(path, crystals(6))
    whole = path.read_bytes()
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))
    outcomes = {"read": 0, "refused": 0}
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.choice(used, size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(whole))] if rng.random() < 0.1 else damaged)
        try:
            read_structures(path)
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 100


def test_large_entries_of_lmdb_files_point_into_the_file(tmp_path):
    """The number of the pages of a large value, changed to every power of two."""
    path = tmp_path / "a.lmdb"
    with lmdb.open(str(path), subdir=False, map_size=2**22) as environment, environment.begin(write=True) as t:
        t.put(b"1", b"x" * 20_000)
    whole = path.read_bytes()
    place = whole.rindex(b"1" + struct.pack("<Q", whole.index(b"x" * 4000) // 4096)) + 1
    assert entries(path) == [(b"1", b"x" * 20_000)]
    for power in range(64):
        path.write_bytes(whole[:place] + struct.pack("<Q", 2**power) + whole[place + 8 :])
        with suppress(DataError):
            assert entries(path) == [(b"1", b"x" * 20_000)]


def test_rows_that_a_database_announces_are_there(tmp_path):
    path = tmp_path / "a.aselmdb"
    write_database(path, [molecule("H2O")] * 3)
    with lmdb.open(str(path), subdir=False, map_size=2**24) as environment, environment.begin(write=True) as t:
        t.delete(b"2")
    refused(path, "announces 3 structures, found 2")


def test_the_command_line_reads_a_named_format(tmp_path):
    path = tmp_path / "a.dat"
    ase.io.write(path, crystals(4), format="extxyz")
    path.write_bytes(b"# comment\n" + path.read_bytes())
    refused(path, "not in a format read by default")
    ase.io.write(path, crystals(1)[0], format="aims")
    run = CliRunner().invoke(app, ["check", str(path), "--format", "aims"])
    assert (run.exit_code, "of 4 atoms" in run.stdout) == (0, True)
    assert CliRunner().invoke(app, ["check", str(path)]).exit_code == 1
