"""Texts of model files and structures made to harm: they are shown as texts, and run nowhere."""

import ase.io
import numpy as np
import pytest

from carten.properties import container, io
from carten.properties.io import save
from carten.properties.routes import Property
from small import ethanol, small_model

HARM = "</script><img src=x onerror=\"document.title='harmed'\"><script>document.title='harmed'</script>"
NAME = "</script><img src=x onerror='harm()'>"


@pytest.fixture
def hostile(tmp_path):
    """A model whose property names, notes and provenance are HTML, and structures whose comments are."""
    rows = ("energy", Property(NAME, "structure", "", +1, "eV", note=HARM))
    config = {"properties": {NAME: {"key": "marker", "unit": "eV"}}, HARM: HARM}
    model = tmp_path / "model.carten"
    save(model, small_model(properties=rows), {"author": HARM, "config": config})
    frames = []
    for number in range(3):
        atoms = ethanol()
        atoms.rattle(0.05, seed=number)
        atoms.info = {"energy": float(number), "marker": 1.0 + number, "config_type": HARM, "comment": HARM}
        frames.append(atoms)
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    ase.io.write(folder / "test.extxyz", frames)
    return model, folder / "test.extxyz"


@pytest.mark.needs("chromium")
def test_a_report_shows_texts_and_runs_none(hostile, run, tmp_path, browser):
    model, data = hostile
    said = run("evaluate", model, data, "--report", tmp_path / "report.html")
    assert said.code == 0, said.err
    page = browser.open(tmp_path / "report.html")
    assert page.errors == ()
    assert page.requests == ()
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "harmed" not in browser.driver.title
    assert "onerror" in browser.driver.find_element("tag name", "body").get_attribute("textContent")


def test_info_shows_no_control_characters(hostile, run, tmp_path):
    """A file can't write to the terminal what moves its cursor or changes its title."""
    model, _ = hostile
    content = container.read(model, io.KEY, io.KIND)
    header = {**content.header, "provenance": {"author": "\x1b]0;harmed\x07\x1b[2J", "config": {"\x1b[31m": "\x9b2J"}}}
    container.write(model, io.KEY, content.tensors, header, overwrite=True)
    for arguments in (("info", model), ("info", model, "--json")):
        said = run(*arguments)
        assert said.code == 0, said.err
        assert not {"\x1b", "\x07", "\x9b"} & set(said.out)


def test_a_unit_that_is_none_converts_nothing(hostile, run, tmp_path):
    model, data = hostile
    content = container.read(model, io.KEY, io.KIND)
    row = {**content.header["properties"][1], "unit": HARM, "report": HARM}
    header = {
        **content.header,
        "properties": [content.header["properties"][0], row],
        "units": {**content.header["units"], NAME: HARM},
    }
    container.write(model, io.KEY, content.tensors, header, overwrite=True)
    assert run("info", model).code == 0
    said = run("evaluate", model, data, "--report", tmp_path / "report.html")
    assert said.code == 1
    assert "unit" in said.err
    assert not (tmp_path / "report.html").exists()


def test_predictions_under_hostile_names_are_read_again(hostile, run, tmp_path):
    model, data = hostile
    said = run("predict", model, data, "-o", tmp_path / "out.extxyz")
    if said.code == 0:
        again = ase.io.read(tmp_path / "out.extxyz", index=":")
        assert len(again) == 3
        assert all(np.isfinite(atoms.positions).all() for atoms in again)
    else:
        assert "Error:" in said.err


def test_names_in_a_data_file_move_no_cursor(run, tmp_path):
    path = tmp_path / "data.extxyz"
    path.write_text('1\nenergy=1.0 config_type="\x1b[2J\x07" \x1b[31mx=3\nH 0 0 0\n1\nenergy="\x1b[2J"\nH 0 0 0\n')
    said = run("check", path)
    assert not {"\x1b", "\x07"} & set(said.out + said.err)
    assert said.err or said.out
