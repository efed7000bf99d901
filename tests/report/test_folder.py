"""The page about a folder: what carten wrote is on it, what is broken is named, and it works in a browser."""

import base64
import gzip
import importlib
import json
import pkgutil
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write
from selenium.webdriver import ActionChains, Keys
from typer.testing import CliRunner

import carten.workflows
from carten import drawing
from carten.cli import app
from carten.drawing import Drawing
from carten.errors import DataError
from carten.learning.curve import LearningCurve
from carten.report import frames as frames_module
from carten.report.columns import column_texts, heading_text
from carten.report.documents import JobDocument, read_json
from carten.report.folder import folder_page
from carten.report.foreign import inline_svg
from carten.report.frames import sample_frames
from carten.report.outcomes import job_section
from carten.report.shelf import Shelf
from carten.report.words import job_words
from carten.workflows.eos import eos
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.replicas import run_replicas
from carten.workflows.results import JobResult
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


def scene_of(html: str, number: str) -> dict:
    text = re.search(rf'id="scene-section-{number}">(.*?)</script>', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_dynamics_and_its_replicas_are_one_section_each(tmp_path):
    """Replicas keep their logs; nothing is left over as a table of its own."""
    settings = Settings(20, 2.0, "langevin", interval=5)
    run_replicas(bulk("Cu", cubic=True), EMT(), settings, 2, tmp_path / "two.extxyz").save(tmp_path, "two")
    copper = bulk("Cu", cubic=True)
    copper.calc = EMT()
    run_dynamics(copper, settings, tmp_path / "one.extxyz").save(tmp_path, "one")
    html = folder_page(tmp_path)
    titles = re.findall(r"<h3[^>]*>(.*?)</h3>", html)
    shown = sorted(" ".join(re.sub("<.*?>", "", title).split()) for title in titles)
    assert shown == ["Dynamics one", "Dynamics two", "Dynamics two-0.extxyz", "Dynamics two-1.extxyz"]
    assert html.count('id="scene-section-') == 3


def test_results_are_on_the_page(lab):
    html = folder_page(lab)
    content = json.loads((lab / "eos" / "eos.json").read_text())["results"]
    assert all(name in html for name in content)
    for text in (
        'Equation of state <span class="name">eos/eos</span>',
        'Vibrations <span class="name">vibrations/vibrations</span>',
        'Dynamics <span class="name">md.extxyz</span>',
        "notes.txt",
        "volume (Å³/atom)",
    ):
        assert text in html
    assert len(html) < 500_000
    assert "http://" not in re.sub(r"http://www\.w3\.org/\S+", "", html)


def test_a_mode_is_a_film_of_its_structure(lab):
    html = folder_page(lab)
    number = re.search(r'id="section-(\d)">\s*<h3>Vibrations', html)[1]
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
    for text in ("errors.json", "per atom", ">energy error (meV/atom)</th>"):
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
    assert 'Structures <span class="name">fine.extxyz</span>' in html
    assert len(said) == 1
    assert problem in said[0]
    assert "cannot be shown" in said[0]
    assert f'<th scope="row">{name}</th>' in html


def damaged(content):
    """A JSON document with one of its parts left out or replaced, in turn."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content[:2]):
        others = [None, 3.5, "word", [], {}, [[1, "a"], None]]
        others += damaged(value) if isinstance(value, dict | list) else []
        if isinstance(content, dict):
            yield {name: entry for name, entry in content.items() if name != key}
            yield from ({**content, key: other} for other in others)
        else:
            yield from ([other, *content[1:]] for other in others)


ERRORS = Path(__file__).parents[2] / "scripts" / "organic" / "errors.json"


@pytest.mark.parametrize("name", ["eos", "errors"])
def test_of_damaged_results_nothing_is_raised_but_what_is_wrong(lab, tmp_path, name):
    """Mistakes of the page itself are not caught: what is wrong in a file is found when it is read."""
    path = tmp_path / f"{name}.json"
    content = json.loads((lab / "eos" / "eos.json" if name == "eos" else ERRORS).read_text())
    part = "results" if name == "eos" else "properties"
    content[part] = dict(list(content[part].items())[:2])
    content.pop("groups", None)
    refused = 0
    for document in damaged(content):
        path.write_text(json.dumps(document))
        try:
            read = read_json(path)
            if isinstance(read, JobDocument):
                job_section(read, path, Shelf(tmp_path))
        except DataError:
            refused += 1
    assert refused > 50


def test_problems_are_listed_with_what_is_wrong(tmp_path):
    (tmp_path / "eos.json").write_text(json.dumps({"job": "eos", "results": {"volume": {"unit": "A"}}}))
    (tmp_path / "far.extxyz").write_text("1\nProperties=species:S:1:pos:R:3\nH nan 0.0 0.0\n")
    html = folder_page(tmp_path)
    assert "results.volume.value: Field required" in html
    assert "positions or cell of frame 0 are not finite" in html


def derived(kind: type) -> set[type]:
    return set(kind.__subclasses__()).union(*map(derived, kind.__subclasses__()))


def test_every_job_has_words():
    for module in pkgutil.iter_modules(carten.workflows.__path__, "carten.workflows."):
        importlib.import_module(module.name)
    assert LearningCurve.job  # is imported
    kinds = [kind for kind in derived(JobResult) if kind.__module__.startswith("carten.")]  # tests have some too
    jobs = {kind.job for kind in kinds if isinstance(getattr(kind, "job", None), str)}
    assert len(jobs) > 15
    assert [job for job in jobs if not job_words(job).caption] == []


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("energy_eV", "energy (eV)"),
        ("H error A^2", "H error (Å²)"),
        ("wavenumber_1/cm", "wavenumber (cm⁻¹)"),
        ("heat_capacity_J/K/mol", "heat capacity (J/K/mol)"),
        ("moment_mu_B", "moment (μB)"),
        ("green_up_to", "green up to"),
        ("forces_error (meV/Angstrom)", "forces error (meV/Å)"),
    ],
)
def test_headings(column, text):
    assert heading_text(column) == text


def test_numbers_of_a_column_have_the_same_decimals():
    assert column_texts([1364.0, 286.614, 0.5]) == ["1364.0", "286.6", "0.5"]
    assert column_texts([10, 9]) == ["10", "9"]
    assert column_texts([1.0, 1e-9, float("nan"), None]) == ["1", "1.0e-09", "—", "—"]
    assert column_texts([2e8, 1.0]) == ["2.0000e+08", "1.0000e+00"]


def test_tables_of_evaluate_are_drawn(tmp_path):
    lines = ["structure,energy_reference (meV),energy_predicted (meV),energy_error (meV)"]
    lines += [f"a{k},{k}.0,{k}.5,0.5" for k in range(4)]
    (tmp_path / "structures.csv").write_text("\n".join(lines))
    html = folder_page(tmp_path)
    assert "predicted energy (meV)" in html
    points = json.loads(unescape(re.search('data-points="(.*?)"', html)[1]))[0]["series"][0]["values"]
    assert points == [[float(k), k + 0.5] for k in range(4)]
    assert ">energy error (meV)</th>" in html
    assert ">energy reference (meV)</th>" not in html


def luminance(colour):
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme):
    """WCAG 2.2, AA: 4.5 to 1 for text, 3 to 1 for marks and for the edges of what can be pressed."""
    style = (Path(drawing.__file__).parent / "report" / "page.css").read_text()
    block = re.findall(r":root.*?\{(.*?)\}", style, re.DOTALL)[scheme == "dark"]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for ground in (colours["page"], colours["card"]):
        for name in ("ink", "muted", "accent", "green", "amber", "red", "grey"):
            assert contrast(colours[name], ground) >= 4.5, (name, scheme)
    for name in ("control", *(f"series-{k}" for k in range(1, 7))):
        assert contrast(colours[name], colours["card"]) >= 3.0, (name, scheme)


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


def test_logarithmic_axes_have_plain_labels(tmp_path):
    with Drawing(palette=drawing.LIGHT) as shown:
        shown.axes.semilogy([1.0, 2.0], [3e-5, 2e3])
        page = shown.svg("a curve")
        shown.save(tmp_path / "curve.svg")
    assert "mathdefault" not in page
    assert "10⁻⁴" in page
    assert "mathdefault" not in (tmp_path / "curve.svg").read_text()


def test_the_command_writes_once(lab, tmp_path):
    output = tmp_path / "page.html"
    arguments = ["report", str(lab), "-o", str(output)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output


def tabbed(browser) -> set[str]:
    """What the tabulator key reaches; whatever has the focus shows it."""
    reached = set()
    for _ in range(80):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        element = "document.activeElement"
        assert browser.evaluate(f"{element} === document.body || getComputedStyle({element}).outlineStyle !== 'none'")
        reached.add(browser.evaluate(f"({element}.tagName + ' ' + {element}.className).trim()"))
    return reached


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
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    assert (
        browser.evaluate("[...document.querySelectorAll('.wide')].filter((e) => e.scrollWidth > e.clientWidth + 1)")
        == []
    )
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert tabbed(browser) >= {"A", "BUTTON sort", "CANVAS", "BUTTON play", "INPUT"}
    later = browser.logged(0.3)
    assert seen.errors + later.errors == ()
    assert seen.requests + later.requests == ()
