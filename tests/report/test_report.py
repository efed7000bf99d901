"""The report: right numbers, well-formed figures, and a page that asks nothing from the network."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from carten.data.labels import Frame, frames_from
from carten.errors import DataError
from carten.properties.spec import property_table
from carten.report.curves import learning_curves
from carten.report.figures import FEW, by_element, parity
from carten.report.page import Subject, page
from carten.report.text import number, unit
from carten.workflows.comparison import Comparison
from carten.workflows.evaluate import Evaluation
from small import diamond, ethanol, oxide

TABLE = property_table()
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


def evaluation(frames: list[Frame], names: tuple[str, ...]) -> Evaluation:
    comparisons = {name: compare(name, frames) for name in names}
    return Evaluation(comparisons, len(frames), sum(map(len, frames)), 1.0)


def subject(found: Evaluation, frames: list[Frame], count: int = 3) -> Subject:
    hardest = {index: frames[index] for index in found.hardest(count)}
    return Subject("model.carten", "data.extxyz", {"µs/atom": "12"}, {"format": 1}, "", hardest)


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
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_tables_hold_the_errors():
    frames = frames_like(ethanol, oxide, ethanol)
    found = evaluation(frames, ("energy", "forces"))
    outline = Outline(page(subject(found, frames), found))
    assert outline.open == []
    forces = found.comparisons["forces"]
    for value in (forces.total().rmse, forces.total().max, forces.elements()["O"].mae):
        assert number(value) in outline.cells
    assert {"meV/Å", "meV/atom", "data.extxyz, frame 1"} <= set(outline.cells)


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("names", [("energy", "forces"), ("stress",)])
def test_the_page_opens_without_errors_and_without_network(browser, tmp_path, names):
    frames = frames_like(ethanol, oxide, diamond)
    found = evaluation(frames, names)
    path, metrics = tmp_path / "report.html", tmp_path / "metrics.csv"
    metrics.write_text(METRICS)
    about = replace(subject(found, frames), curves=learning_curves(metrics, TABLE))
    path.write_text(page(about, found), encoding="utf-8")
    seen = browser.open(path, settle=0.5)
    browser.wait_for("document.getElementById('viewer').dataset.state", seconds=180)
    later = browser.logged(settle=0.5)
    assert browser.evaluate("document.getElementById('viewer').dataset.state") == "ready"
    assert seen.errors + later.errors == ()
    assert seen.requests + later.requests == ()
    assert browser.evaluate("document.title") == "model.carten on data.extxyz"


@pytest.mark.needs("chromium")
def test_the_page_may_not_ask_the_network(browser, tmp_path):
    frames = frames_like(ethanol)
    found = evaluation(frames, ("energy",))
    html = page(subject(found, frames, 0), found).replace("</body>", "<img src='https://example.org/a.png'></body>")
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    assert any("Content Security Policy" in error for error in browser.open(tmp_path / "report.html").errors)


def test_names_are_escaped():
    frames = [Frame(f.numbers, f.positions, f.cell, f.pbc, where="<b>, frame 0") for f in frames_like(ethanol)]
    found = evaluation(frames, ("energy",))
    html = page(Subject("<i>m", "a&b", header={"x": "</pre>"}, frames={0: frames[0]}), found)
    assert "<i>m" not in html
    assert "<b>" not in html
    assert Outline(html).open == []


@pytest.mark.parametrize("count", [1, FEW // 3, FEW])
@pytest.mark.parametrize("name", ["forces", "energy", "stress", "charges"])
def test_figures_are_well_formed_and_take_the_colours_of_the_page(name, count):
    comparison = compare(name, frames_like(*[oxide] * max(1, count // 3)))
    drawings = [parity(comparison)] + ([by_element(comparison)] if comparison.row.scope == "atom" else [])
    for svg in drawings:
        assert ElementTree.fromstring(svg).attrib["aria-label"].startswith(name)
        assert "var(--series-1)" in svg
        assert "#01020" not in svg
        assert "<style" not in svg


def test_many_points_become_few_cells():
    few, many = (parity(compare("forces", frames_like(*[diamond] * n))) for n in (5, 100))
    assert len(many) < 4 * len(few)


def test_perfect_predictions_can_be_drawn():
    comparison = compare("forces", frames_like(oxide), error=0.0)
    for svg in (parity(comparison), by_element(comparison)):
        ElementTree.fromstring(svg)


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(mpl.rcParams)
    parity(compare("energy", frames_like(ethanol)))
    assert dict(mpl.rcParams) == before


def test_learning_curves_show_losses_and_errors(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(METRICS)
    svg = learning_curves(path, TABLE)
    ElementTree.fromstring(svg)
    texts = re.findall(r">([^<>]+)</text>", svg)
    assert {"loss", "forces (meV/Å)", "train", "validation", "RMSE", "MAE"} <= set(texts)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", METRICS.replace("0.5", "half")])
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


def test_units():
    assert unit("meV/Angstrom^3") == "meV/Å³"
    assert unit("e*Angstrom") == "e·Å"
