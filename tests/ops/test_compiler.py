"""Compiling and keeping what was compiled: only from folders that nobody else can change, whatever else goes wrong."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch

from carten.errors import ModelError
from carten.ops import cache, codegen, compiler, cpp, fingerprint, library
from ops.plans import random_indices, random_operands, random_plan

SOURCE = 'extern "C" int answer() { return 42; }\n'
FOREIGN = 'extern "C" int answer() { return 13; }\n'

needs_cpp = pytest.mark.needs("cpp")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of compiled code, not made yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    cache._warn_once.cache_clear()
    yield tmp_path / "cache" / "carten"
    cache._warn_once.cache_clear()


@pytest.fixture
def fresh():
    """The compiler is looked for anew, before and after."""

    def forget():
        for function in (compiler.compiler, compiler._try_out, cpp._kernel, cpp._sums, library._warn_once):
            function.cache_clear()

    forget()
    yield
    forget()


def answer(source=SOURCE, key="key"):
    return compiler.load(key, lambda: source).answer()


def library_of(source):
    return compiler._compiled(source, ("-shared",), compiler.ATTEMPTS, 60)


# --- keeping ----------------------------------------------------------------------------------------------------------


@needs_cpp
def test_a_source_is_compiled_once(folder):
    made = []

    def source():
        made.append(1)
        return SOURCE

    for _ in range(3):
        assert compiler.load("key", source).answer() == 42
    assert len(made) == 1
    assert len(list(folder.iterdir())) == 1
    compiler.load("another key", source)
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
    program = f"from carten.ops import compiler\nprint(compiler.load('key', lambda: {SOURCE!r}).answer())\n"
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
    assert list(cache.read("used", ".so")) == [b"used"]
    cache.keep("new", ".so", b"new")
    assert {entry.name.split("-")[0] for entry in folder.iterdir()} == {"used", "new"}


def test_the_folder_follows_the_platform(folder):
    assert cache.cache_folder() == folder


# --- what the code depends on -----------------------------------------------------------------------------------------


def test_the_name_depends_on_every_file_that_the_source_does():
    """Whatever runs in carten while a source is generated is part of the fingerprint; so are the headers."""
    ran = set()

    def note(frame, event, argument):
        if event == "call":
            ran.add(frame.f_code.co_filename)

    plan = random_plan(3)
    sys.setprofile(note)
    try:
        codegen.source(plan, "double", 4, "")
    finally:
        sys.setprofile(None)
    files = {Path(file) for file in ran if file.startswith(str(fingerprint.PACKAGE))}
    known = set(fingerprint.source_files(codegen.__file__))
    assert Path(codegen.__file__) in files
    assert files <= known
    assert {path.name for path in known} >= {"cost.py", "plan.py", "prelude.h"}


def test_a_changed_constant_changes_the_name(tmp_path, monkeypatch):
    copy = tmp_path / "carten"
    shutil.copytree(fingerprint.PACKAGE, copy, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", copy)
    generator = str(copy / "ops" / "codegen.py")
    before = fingerprint.fingerprint.__wrapped__(generator)
    for name in ("cost.py", "prelude.h", "plan.py"):
        (copy / "ops" / name).write_text((copy / "ops" / name).read_text() + "\n")
        after = fingerprint.fingerprint.__wrapped__(generator)
        assert after != before, name
        before = after
    (copy / "ops" / "triton.py").write_text("")
    assert fingerprint.fingerprint.__wrapped__(generator) == before


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
    loaded = compiler._loaded

    def exchange(library):
        for entry in folder.iterdir():
            entry.unlink()
            entry.write_bytes(content)
        return loaded(library)

    monkeypatch.setattr(compiler, "_loaded", exchange)
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
    program = f"from carten.ops import compiler\nprint(compiler.load('key', lambda: {SOURCE!r}).answer())\n"
    environment = {**os.environ, "TMPDIR": str(shared)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "42"
    assert "compiled code can't be kept" in done.stderr
    assert {path.name for path in shared.iterdir()} == {"carten-0", "carten"}


VICTIM = """
import os, sys
from carten.ops import compiler
for n in range(12):
    print(compiler.load(f"key {n}", lambda: 'extern "C" int answer() { return 42; }').answer())
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
        "compiler._loaded(made)\nloaded = compiler._loaded(made)\ncompiler._loaded = lambda _: loaded\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "print(compiler.load('key', lambda: sys.argv[1]).answer())\n"
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
    program = f"from carten.ops import compiler\nprint(compiler.load('key', lambda: {SOURCE!r}).answer())\n"
    folder.mkdir(parents=True, mode=0o700)
    script = f'mount -t tmpfs -o noexec,mode=700 none {folder} || exit 77; exec {sys.executable} -W error -c "$0"'
    for _ in range(2):
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, program], capture_output=True, text=True)
        if done.returncode == 77:
            pytest.skip("nothing can be mounted here")
        assert done.stdout.strip() == "42", done.stderr


# --- compilers that fail ----------------------------------------------------------------------------------------------


def calls(monkeypatch, tmp_path, script):
    """The only compiler on PATH is a shell script."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "c++").write_text(f"{script}\n")
    (place / "c++").chmod(0o755)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    monkeypatch.setattr(compiler, "COMPILERS", ("c++",))
    monkeypatch.setattr(compiler, "TRIAL_TIMEOUT", 4.0)
    monkeypatch.setattr(compiler, "TIMEOUT", 4.0)


COMPILE = '#!/bin/sh\n[ "$1" = --version ] && exec echo c++ 1.0\n'
BROKEN = {
    "no headers": f"{COMPILE} echo fatal error: cstdint: No such file >&2; exit 1",
    "hangs at --version": "#!/bin/sh\nsleep 1000 & sleep 1000",
    "hangs when compiling": f"{COMPILE} sleep 1000 & sleep 1000",
    "is killed": f"{COMPILE} kill -9 $$",
    "crashes": f"{COMPILE} kill -SEGV $$",
    "writes nothing": f"{COMPILE}",
    "writes no library": f"{COMPILE} for last; do :; done; echo junk > $last",
    "another libc": f"{COMPILE} echo 'extern int missing; int* use = &missing;' > a.cpp; exec /usr/bin/c++ a.cpp $@",
    "is no program": "\x00\x01",
}


def evaluated(backend):
    plan = random_plan(0)
    indices = random_indices(5, 0)
    operands = random_operands(plan, 5, indices, 2, 0)
    for x in operands:
        x.requires_grad_()
    outputs = library.evaluate(plan, operands, indices, 5, backend)
    gradients = torch.autograd.grad(sum(x.sum() for x in outputs), operands, allow_unused=True)
    return [x for x in (*outputs, *gradients) if x is not None]


@needs_cpp
@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.usefixtures("fresh", "folder")
def test_a_compiler_that_does_not_work(tmp_path, monkeypatch, kind):
    calls(monkeypatch, tmp_path, BROKEN[kind])
    started = time.monotonic()
    with pytest.warns(UserWarning, match="plans run in plain torch, which is slow") as warned:
        results = [evaluated("auto") for _ in range(2)]
    assert len([w for w in warned if "plain torch" in str(w.message)]) == 1
    assert all(torch.equal(a, b) for r in results for a, b in zip(r, evaluated("reference"), strict=True))
    with pytest.raises(ModelError, match="backend='reference'"):
        evaluated("cpp")
    assert time.monotonic() - started < 60
    assert not list((tmp_path / "temporary").iterdir())


@needs_cpp
@pytest.mark.usefixtures("fresh", "folder")
@pytest.mark.parametrize("end", ["exit 4", "kill -9 $$", "sleep 1000"])
def test_a_compiler_that_fails_at_what_is_large(tmp_path, monkeypatch, end):
    """Few lines compile, a kernel does not: it is not tried again for every kernel."""
    calls(
        monkeypatch,
        tmp_path,
        f'#!/bin/sh\n[ -f source.cpp ] && [ $(wc -l < source.cpp) -gt 20 ] && {end}\nexec /usr/bin/c++ "$@"',
    )
    with pytest.warns(UserWarning, match="plans run in plain torch"):
        found = evaluated("auto")
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = evaluated("auto")
    assert time.monotonic() - started < 2
    expected = evaluated("reference")
    for results in (found, again):
        torch.testing.assert_close(results, expected)


@pytest.fixture
def no_compiler(monkeypatch, fresh):
    """A machine without a compiler."""
    monkeypatch.setattr(compiler, "COMPILERS", ("no-such-compiler",))


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_auto_warns_once_and_runs():
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        found = evaluated("auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluated("auto")
    assert all(torch.equal(a, b) for a, b in zip(found, evaluated("reference"), strict=True))


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_cpp_is_an_error():
    with pytest.raises(ModelError, match="install one or use backend='reference'"):
        library.evaluate(random_plan(0), [torch.zeros(1)], {}, 1, "cpp")


@needs_cpp
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_compilation_leaves_nothing(folder, tmp_path, number):
    """No file, and no compiler that runs on."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "c++").write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exec echo 1\necho $$ > "$STARTED"\nsleep 1000 & sleep 1000\n'
    )
    (place / "c++").chmod(0o755)
    (tmp_path / "temporary").mkdir()
    started = tmp_path / "started"
    environment = {**os.environ, "PATH": f"{place}:/usr/bin:/bin", "STARTED": str(started)}
    environment["TMPDIR"] = str(tmp_path / "temporary")
    program = (
        "import signal, sys\nfrom carten.ops import compiler\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"compiler.load('key', lambda: {SOURCE!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(20) != 0
    assert not list((tmp_path / "temporary").iterdir())
    assert not folder.exists() or not list(folder.iterdir())
    assert running_in_group(int(started.read_text())) == []


def running_in_group(group):
    """Processes of a group that are not dead."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state not in "ZX":
                found.append(status)
    return found


# --- building ---------------------------------------------------------------------------------------------------------


@needs_cpp
def test_sources_are_linked_into_one_library(folder, tmp_path):
    sources = [
        'extern "C" int half() { return 21; }',
        'extern "C" int half(); extern "C" int answer() { return 2 * half(); }',
    ]
    script = b"{ global: answer; local: *; };"
    flags = ("-Wl,--version-script=exports",)
    path = compiler.build(sources, tmp_path / "model.so", link_flags=flags, files={"exports": script})
    program = f"import ctypes; m = ctypes.CDLL({str(path)!r}); print(m.answer(), hasattr(m, 'half'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["42", "False"]
    assert [entry.suffix for entry in folder.iterdir()] == [".o", ".o"]
    before = {entry: entry.stat().st_ino for entry in folder.iterdir()}
    compiler.build(sources, path)
    assert {entry: entry.stat().st_ino for entry in folder.iterdir()} == before
    with pytest.raises(ModelError, match="could not compile"):
        compiler.build([*sources, "int broken("], path)
    with pytest.raises(ModelError, match="cannot write"):
        compiler.build(sources, tmp_path / "missing" / "model.so")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "cache", path]


# --- threads ----------------------------------------------------------------------------------------------------------


@needs_cpp
def test_threads_are_those_of_torch():
    assert cpp.team() is not None
    if sys.platform == "linux":
        cpp_runtimes = subprocess.run(
            [sys.executable, "-c", RUNTIMES], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(cpp_runtimes) == 1, f"more than one OpenMP runtime is loaded: {cpp_runtimes}"


RUNTIMES = """
import torch
from carten.ops.library import evaluate
from carten.ops.plan import Array, Plan, Step
plan = Plan((Array("x", 1),), (), (Array("y", 1),), (Step("y", "x", "x", ((0, 0, 0, 1.0),)),))
evaluate(plan, [torch.ones(1 << 16, 1, 4)], {}, 1 << 16, "cpp")
maps = open("/proc/self/maps").read().splitlines()
print(*sorted({line.split()[-1] for line in maps if any(n in line for n in ("libgomp", "libomp", "libiomp"))}))
"""
