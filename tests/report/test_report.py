"""The report: right numbers, well-formed figures, and a page that asks nothing from the network and runs no text."""

import base64
import csv
import gzip
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from carten.data.labels import Frame, frames_from
from carten.drawing import power_of_ten
from carten.errors import DataError
from carten.properties.spec import property_table
from carten.report import tabular
from carten.report.curves import learning_curves
from carten.report.figures import FEW, Values, by_element, cumulative, parity, pictures
from carten.report.page import EvaluatedData, ReportInfo, page
from carten.report.tabular import csv_text
from carten.text import clean, number, unit
from carten.workflows.comparison import Comparison
from carten.workflows.evaluate import Evaluation
from small import diamond, ethanol, oxide

TABLE = property_table()
READY = "document.querySelector('.scene').dataset.state"
METRICS = """epoch,step,minutes,lr,train_loss,validation_loss,validation_forces_rmse,validation_forces_mae
1,10,0.1,0.01,1.0,nan,50.0,40.0
2,20,0.2,0.01,0.5,0.6,30.0,20.0
"""


def compare(name: str, frames: list[Frame], error: float = 5.0) -> Comparison:
    row, random = TABLE[name], np.random.default_rng(0)
    sizes = np.array([len(frame) for frame in frames])
    atom = row.scope == "atom"
    structure = np.repeat(np.arange(len(frames)), sizes if atom else 1)
    reference = random.normal(scale=100.0, size=(len(structure), 3**row.rank))
    return Comparison(
        row=row,
        reference=reference,
        predicted=reference + random.normal(scale=error, size=reference.shape),
        structure=structure,
        numbers=np.concatenate([frame.numbers for frame in frames]) if atom else np.zeros(len(frames), dtype=int),
        sizes=sizes[structure],
    )


def frames_like(*makes) -> list[Frame]:
    return frames_from([(f"data.extxyz, frame {number}", make()) for number, make in enumerate(makes)])


def evaluated(frames: list[Frame], names: tuple[str, ...], error: float = 5.0) -> EvaluatedData:
    comparisons = {name: compare(name, frames, error) for name in names}
    return EvaluatedData(frames, Evaluation(comparisons, len(frames), sum(map(len, frames)), 1.0))


def info(**changes) -> ReportInfo:
    return replace(ReportInfo("model.carten", "data.extxyz", "1.2.3", "2026-01-02 03:04 UTC", {"format": 1}), **changes)


def report(frames: list[Frame], names: tuple[str, ...], **changes) -> str:
    return page(info(**changes), {"data.extxyz": evaluated(frames, names)})


class Outline(HTMLParser):
    """Cells of tables, ids, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "link", "br", "input", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th", "button"):
            self.cells.append(data)


def test_tables_hold_the_errors():
    frames = frames_like(ethanol, oxide, ethanol)
    outline = Outline(report(frames, ("energy", "forces")))
    assert outline.open == []
    forces = evaluated(frames, ("forces",)).evaluation.comparisons["forces"]
    for value in (forces.total().rmse, forces.total().max, forces.elements()["O"].mae):
        assert number(value) in outline.cells
    assert {"meV/Å", "meV/atom", "data.extxyz, frame 1", "C2H6O"} <= set(outline.cells)


def test_the_page_says_what_it_is():
    html = report(frames_like(ethanol), ("energy",))
    for text in ("<title>model.carten on data.extxyz</title>", "carten 1.2.3", "2026-01-02 03:04 UTC", "1 structures"):
        assert text in html


def test_stress_is_shown_in_gigapascals_too():
    frames = frames_like(oxide, diamond)
    stress = compare("stress", frames).total()
    gigapascals = stress.rmse * 1e-3 * 1.602176634e-19 / 1e-30 / 1e9  # meV/Å^3 in J/m^3
    html = report(frames, ("stress",))
    assert {number(stress.rmse), number(gigapascals), "meV/Å³", "GPa"} <= set(Outline(html).cells)
    assert f"{number(gigapascals)} <small>GPa</small>" in html


def test_training_and_validation_errors_stand_beside_those_of_the_test():
    frames = frames_like(ethanol, oxide)
    test, train = evaluated(frames, ("forces",)), evaluated(frames, ("forces",), error=2.0)
    header = {"provenance": {"validation": {"forces_rmse": 33.25, "forces_mae": 22.75}}}
    html = page(info(header=header), {"test": test, "training data": train})
    cells = Outline(html).cells
    for text in ("training data", "validation", "33.2", "22.8"):
        assert text in cells
    for data in (test, train):
        assert number(data.evaluation.comparisons["forces"].total().rmse) in cells
    assert ">training data</text>" in html


def test_structures_have_one_name_everywhere():
    """In the table, in the viewer and in the data behind the figures."""
    frames = frames_like(ethanol, oxide, diamond)
    html = report(frames, ("energy",))
    rows = list(csv.DictReader(io.StringIO(table_of(html, "energy"))))
    names = {f"data.extxyz, frame {number}" for number in range(3)}
    assert {row["structure"] for row in rows} == names <= set(Outline(html).cells)
    assert {clip["name"] for clip in scene_of(html, "worst")["clips"]} == names


def table_of(html: str, name: str) -> str:
    """The CSV that a button of the page saves."""
    text = re.search(rf'id="table-{name}">(.*?)</script>', html)[1]
    return gzip.decompress(base64.b64decode(text)).decode()


def scene_of(html: str, anchor: str) -> dict:
    """What the page draws."""
    text = re.search(rf'id="scene-{anchor}">(.*?)</script>', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(text)).decode())


def test_the_data_behind_the_figures_are_the_values_compared():
    frames = frames_like(ethanol, oxide)
    rows = list(csv.DictReader(io.StringIO(table_of(report(frames, ("forces",)), "forces"))))
    forces = compare("forces", frames)
    for column, values in (("reference", forces.reference), ("predicted", forces.predicted), ("error", forces.error)):
        assert np.allclose([float(row[column]) for row in rows], values.ravel(), rtol=1e-6)
    assert [row["component"] for row in rows[:3]] == ["x", "y", "z"]
    assert (rows[0]["element"], rows[0]["unit"]) == ("C", "meV/Angstrom")


def test_text_that_spreadsheets_would_run_is_quoted():
    assert csv_text(["name"], [["=1+1"], ["@sum"], ["-cmd"], [-1.0], ["a=b"]]) == "name\n'=1+1\n'@sum\n'-cmd\n-1\na=b\n"


def test_a_table_too_large_for_the_page_has_no_button(monkeypatch):
    frames = frames_like(ethanol)
    assert 'data-save="csv"' in report(frames, ("energy",))
    monkeypatch.setattr(tabular, "MAX_ROWS", 0)
    html = report(frames, ("energy",))
    assert 'data-save="csv"' not in html
    assert 'data-save="svg"' in html


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("names", [("energy", "forces"), ("stress",)])
def test_the_page_opens_without_errors_and_without_network(browser, tmp_path, names):
    path, metrics = tmp_path / "report.html", tmp_path / "metrics.csv"
    metrics.write_text(METRICS)
    curves = (learning_curves(metrics, TABLE), METRICS)
    path.write_text(report(frames_like(ethanol, oxide, diamond), names, curves=curves), encoding="utf-8")
    first = browser.open(path, settle=0.5)
    browser.wait_for(READY)
    later = browser.logged(settle=0.5)
    assert browser.evaluate(READY) == "ready"
    assert first.errors + later.errors == ()
    assert first.requests + later.requests == ()
    assert browser.evaluate("document.title") == "model.carten on data.extxyz"


@pytest.mark.needs("chromium")
def test_rows_of_the_table_choose_the_structure(browser, tmp_path):
    (tmp_path / "report.html").write_text(report(frames_like(ethanol, oxide, diamond), ("forces",)), encoding="utf-8")
    browser.open(tmp_path / "report.html", settle=0.5)
    browser.wait_for(READY)
    shown = "document.querySelector('.scene select').value"
    for place in (2, 0, 1):
        name = browser.evaluate(f"document.querySelector('[data-show=\"{place}\"]').textContent")
        browser.driver.execute_script(f"document.querySelector('[data-show=\"{place}\"]').click()")
        assert browser.evaluate(shown) == name
    last = browser.evaluate("document.querySelector('[data-show=\"2\"]').textContent")
    browser.driver.execute_script("document.querySelector('[data-turn=\"1\"]').click()")
    assert browser.evaluate(shown) == last
    assert browser.logged(0.3).errors == ()


SAVED = """
window.saved = [];
download = null;
HTMLAnchorElement.prototype.click = function () {
  const name = this.download;
  fetch(this.href).then((answer) => answer.arrayBuffer()).then((buffer) => {
    window.saved.push([name, Array.from(new Uint8Array(buffer))]);
  });
};
document.querySelectorAll("figure")[0].querySelectorAll("button").forEach((button) => button.click());
"""


@pytest.mark.needs("chromium")
def test_figures_and_their_data_can_be_saved(browser, tmp_path):
    (tmp_path / "report.html").write_text(report(frames_like(ethanol, oxide), ("energy",)), encoding="utf-8")
    browser.open(tmp_path / "report.html", settle=0.5)
    browser.driver.execute_script(SAVED.replace("download = null;", ""))
    browser.wait_for("window.saved.length === 3")
    files = {name: bytes(content) for name, content in browser.evaluate("window.saved")}
    assert set(files) == {"energy-parity.svg", "energy-parity.png", "energy.csv"}
    svg = files["energy-parity.svg"].decode()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg, "colours are those of the page, which the file is not part of"
    assert "#1668c7" in svg
    assert files["energy-parity.png"].startswith(b"\x89PNG")
    assert files["energy.csv"].startswith(b"data,structure,")


@pytest.mark.needs("chromium")
def test_the_page_may_not_ask_the_network(browser, tmp_path):
    html = report(frames_like(ethanol), ("energy",), n_worst=0)
    html = html.replace("</body>", "<img src='https://example.org/a.png'></body>")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    assert any("Content Security Policy" in error for error in browser.open(tmp_path / "report.html").errors)


ATTACKS = (
    '<img src=x onerror="window.ran = 1">',
    "</script><script>window.ran = 1</script>",
    "</title></style></textarea><svg onload='window.ran = 1'>",
    "<!--<script>window.ran = 1//",
    '"onmouseover=window.ran=1 autofocus onfocus=window.ran=1 x="',
    "{{ 7 * 7 }}{% for %}",
    "$\\frac{",
    "\\g<9>\\1",
    "nul \0 escape \x1b[31m turned \u202e round",
)


@pytest.mark.needs("chromium")
def test_nothing_from_files_runs(browser, tmp_path):
    """Names, units, groups, headers and metrics all carry markup, as files from others may."""
    frames = frames_like(*[ethanol, oxide, diamond] * 3)
    frames = [replace(frame, where=f"{text}, frame 0") for frame, text in zip(frames, ATTACKS, strict=True)]
    rows = {text: replace(TABLE["forces"], name=text, unit=text, report=text) for text in ATTACKS}
    forces = compare("forces", frames)
    comparisons = {text: replace(forces, row=row) for text, row in rows.items()}
    data = EvaluatedData(frames, Evaluation(comparisons, len(frames), 100, 1.0), ATTACKS)
    text = " ".join(ATTACKS)
    metrics = tmp_path / "metrics.csv"
    with metrics.open("w", newline="", encoding="utf-8") as file:
        header = [f"validation_{name}_{kind}" for name in ATTACKS for kind in ("rmse", "mae")]
        csv.writer(file).writerows([["epoch", "train_loss", "validation_loss", *header], [1, 1, 1, *[1] * len(header)]])
    about = ReportInfo(text, text, text, text, {text: text, "provenance": {"a": [text]}})
    html = page(replace(about, curves=(learning_curves(metrics, rows), text)), {text: data, f"{text} train": data})
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    seen = browser.open(path, settle=0.5)
    browser.wait_for(READY)
    later = browser.logged(settle=0.5)
    assert browser.evaluate("window.ran") is None
    assert browser.evaluate(READY) == "ready"
    assert seen.errors + later.errors == (), "not even an attempt that the policy stopped"
    assert seen.requests + later.requests == ()
    attributes = "[onerror], [onload], [onfocus], [autofocus], [onmouseover]"
    assert browser.evaluate(f"document.querySelectorAll('main img, {attributes}').length") == 0
    assert browser.evaluate("document.querySelectorAll('script').length") == html.count("<script")
    assert "{{ 7 * 7 }}" in browser.evaluate("document.querySelector('h1').textContent")


@pytest.mark.needs("chromium")
def test_the_policy_stops_scripts_even_if_text_were_not_escaped(browser, tmp_path):
    html = report(frames_like(ethanol), ("energy",), n_worst=0)
    for attack in ATTACKS[:2]:
        (tmp_path / "report.html").write_text(html.replace("<main>", f"<main>{attack}"), encoding="utf-8")
        assert any("Content Security Policy" in error for error in browser.open(tmp_path / "report.html").errors)
        assert browser.evaluate("window.ran") is None


def test_errors_by_group():
    frames = frames_like(ethanol, oxide, ethanol, oxide)
    names = ("molecules", "crystals")
    data = evaluated(frames, ("energy",))
    cells = Outline(page(info(), {"data.extxyz": replace(data, groups=[names[place % 2] for place in range(4)])})).cells
    energy = data.evaluation.comparisons["energy"]
    errors = (energy.error / energy.sizes[:, None]).ravel()
    for place, name in enumerate(names):
        chosen = errors[energy.structure % 2 == place]
        assert name in cells
        assert {number(chosen.mean()), number(np.sqrt(np.mean(chosen**2)))} <= set(cells)


def test_several_files_are_groups():
    frames = frames_like(ethanol, oxide)
    html = report(frames, ("energy",))
    assert "Errors by group" not in html
    frames[1] = replace(frames[1], where="other.extxyz, frame 0")
    assert {"data.extxyz", "other.extxyz"} <= set(Outline(report(frames, ("energy",))).cells)


@pytest.mark.parametrize("count", [1, FEW // 3, FEW])
@pytest.mark.parametrize("name", ["forces", "energy", "stress", "charges"])
def test_figures_are_well_formed_and_take_the_colours_of_the_page(name, count):
    comparison = compare(name, frames_like(*[oxide] * max(1, count // 3)))
    shown = pictures(name, {"data": comparison, "more": comparison}, {"a": np.ones(3), "b": np.zeros(2)})
    assert len(shown) == 5 + (comparison.row.scope == "atom")
    for picture in shown:
        assert name in ElementTree.fromstring(picture.svg).attrib["aria-label"]
        assert "var(--series-1)" in picture.svg
        assert "#01020" not in picture.svg
        assert "<style" not in picture.svg


def labels_of(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


@pytest.mark.parametrize(("name", "unit_name"), [("forces", "meV/Å"), ("energy", "meV/atom"), ("stress", "meV/Å³")])
def test_every_axis_of_values_has_its_unit(name, unit_name):
    for picture in pictures(name, {"data": compare(name, frames_like(oxide, diamond))}, {}):
        axes = [text for text in labels_of(picture.svg) if "(" in text]
        assert any(f"({unit_name})" in text for text in axes), picture.name
        drawn_with_two_labels = not picture.name.endswith(("elements", "groups"))
        assert len(axes) == 1 + drawn_with_two_labels, picture.name


def test_a_cumulative_curve_reaches_the_share_of_smaller_errors():
    reference, errors = np.zeros(200), np.linspace(0.5, 100.0, 200)
    svg = cumulative("forces", {"data": Values(reference, errors, "eV")})
    assert "values with a smaller error (%)" in labels_of(svg)
    assert {"1", "10", "100"} <= set(labels_of(svg))


def test_many_points_become_few_cells():
    def size(n):
        values = Values.of(compare("forces", frames_like(*[diamond] * n)))
        return len(parity("forces", {"data": values}))

    assert size(100) < 4 * size(5)


def test_perfect_predictions_can_be_drawn():
    comparison = compare("forces", frames_like(oxide), error=0.0)
    for picture in pictures("forces", {"data": comparison}, {"a": np.zeros(3), "b": np.zeros(3)}):
        ElementTree.fromstring(picture.svg)


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(mpl.rcParams)
    by_element(compare("forces", frames_like(ethanol)))
    assert dict(mpl.rcParams) == before


def test_learning_curves_show_losses_and_errors(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(METRICS)
    shown = learning_curves(path, TABLE)
    for picture in shown:
        ElementTree.fromstring(picture.svg)
    texts = {text for picture in shown for text in labels_of(picture.svg)}
    assert {"loss (no unit)", "forces (meV/Å)", "epoch", "train", "validation", "RMSE", "MAE"} <= texts


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", METRICS.replace("0.5", "half"), "\0", "epoch\n" + "1" * 200_000])
def test_other_tables_are_refused(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv"):
        learning_curves(path, TABLE)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.012345, "0.0123"), (1.0, "1.00"), (12345.6, "12,346"), (-3.2, "-3.20"), (1e-5, "1.00e-05")],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.01, "0.01"), (2000.0, "2000"), (1e-4, "10⁻⁴"), (5e-5, "5·10⁻⁵"), (1e12, "10¹²")]
)
def test_ticks_of_logarithmic_axes(value, text):
    assert power_of_ten(value) == text


def test_names_become_one_printable_line():
    assert clean("a\nb\0\u202ec") == "a b��c"
    assert clean("x" * 200, 10) == "x" * 9 + "…"


def test_units():
    assert unit("meV/Angstrom^3") == "meV/Å³"
    assert unit("e*Angstrom") == "e·Å"
