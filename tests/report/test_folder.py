"""The page about a folder: what carten wrote is on it, what is broken is named, and it works in a browser."""

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from typer.testing import CliRunner

from carten.cli import app
from carten.drawing import Drawing
from carten.errors import DataError
from carten.report import frames as frames_module
from carten.report.folder import folder_page
from carten.report.foreign import inline_svg
from carten.report.frames import sample_frames
from carten.workflows.eos import eos
from carten.workflows.vibrations import vibrations


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    eos(bulk("Cu"), EMT()).save(folder / "eos")
    vibrations(molecule("CO"), EMT()).save(folder / "vibrations")
    write(folder / "md.extxyz", [molecule("CO") for _ in range(3)])
    (folder / "md.csv").write_text("step,time_ps,temperature_K\n0,0,300\n1,0.1,310\n2,0.2,305\n")
    (folder / "notes.txt").write_text("mine")
    return folder


def scene_of(html: str, number: int) -> dict:
    text = re.search(rf'id="scene-section-{number}">(.*?)</script>', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_results_are_on_the_page(lab):
    html = folder_page(lab)
    content = json.loads((lab / "eos" / "eos.json").read_text())["results"]
    assert all(name in html for name in content)
    for text in (
        "Equation of state: eos/eos",
        "Vibrations: vibrations/vibrations",
        "Dynamics: md.extxyz",
        "notes.txt",
        "volume (Å³/atom)",
    ):
        assert text in html
    assert len(html) < 500_000
    assert "http://" not in re.sub(r"http://www\.w3\.org/\S+", "", html)


def test_a_mode_is_a_film_of_its_structure(lab):
    html = folder_page(lab)
    number = re.findall(r"<h2>(.*?)</h2>", html).index("Vibrations: vibrations/vibrations")
    [clip] = scene_of(html, number)["clips"]
    whole = np.frombuffer(base64.b64decode(clip["positions"]["data"]), "<i2") * clip["positions"]["step"]
    frames = whole.reshape(20, 2, 3)
    lengths = np.linalg.norm(frames[:, 0] - frames[:, 1], axis=1)
    expected = sample_frames(lab / "vibrations" / "vibrations.extxyz").frames
    assert np.allclose(lengths, [atoms.get_distance(0, 1) for atoms in expected], atol=2e-4)
    assert np.ptp(lengths) > 0.3


def test_errors_and_uncertainties_of_an_evaluation_are_on_the_page(tmp_path):
    """Errors of parts are shown; facts about uncertainties, which have other names, are not taken for such."""
    errors = json.loads((Path(__file__).parents[2] / "scripts" / "organic" / "errors.json").read_text())
    assert "uncertainty" in errors["properties"]["energy"]
    (tmp_path / "errors.json").write_text(json.dumps(errors))
    (tmp_path / "structures.csv").write_text("structure,energy_error (meV/atom)\n0,0.3\n1,0.1\n")
    complaints = []
    html = folder_page(tmp_path, complaints.append)
    assert complaints == []
    for text in ("Errors: errors.json", "per atom", '">energy error (meV/atom)</th>'):
        assert text in html


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("broken.json", '{"job": "eos", "resu', "half-written"),
        ("wrong.json", '{"job": "eos", "results": 3}', "wrong.json"),
        ("empty.csv", "", "without lines"),
        ("words.extxyz", "no frames here", "number of atoms"),
        ("damaged.extxyz", "1\nProperties=species:S:1:pos:R:3\nH a b c\n", "damaged"),
        ("other.svg", "<html/>", "not SVG"),
        ("bitmap.png", "text", "no PNG"),
        ("model.carten", "text", "model.carten"),
        ("metrics.csv", "a,b\n1,2\n", "expected a table"),
    ],
)
def test_a_broken_file_is_named_and_breaks_nothing_else(tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    write(tmp_path / "fine.extxyz", molecule("H2O"))
    said = []
    html = folder_page(tmp_path, said.append)
    assert "Structures: fine.extxyz" in html
    assert len(said) == 1
    assert problem in said[0]
    assert "cannot be shown" in html


def test_folders_without_results_are_refused(tmp_path):
    with pytest.raises(DataError, match="it is empty"):
        folder_page(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match=r"nothing that carten writes .*a\.txt"):
        folder_page(tmp_path)
    with pytest.raises(DataError, match="expected a folder"):
        folder_page(tmp_path / "missing")


def test_of_a_large_file_frames_at_equal_distances_are_taken(tmp_path, monkeypatch):
    path = tmp_path / "long.extxyz"
    write(path, [Atoms("H", [[float(k), 0.0, 0.0]]) for k in range(500)])
    with path.open("a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3\n")  # cut off
    whole = sample_frames(path)
    assert (len(whole.frames), whole.total, whole.complete) == (500, 500, True)
    monkeypatch.setattr(frames_module, "WHOLE", 100)
    monkeypatch.setattr(frames_module, "MAX_FRAMES", 10)
    few = sample_frames(path)
    places = np.array([atoms.positions[0, 0] for atoms in few.frames])
    assert len(few.frames) == 10
    assert not few.complete
    assert np.allclose(np.diff(places), 50.0, atol=4.0)
    assert "10 frames at equal distances" in folder_page(tmp_path)


def test_pictures_keep_nothing_that_runs():
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg" onload="a()"><script>a()</script><g onclick="a()">'
        '<a href="javascript:a()"><path d="M0 0"/></a><use href="http://example.org/a.svg#b"/>'
        '<path id="p" style="fill: #1668c7; clip-path: url(#q)"/></g><foreignObject/></svg>'
    )
    markup = inline_svg(text, "a picture", "x-", "a.svg")
    for word in ("script", "onload", "onclick", "javascript", "example.org", "foreignObject"):
        assert word not in markup
    assert 'id="x-p"' in markup
    assert "url(#x-q)" in markup
    assert "fill: var(--series-1)" in markup


def test_figures_carry_their_values():
    with Drawing() as drawing:
        drawing.axes.plot([1.0, 2.0, 3.0], [10.0, 1000.0, 100.0], label="curve")
        drawing.axes.set(xlabel="time (ps)", ylabel="energy (eV)")
        drawing.logarithmic("y")
        svg = drawing.svg("a curve")
    [axes] = json.loads(re.search('data-points="(.*?)"', svg)[1].replace("&quot;", '"'))
    [series] = axes["series"]
    assert (axes["x"], axes["y"], series["name"]) == ("time (ps)", "energy (eV)", "curve")
    assert series["values"] == [[1.0, 10.0], [2.0, 1000.0], [3.0, 100.0]]
    heights = [y for _, y in series["at"]]
    assert heights[0] - heights[2] == pytest.approx(heights[2] - heights[1], abs=0.2)


def test_the_command_writes_once(lab, tmp_path):
    output = tmp_path / "page.html"
    arguments = ["report", str(lab), "-o", str(output)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output


@pytest.mark.needs("chromium")
def test_the_page_works_in_a_browser(browser, lab, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(folder_page(lab), encoding="utf-8")
    seen = browser.open(path, settle=0.3)
    browser.wait_for("[...document.querySelectorAll('.scene')].every((figure) => figure.dataset.state === 'ready')")
    film = "[...document.querySelectorAll('.scene')].find((figure) => figure.textContent.includes('mode 1'))"
    browser.driver.execute_script(f"{film}.querySelector('.play').click()")
    browser.wait_for(f"{film}.querySelector('input').value > 2")
    heading = "document.querySelector('table button.sort')"
    first = "document.querySelector('button.sort').closest('table').tBodies[0].rows[0].textContent"
    browser.driver.execute_script(f"{heading}.click()")
    ascending = browser.evaluate(first)
    browser.driver.execute_script(f"{heading}.click()")
    assert browser.evaluate(first) != ascending
    later = browser.logged(0.3)
    assert seen.errors + later.errors == ()
    assert seen.requests + later.requests == ()
