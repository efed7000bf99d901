"""Compiled code is kept and loaded only in folders that nobody else can change, whatever else goes wrong."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from carten.errors import ModelError
from carten.ops import cache, compiler
from ops.compiling import FOREIGN, SOURCE, answer, library_of

needs_cpp = pytest.mark.needs("cpp")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


# --- keeping ----------------------------------------------------------------------------------------------------------


@needs_cpp
def test_a_source_is_compiled_once(folder):
    made = []

    def source():
        made.append(1)
        return SOURCE

    for _ in range(3):
        assert compiler.load_library("key", source).answer() == 42
    assert len(made) == 1
    assert len(list(folder.iterdir())) == 1
    compiler.load_library("another key", source)
    assert len(made) == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_cpp
def test_many_libraries_are_told_apart(folder):
    """Descriptors of the files are used again and again; the loader must not take one library for another."""
    for n in range(20):
        assert answer(f'extern "C" int answer() {{ return {n}; }}', f"key {n}") == n
    assert answer(FOREIGN, "key 7") == 7


@needs_cpp
@pytest.mark.parametrize("damage", [b"", b"not a library", None])
def test_a_damaged_entry_is_made_again(folder, damage):
    answer()
    (entry,) = folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert answer() == 42
    (again,) = folder.iterdir()
    assert again.read_bytes() == whole


@needs_cpp
def test_a_library_of_another_machine_is_no_obstacle(folder):
    """Kept whole, but the loader refuses it."""
    cache.keep(compiler._entry_name("key", compiler.ATTEMPTS), ".so", b"\x7fELF of another machine")
    assert answer() == 42


@needs_cpp
def test_a_source_that_does_not_compile_says_why(folder, fresh):
    with pytest.raises(ModelError, match="could not compile") as error:
        answer("this is no C++;")
    assert "error" in str(error.value)
    assert not folder.exists() or not list(folder.iterdir())


@needs_cpp
def test_many_processes_at_once(folder):
    program = f"from carten.ops import compiler\nprint(compiler.load_library('key', lambda: {SOURCE!r}).answer())\n"
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in running] == ["42"] * 4
    assert {path.suffix for path in folder.iterdir()} == {".so"}


def test_old_entries_go_first(folder, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 2500)
    for n in range(4):
        cache.keep(f"name{n}", ".so", bytes(1000))
        for entry in folder.glob(f"name{n}-*"):
            os.utime(entry, (time.time() - 1000 + n,) * 2)
    assert {entry.name[:5] for entry in folder.iterdir()} == {"name2", "name3"}


def test_entries_that_nobody_uses_go(folder):
    cache.keep("old", ".so", b"old")
    cache.keep("used", ".so", b"used")
    for entry in folder.iterdir():
        os.utime(entry, (time.time() - 61 * cache.DAY,) * 2)
    assert list(cache.read_kept("used", ".so")) == [b"used"]
    cache.keep("new", ".so", b"new")
    assert {entry.name.split("-")[0] for entry in folder.iterdir()} == {"used", "new"}


def test_the_folder_follows_the_platform(folder):
    assert cache.cache_folder() == folder


# --- folders and entries of others ------------------------------------------------------------------------------------


def plant(folder, source=FOREIGN, key="key"):
    """An entry as its owner would have written it, whose code gives another answer."""
    folder.mkdir(parents=True, exist_ok=True)
    content = library_of(source)
    entry = folder / f"{compiler._entry_name(key, compiler.ATTEMPTS)}-{cache._digest(content)}.so"
    entry.write_bytes(content)
    entry.chmod(0o600)
    return entry


@needs_cpp
def test_a_planted_entry_would_be_loaded_from_a_safe_folder(folder):
    """The tests below can fail."""
    plant(folder)
    folder.chmod(0o700)
    assert answer() == 13


def assert_refused(folder):
    """Right answer, one warning, and nothing was written."""
    before = sorted(folder.iterdir())
    with pytest.warns(UserWarning, match="compiled code can't be kept in") as warned:
        assert [answer(), answer(SOURCE, "another key")] == [42, 42]
    assert len(warned) == 1
    assert sorted(folder.iterdir()) == before


@needs_cpp
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_not_used(folder, mode):
    plant(folder)
    folder.chmod(mode)
    assert_refused(folder)


@needs_cpp
def test_a_folder_that_everybody_can_exchange_is_not_used(folder):
    plant(folder)
    folder.chmod(0o700)
    folder.parent.chmod(0o777)
    assert_refused(folder)
    folder.parent.chmod(0o1777)
    assert answer() == 13


@needs_cpp
@needs_root
def test_a_folder_of_another_user_is_not_used(folder):
    plant(folder)
    folder.chmod(0o755)
    os.chown(folder, 65534, 65534)
    assert_refused(folder)


@needs_cpp
def test_a_link_to_a_folder_is_not_followed(folder, tmp_path):
    plant(tmp_path / "elsewhere").parent.chmod(0o700)
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert_refused(folder)


@needs_cpp
def test_a_linked_entry_is_not_followed(folder, tmp_path):
    entry = plant(folder)
    folder.chmod(0o700)
    entry.rename(tmp_path / "elsewhere.so")
    entry.symlink_to(tmp_path / "elsewhere.so")
    assert answer() == 42
    assert not any(path.is_symlink() for path in folder.iterdir())


@needs_cpp
@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_an_entry_that_others_can_write_is_not_loaded(folder, mode):
    entry = plant(folder)
    folder.chmod(0o700)
    entry.chmod(mode)
    assert answer() == 42


@needs_cpp
@needs_root
def test_an_entry_of_another_user_is_not_loaded(folder):
    entry = plant(folder)
    folder.chmod(0o700)
    os.chown(entry, 65534, 65534)
    assert answer() == 42


@needs_cpp
def test_a_pipe_in_place_of_an_entry(folder):
    entry = plant(folder)
    folder.chmod(0o700)
    entry.unlink()
    os.mkfifo(entry, 0o600)
    assert answer() == 42


@needs_cpp
def test_what_was_checked_is_what_is_loaded(folder, monkeypatch):
    """The entry is exchanged between check and loading."""
    answer()
    content = library_of(FOREIGN)
    loaded = compiler.load_bytes

    def exchange(library):
        for entry in folder.iterdir():
            entry.unlink()
            entry.write_bytes(content)
        return loaded(library)

    monkeypatch.setattr(compiler, "load_bytes", exchange)
    assert answer(FOREIGN) == 42


@needs_cpp
@needs_root
def test_another_user_with_the_system_s_temporary_folder(folder, tmp_path):
    """With a cache that can't be used, a stranger fills the shared temporary folder."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    folder.parent.mkdir()
    folder.write_text("a file in place of the folder")
    content = library_of(FOREIGN)
    name = f"{compiler._entry_name('key', compiler.ATTEMPTS)}-{cache._digest(content)}.so"
    for planted in (shared / "carten-0", shared / "carten", shared / f"carten-{os.getuid()}"):
        planted.mkdir(exist_ok=True)
        (planted / name).write_bytes(content)
        os.chown(planted / name, 65534, 65534)
        os.chown(planted, 65534, 65534)
    program = f"from carten.ops import compiler\nprint(compiler.load_library('key', lambda: {SOURCE!r}).answer())\n"
    environment = {**os.environ, "TMPDIR": str(shared)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "42"
    assert "compiled code can't be kept" in done.stderr
    assert {path.name for path in shared.iterdir()} == {"carten-0", "carten"}


VICTIM = """
import os, sys
from carten.ops import compiler
for n in range(12):
    print(compiler.load_library(f"key {n}", lambda: 'extern "C" int answer() { return 42; }').answer())
"""

ATTACKER = """
import os, shutil, sys
os.setgid(65534); os.setuid(65534)
folder, content = sys.argv[1], open(sys.argv[2], "rb").read()
while True:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                os.rename(path, path + "-away")
                os.mkdir(path, 0o777)
                for file in ("compiled", "library.so", "source.cpp"):
                    with open(os.path.join(path, file), "wb") as f:
                        f.write(content)
        except OSError:
            pass
"""


@needs_cpp
@needs_root
def test_a_race_in_a_temporary_folder_without_a_sticky_bit(folder, tmp_path):
    """A stranger exchanges every folder that appears; compiling may fail, but his code never runs."""
    shared = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        shared.chmod(0o777)
        (tmp_path / "foreign.so").write_bytes(library_of(FOREIGN))
        shutil.copy(tmp_path / "foreign.so", shared.with_suffix(".so"))
        shared.with_suffix(".so").chmod(0o644)
        attack = subprocess.Popen([sys.executable, "-c", ATTACKER, str(shared), str(shared.with_suffix(".so"))])
        environment = {**os.environ, "TMPDIR": str(shared), "XDG_CACHE_HOME": "/nonexistent", "HOME": "/nonexistent"}
        done = subprocess.run([sys.executable, "-c", VICTIM], capture_output=True, text=True, env=environment)
        assert attack.poll() is None
        attack.kill()
        attack.wait()
        assert "13" not in done.stdout.split()
        assert done.returncode == 0 or "ModelError" in done.stderr
        assert done.stdout.split() or "ModelError" in done.stderr
    finally:
        shutil.rmtree(shared, ignore_errors=True)
        shared.with_suffix(".so").unlink(missing_ok=True)


# --- folders that fail ------------------------------------------------------------------------------------------------


@needs_cpp
def test_a_home_that_cannot_be_made(folder, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="can't be kept") as warned:
        assert [answer(), answer()] == [42, 42]
    assert len(warned) == 1


@needs_cpp
def test_a_folder_deleted_while_in_use(folder):
    assert answer() == 42
    shutil.rmtree(folder.parent)
    assert answer() == 42
    assert list(folder.iterdir())


@needs_cpp
def test_a_full_disk(folder):
    """Entries can't be written, while compiling elsewhere still works."""
    program = (
        "import resource, signal, sys\nfrom carten.ops import cache, compiler\n"
        "made = compiler._compiled(sys.argv[1], ('-shared',), compiler.ATTEMPTS, 60)\n"
        "compiler._compiled = lambda *_: made\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "compiler.load_bytes(made)\nloaded = compiler.load_bytes(made)\ncompiler.load_bytes = lambda _: loaded\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "print(compiler.load_library('key', lambda: sys.argv[1]).answer())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, SOURCE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "42"
    assert "can't be kept" in done.stderr
    assert "File too large" in done.stderr
    assert not list(folder.iterdir())


@needs_cpp
def test_a_folder_from_which_nothing_can_be_run(folder, monkeypatch):
    """Where memory can't be run either, a private folder serves."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert [answer(), answer()] == [42, 42]
    assert [answer(FOREIGN, "another"), answer()] == [13, 42]


@needs_cpp
@needs_root
def test_a_cache_that_may_not_run_programs(folder):
    """Mounted `noexec`."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    program = f"from carten.ops import compiler\nprint(compiler.load_library('key', lambda: {SOURCE!r}).answer())\n"
    folder.mkdir(parents=True, mode=0o700)
    script = f'mount -t tmpfs -o noexec,mode=700 none {folder} || exit 77; exec {sys.executable} -W error -c "$0"'
    for _ in range(2):
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, program], capture_output=True, text=True)
        if done.returncode == 77:
            pytest.skip("nothing can be mounted here")
        assert done.stdout.strip() == "42", done.stderr
