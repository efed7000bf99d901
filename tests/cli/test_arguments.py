"""Whatever stands on the command line ends in a message and a documented exit status, never in a traceback."""

import os
import subprocess
import sys

import pytest

PROGRAM = "import sys; sys.argv[0] = 'carten'; from carten.cli import app; app()"


def shell(line: str, *arguments: bytes, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``carten`` is the program and "$@" are the arguments."""
    script = f'carten() {{ "{sys.executable}" -c "{PROGRAM}" "$@"; }}; {line}'
    command = [b"bash", b"-o", b"pipefail", b"-c", script.encode(), b"bash", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-option",),
        ("nonsense",),
        ("check",),
        ("check", "a.extxyz", "--cutoff", "nan"),
        ("check", "a.extxyz", "--cutoff", "-1"),
        ("check", "a\0b.extxyz"),
        ("check", "a.extxyz", "--label", "energy=a\0b"),
        ("md", "model.carten", "a.xyz", "--timestep", "inf"),
        ("demo", "--minutes", "nan"),
        ("init", "--preset", "none"),
        ("info", "--json", "a", "b", "c"),
    ],
)
def test_wrong_usage_ends_with_2(run, arguments):
    said = run(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err


@pytest.mark.parametrize("name", ["absent.extxyz", ".", "/", "n" * 300, "/dev/null/x", "a/../..", ""])
@pytest.mark.parametrize("command", ["check", "init --data", "train", "info", "speed"])
def test_names_of_no_file_are_errors(run, tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    said = run(*command.split(), name)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: ")
    assert len(said.err) > len("Error: ") + 5


def test_names_that_are_not_utf_8(tmp_path):
    for command in (b"check", b"train", b"info"):
        done = shell('carten "$@"', command, bytes(tmp_path) + b"/\xff\xfe.xyz")
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith(b"Error: ")
        assert b"Traceback" not in done.stderr


def test_a_reader_that_closes_the_pipe_is_no_error():
    for command in ("init", "--help"):
        done = shell(f"carten {command} | true")
        assert done.stderr == b"", command


def test_a_terminal_without_the_characters_is_no_error():
    done = shell("carten init", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.parametrize("option", ["--report", "--json"])
def test_outputs_that_are_folders_are_refused_at_once(run, trained, tmp_path, option):
    said = run("evaluate", trained.model, trained.test, option, tmp_path, "--overwrite")
    assert said.code == 1
    assert "is a folder" in said.err
    assert said.out == ""


def test_the_help_says_what_exit_statuses_mean(run):
    text = " ".join(run("--help").out.split())
    assert "0 success, 1 error (explained on stderr), 2 wrong usage, 128 + N stopped by signal N" in text


@pytest.mark.parametrize("key", ["yes", "null", "1e5", "- a", "12", "a: b", "E #1", "~", "é", "a,b"])
def test_init_writes_labels_that_yaml_would_misread(key):
    import yaml

    from carten.cli.data import configuration

    document = yaml.safe_load(configuration("train.extxyz", "carten", {"energy": key}))
    assert document["properties"]["energy"]["key"] == key
