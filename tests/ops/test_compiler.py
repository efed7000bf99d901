"""Compiling and keeping what was compiled: only from folders that nobody else can change, whatever else goes wrong."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest
import torch

from carten.errors import ModelError
from carten.ops import codegen, compiler, fingerprint, library
from ops.compiling import SOURCE
from ops.plans import random_indices, random_operands, random_plan

needs_cpp = pytest.mark.needs("cpp")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


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


# --- compilers that fail ----------------------------------------------------------------------------------------------


def only_compiler(monkeypatch, tmp_path, script):
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
    only_compiler(monkeypatch, tmp_path, BROKEN[kind])
    with pytest.warns(UserWarning, match="plans run in plain torch, which is slow") as warned:
        results = [evaluated("auto") for _ in range(2)]
    assert len([w for w in warned if "plain torch" in str(w.message)]) == 1
    assert all(torch.equal(a, b) for r in results for a, b in zip(r, evaluated("reference"), strict=True))
    with pytest.raises(ModelError, match="backend='reference'"):
        evaluated("cpp")
    assert not list((tmp_path / "temporary").iterdir())


@needs_cpp
@pytest.mark.usefixtures("fresh", "folder")
@pytest.mark.parametrize("end", ["exit 4", "kill -9 $$", "sleep 1000"])
def test_a_compiler_that_fails_at_what_is_large(tmp_path, monkeypatch, end):
    """Few lines compile, a kernel does not: it is not tried again for every kernel."""
    calls = tmp_path / "calls"
    large = "[ -f source.cpp ] && [ $(wc -l < source.cpp) -gt 20 ]"
    script = f'#!/bin/sh\necho "$@" >> {calls}\n{large} && {end}\nexec /usr/bin/c++ "$@"'
    only_compiler(monkeypatch, tmp_path, script)
    with pytest.warns(UserWarning, match="plans run in plain torch"):
        found = evaluated("auto")
    before = calls.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = evaluated("auto")
    assert calls.read_text() == before
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
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # jobs in the background ignore it
        f"compiler.load_library('key', lambda: {SOURCE!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(20) != 0
    assert not list((tmp_path / "temporary").iterdir())
    assert not folder.exists() or not list(folder.iterdir())
    deadline = time.monotonic() + 20  # the system takes its time on a busy machine
    while running_in_group(int(started.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
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
