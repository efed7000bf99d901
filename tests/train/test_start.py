"""Runs that start from a trained model."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from carten.data.dataset import Dataset, collate
from carten.data.labels import Label, frame_from, read_frames
from carten.data.neighbours import graph
from carten.errors import ConfigError, ModelFileError
from carten.model import conditions
from carten.model.conditions import Fidelity, Input
from carten.model.config import NetworkConfig
from carten.model.graph import Graph
from carten.properties.facts import described_header
from carten.properties.io import header, load, save
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.properties.spec import input_table, property_table
from carten.train.build import build_model
from carten.train.config import Config
from carten.train.elements import with_elements
from carten.train.files import BEST
from carten.train.run import train
from carten.train.sets import read_sets
from carten.train.start import kept_elements, read_start
from carten.train.terms import terms
from carten.train.transplant import take_over

Configure = Callable[..., Config]
QUIET = Console(quiet=True)
SHIFTS = {29: 3.0, 79: -5.0}


def started(config: Config) -> Potential:
    """The model of a run before its first step."""
    config, source = read_start(config)
    wanted = terms(config.properties)
    sets = read_sets(config, wanted, kept_elements(config, source))
    return build_model(config, sets, wanted, source).eval()


def relabelled(alloys: Path, path: Path, change: Callable[[Atoms], dict[str, Any]], count: int = 24) -> str:
    """The first alloys with other labels."""
    frames = ase.io.read(alloys, f":{count}")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, **change(atoms))
    ase.io.write(path, frames)
    return str(path)


def some_alloys(path: Path) -> Graph:
    frames = read_frames([path], [Label(property_table()["energy"])])
    dataset = Dataset(frames, [property_table()["energy"]], 3.5)
    return collate([dataset[k] for k in range(len(dataset))]).graph


def predicted(model: Potential, path: Path | str, *names: str) -> dict[str, torch.Tensor]:
    return model(some_alloys(Path(path)), names)


def test_nothing_but_the_reference_energies_differs_before_the_first_step(
    configure: Configure, trained: Path, alloys: Path
) -> None:
    config = configure(start=str(trained), reference_energies="none", dtype="float64")
    before, after = (
        predicted(model, alloys, "energy", "forces") for model in (load(trained), started(config))
    )
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)
    moved = started(configure(start=str(trained), dtype="float64"))
    after = predicted(moved, alloys, "energy", "forces")
    torch.testing.assert_close(after["forces"], before["forces"], rtol=0, atol=1e-10)
    assert (after["energy"] - before["energy"]).abs().max() > 1e-5


@pytest.mark.parametrize("others", ["members", "network"])
def test_members_begin_about_the_trained_model_and_end_as_their_mean(
    configure: Configure, trained: Path, alloys: Path, tmp_path: Path, others: str
) -> None:
    """A run without steps predicts as its source, from one readout to four and back, and from four to three."""
    source = load(trained)
    network = {"n_members": 4} if others == "members" else source.config.model_dump() | {"n_members": 4}
    options = {"reference_energies": "none", "dtype": "float64"}
    document = configure(start=str(trained), **options).model_dump(mode="json")
    run = Config.model_validate(document | {"model": network, "start": str(trained)})
    several = started(run)
    assert several.config == source.config.model_copy(update={"n_members": 4})
    before, after = (predicted(model, alloys, "energy", "forces") for model in (source, several))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)
    spread = torch.stack([values["forces"] for values in several.members(some_alloys(alloys), ["forces"])]).std(dim=0)
    assert 1e-3 < spread.mean() / before["forces"].abs().mean() < 0.5
    save(tmp_path / "several.carten", several, {})
    ensemble = str(tmp_path / "several.carten")
    for members in (1, 3):
        other = started(Config.model_validate(document | {"model": {"n_members": members}, "start": ensemble}))
        assert other.config.n_members == members
        torch.testing.assert_close(predicted(other, alloys, "energy", "forces"), before, rtol=0, atol=1e-10)


def test_energies_of_another_level_are_met_by_moving_reference_energies(
    configure: Configure, trained: Path, alloys: Path, tmp_path: Path
) -> None:
    """Energies that differ from those predicted by something for each atom are predicted at once."""
    energies = iter(predicted(load(trained), alloys, "energy")["energy"].tolist())

    def change(atoms: Atoms) -> dict[str, Any]:
        return {"energy": next(energies) + sum(SHIFTS[z] for z in atoms.numbers), "forces": atoms.get_forces()}

    other = relabelled(alloys, tmp_path / "other.extxyz", change)
    config = configure(start=str(trained), data={"train": other}, dtype="float64")
    expected = np.array([atoms.get_potential_energy() for atoms in ase.io.read(other, ":")])
    found = predicted(started(config), other, "energy")["energy"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)  # the ridge of the fit
    given = configure(
        start=str(trained), data={"train": other}, dtype="float64", reference_energies={"Cu": 1.0, "Au": 2.0}
    )
    torch.testing.assert_close(
        started(given).heads["energies"].get_buffer("reference").flatten(), torch.tensor([1.0, 2.0]).double()
    )


def test_ions_in_fields_are_what_they_were_in_the_source(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    """Models of older files are not pulled by fields: their forces stay exactly those."""
    inputs = [replace(input_table()["total_charge"], embed=conditions.Scalar()), input_table()["electric_field"]]
    config = NetworkConfig.model_validate(configure().model.model_dump())
    source = Potential(config, [29, 47, 79], [property_table()["energy"]], inputs=inputs).double()
    frames = ase.io.read(alloys, ":12")
    for atoms in frames:
        atoms.info.update(total_charge=1.0, electric_field=np.array([0.0, 0.1, 0.2]))
    ase.io.write(tmp_path / "ions.extxyz", frames)
    for pulls in (False, True):
        source.design = replace(source.design, pulls_ions=pulls)
        save(tmp_path / f"{pulls}.carten", source, {})
        run = configure(
            data={"train": str(tmp_path / "ions.extxyz")},
            inputs={"total_charge": {"embed": "scalar"}, "electric_field": {}},
            start=str(tmp_path / f"{pulls}.carten"),
            dtype="float64",
        )
        model = started(run)
        assert model.design.has_pull == pulls
        values = {"total_charge": np.ones(1), "electric_field": np.array([[0.0, 0.1, 0.2]])}
        sample = graph(frames[0], 3.5, values)
        before, after = (each(sample, ["forces"])["forces"].detach() for each in (source.eval(), model))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


def test_a_start_pays(configure: Configure, trained: Path, tmp_path: Path) -> None:
    """One epoch more is better than one epoch from nothing; elements and network are those of the file."""
    sections = {"training": {"epochs": 1}, "dtype": "float64"}
    config = configure(**sections, output=str(tmp_path / "again"))
    document = config.model_dump(mode="json", exclude_unset=True) | {"start": str(trained)}
    del document["model"]
    further = train(Config.parse(document), console=QUIET)
    scratch = train(configure(**sections, output=str(tmp_path / "scratch")), console=QUIET)
    assert load(further.model).config == load(trained).config == config.model
    assert further.validation["loss"] < 0.7 * scratch.validation["loss"]
    document["training"]["epochs"] = 2
    assert train(Config.parse(document), resume=True, console=QUIET).epochs == 2


def test_readouts_that_are_new_start_from_their_labels(
    configure: Configure, trained: Path, alloys: Path, tmp_path: Path
) -> None:
    def change(atoms: Atoms) -> dict[str, Any]:
        return {"magmoms": atoms.numbers / 79.0}

    moments = relabelled(alloys, tmp_path / "moments.extxyz", change, 16)
    sections = {
        "data": {"train": moments},
        "properties": {"collinear_moments": {"key": "magmoms"}},
        "start": str(trained),
        "dtype": "float64",
    }
    model = started(configure(**sections))
    assert "energies" not in model.heads
    source = load(trained)
    torch.testing.assert_close(model.network.state_dict(), source.network.state_dict())
    torch.testing.assert_close(
        model.heads["collinear_moments"].get_buffer("shift").flatten(), torch.tensor([29.0 / 79.0, 1.0]).double()
    )


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"n_channels": 8}}, r"model: n_channels is 8, but 4 in .*best.carten; leave"),
        ({"terms": [{"kind": "zbl"}]}, r"terms: .*best.carten has none"),
    ],
)
def test_what_does_not_fit_is_told(
    configure: Configure, trained: Path, tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        train(configure(start=str(trained), **sections), console=QUIET)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def silver(alloys: Path, tmp_path: Path) -> str:
    """The alloys with silver instead of gold."""
    frames = ase.io.read(alloys, ":")
    for atoms in frames:
        atoms.numbers[atoms.numbers == 79] = 47
    path = tmp_path / "silver.extxyz"
    ase.io.write(path, frames)
    return str(path)


def begun(configure: Configure, trained: Path, silver: str, start: dict[str, Any], **sections: Any) -> Potential:
    return started(
        configure(start={"model": str(trained), **start}, data={"train": silver}, dtype="float64", **sections)
    )


def test_new_elements_begin_like_others_or_anew(
    configure: Configure, trained: Path, alloys: Path, silver: str
) -> None:
    """Silver like gold: the forces are those of gold. Without a word on it silver is new, and gold is dropped."""
    expected = predicted(load(trained), alloys, "forces")["forces"]
    alike = begun(configure, trained, silver, {"like": {"Ag": "Au"}})
    assert alike.elements == (29, 47)
    torch.testing.assert_close(predicted(alike, silver, "forces")["forces"], expected, rtol=0, atol=1e-12)
    energies = [atoms.get_potential_energy() for atoms in ase.io.read(silver, ":")]
    errors = predicted(alike, silver, "energy")["energy"].numpy() - energies
    assert np.abs(errors - np.mean(errors)).max() < 1.0  # their E0 is fitted: with that of gold it would be 10 eV
    anew = predicted(begun(configure, trained, silver, {}), silver, "forces")["forces"]
    assert (anew - expected).abs().max() > 0.1
    everything = begun(configure, trained, silver, {"elements": "all", "like": {"Ag": "Au"}})
    assert everything.elements == (29, 47, 79)
    for path in (silver, alloys):
        torch.testing.assert_close(predicted(everything, path, "forces")["forces"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("start", "sections", "complaint"),
    [
        ({"like": {"Ag": "Pt"}}, {}, r"start.like.Ag: expected an element that .* knows \(Cu Au\), found 'Pt'"),
        ({"like": {"Cu": "Au"}}, {}, r"start.like.Cu: expected a new element, but Cu is known to"),
        ({"like": {"Pt": "Au"}}, {}, r"start.like.Pt: expected a new element, but Pt does not occur in the data"),
        ({"like": {"ccsd": "pbe"}}, {}, r"start.like.ccsd: expected a new element or a new level of theory"),
        ({}, {"reference_energies": "none"}, r"reference_energies: none keeps those .* has none for Ag: set it to"),
    ],
)
def test_new_elements_that_do_not_fit_are_refused(
    configure: Configure, trained: Path, silver: str, start: dict[str, Any], sections: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        begun(configure, trained, silver, start, **sections)


def test_a_run_without_steps_gives_the_forces_of_the_source(
    configure: Configure, trained: Path, alloys: Path, tmp_path: Path
) -> None:
    """Exactly, in the file; gold is dropped with the data that have none, and errors stand in the learning curve."""
    shown = io.StringIO()
    copper = [atoms for atoms in ase.io.read(alloys, ":") if atoms.numbers.max() == 79]
    for atoms in copper:
        atoms.numbers[:] = 29
    ase.io.write(tmp_path / "copper.extxyz", copper)
    data = {"train": str(tmp_path / "copper.extxyz")}
    config = configure(start=str(trained), data=data, dtype="float64", training={"epochs": 0})
    result = train(config, console=Console(file=shown, width=1000))
    model, source = load(result.model), load(trained)
    assert model.elements == (29,)
    expected, forces = (predicted(each, data["train"], "forces")["forces"] for each in (source, model))
    assert torch.equal(forces, expected)
    assert "dropped: Au" in shown.getvalue()
    assert "     0 " in shown.getvalue() and "(the model that the run starts from)" in shown.getvalue()
    curve = (config.output / "metrics.csv").read_text().splitlines()
    assert len(curve) == 2 and curve[1].startswith("0,0,")
    assert result.steps == 0 and result.validation["forces_rmse"] > 0.0


def test_the_source_stays_the_best_where_training_makes_it_worse(configure: Configure, trained: Path) -> None:
    config = configure(start=str(trained), dtype="float64", optimizer={"lr": 10.0}, training={"epochs": 1, "ema": 0})
    best, source = (load(path).network.embedding for path in (train(config, console=QUIET).model, trained))
    torch.testing.assert_close(best, source)


def test_a_file_tells_every_training_that_led_to_it(configure: Configure, trained: Path, tmp_path: Path) -> None:
    first = header(trained)["provenance"]
    model = trained
    for name in ("second", "third"):
        config = configure(start=str(model), training={"epochs": 0}, output=str(tmp_path / name))
        model = train(config, console=QUIET).model
    facts = header(model)["provenance"]
    second = header(tmp_path / "second" / BEST)["provenance"]
    assert second.pop("sources") == [first]
    assert facts["sources"] == [first, second]
    steps = [text for name, text in described_header(header(model), 1) if name == "trained"]
    assert [text.partition(" on ")[0] for text in steps] == [
        f"{first['epoch']} epochs, {first['step']} steps, {first['minutes']:.1f} minutes",
        *["0 epochs, 0 steps, 0.0 minutes"] * 2,
    ]
    assert steps[1].endswith(f" on alloys.extxyz from {trained.name}")


def test_runs_without_steps_need_a_start(configure: Configure) -> None:
    with pytest.raises(ConfigError, match=r"training.epochs must be 1 or more, unless start"):
        configure(training={"epochs": 0})


def test_properties_of_another_definition_are_refused(
    configure: Configure, alloys: Path, tmp_path: Path
) -> None:
    def change(atoms: Atoms) -> dict[str, Any]:
        return {"charges": atoms.numbers / 79.0}

    def shielding(unit: str, **keys: Any) -> dict[str, Any]:
        path = relabelled(alloys, tmp_path / "shielding.extxyz", change)
        row = {"key": "charges", "scope": "atom", "indices": "", "parity": 1, "unit": unit}
        return {"data": {"train": path}, "properties": {"shielding": row}, "training": {"epochs": 1}, **keys}

    first = train(configure(**shielding("ppm", output=str(tmp_path / "ppm"))), console=QUIET).model
    with pytest.raises(ConfigError, match=r"properties.shielding: unit is 'Hz', but 'ppm' in .*best.carten; make it"):
        started(configure(**shielding("Hz", start=str(first))))


def test_inputs_of_the_start_are_kept_or_required(configure: Configure, trained: Path, tmp_path: Path) -> None:
    defaulted = configure(inputs={"total_charge": {"default": 0}}, output=str(tmp_path / "a"), training={"epochs": 1})
    charged = train(defaulted, console=QUIET).model
    assert started(configure(start=str(charged))).inputs["total_charge"].default == 0
    with pytest.raises(ConfigError, match=r"inputs.total_charge: expected .* as in .*, found"):
        started(configure(start=str(charged), inputs={"total_charge": {"default": 0, "embed": "category"}}))
    levels = {"fidelity": {"values": ["pbe"], "default": "pbe"}}
    assert started(configure(start=str(trained), inputs=levels)).levels is not None
    with pytest.raises(ModelFileError, match=r"none\.carten"):
        started(configure(start=str(tmp_path / "none.carten")))
    assert trained.name == BEST


ROWS = property_table()
ROUTES = {"dipole": ROWS["dipole"], "shielding": Property("shielding", "atom", "ij=ji", +1, "ppm")}
NETWORKS = [
    {"l_max_features": 2},
    {"preset": "ictp"},
    {"preset": "tace", "interaction": {"gate": True}, "product": {"channels": 3}, "residual": {"source": "both"}},
    {"product": {"kind": "spatial"}},
    {"product": {"kind": "recursive", "paths": "full"}, "correlation_order": 2, "odd_products": True},
]
FIELD = Input("field", "structure", "i", -1, "V/Angstrom", conditions.Tensor())
MOMENTS = Input("moments", "atom", "i", +1, "mu_B", conditions.Tensor())


def small(rows: Sequence[str], network: dict[str, Any], inputs: Sequence[Input] = (), seed: int = 0) -> Potential:
    config = NetworkConfig.model_validate({"n_channels": 4, "l_max_edges": 2, "cutoff": 4.0, **network})
    table = {**ROWS, **ROUTES}
    model = Potential(config, [1, 6, 8], [table[name] for name in rows], 5.0, seed, "reference", inputs)
    for head in model.heads.values():
        for name in ("reference", "shift"):
            head.get_buffer(name).normal_(generator=torch.Generator().manual_seed(seed))
    return model.eval()


def energies_and_dipoles(model: Potential, names: Sequence[str], values: dict[str, torch.Tensor]) -> dict[str, Any]:
    corners = [[0, 0, 0], [1.4, 0, 0], [0, 1.4, 0], [0, 0, 1.4], [1.4, 1.4, 0], [0, 1.4, 1.4]]
    atoms = Atoms("CH3OH", positions=corners + 0.1 * np.random.default_rng(1).normal(size=(6, 3)))
    plain = graph(frame_from(atoms), model.cutoff, {}, torch.float64)
    return model(replace(plain, inputs=values), names)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["energy"], ["energy", "dipole"]),
        (["energy", "dipole"], ["energy"]),
        (["energy", "shielding"], ["energy", "dipole"]),
    ],
)
def test_properties_more_or_less_change_no_other(before: list[str], after: list[str], network: dict[str, Any]) -> None:
    """Equal to the trained model before the first step, though the last product has other paths."""
    source, model = small(before, network), small(after, network, seed=1)
    shared = [*sorted({*before} & {*after}), "forces"]
    expected = energies_and_dipoles(source, shared, {})
    assert abs(energies_and_dipoles(model, shared, {})["energy"] - expected["energy"]) > 1e-3
    assert take_over(model, source) == []
    found = energies_and_dipoles(model, shared, {})
    for name in shared:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("added", [FIELD, MOMENTS])
def test_inputs_that_are_new_change_nothing_at_first(network: dict[str, Any], added: Input) -> None:
    """Vectors bring paths of their own into messages and products: they have no effect before the first step."""
    if added is MOMENTS:
        network = {**network, "product": {**network.get("product", {}), "kind": "recursive"}, "odd_products": True}
    source, model = small(["energy"], network), small(["energy"], network, [added], seed=1)
    expected = energies_and_dipoles(source, ["energy", "forces"], {})
    assert take_over(model, source) == []
    value = torch.full((6 if added is MOMENTS else 1, 3), 0.3, dtype=torch.float64)
    found = energies_and_dipoles(model, ["energy", "forces"], {added.name: value})
    torch.testing.assert_close(found["forces"], expected["forces"], rtol=0, atol=1e-10)
    model.train().requires_grad_(True)
    energies_and_dipoles(model, ["energy"], {added.name: value})["energy"].sum().backward()
    gradients = [p.grad for name, p in model.named_parameters() if "embeddings" in name and p.grad is not None]
    assert any(gradient.abs().max() > 0.0 for gradient in gradients)  # they learn


def leveled(values: tuple[str, ...], mode: Any, seed: int) -> Potential:
    return small(["energy"], {}, [Input("fidelity", "structure", "", +1, "", Fidelity(values, mode))], seed)


@pytest.mark.parametrize("mode", ["embedding", "heads", "both"])
def test_levels_are_found_by_their_names(mode: Any) -> None:
    source, model = leveled(("pbe", "scan"), mode, 0), leveled(("b3lyp", "scan", "pbe"), mode, 1)
    expected = [
        energies_and_dipoles(source, ["energy"], {"fidelity": torch.tensor([k])})["energy"] for k in range(2)
    ]
    assert take_over(model, source) == []
    found = [energies_and_dipoles(model, ["energy"], {"fidelity": torch.tensor([k])})["energy"] for k in range(3)]
    torch.testing.assert_close(found[1:], expected[::-1], rtol=0, atol=1e-10)


def test_new_levels_begin_as_the_first_or_as_the_one_that_is_named() -> None:
    for mode in ("embedding", "both"):
        source, model = leveled(("pbe", "scan"), mode, 0), leveled(("ccsd", "mp2"), mode, 1)
        expected = [
            energies_and_dipoles(source, ["energy"], {"fidelity": torch.tensor([k])})["energy"] for k in range(2)
        ]
        assert take_over(model, source, {"ccsd": "scan"}) == []
        found = [energies_and_dipoles(model, ["energy"], {"fidelity": torch.tensor([k])})["energy"] for k in range(2)]
        torch.testing.assert_close(found, expected[::-1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", ["embedding", "heads"])
@pytest.mark.parametrize(
    "network", [*NETWORKS, {"radial": {"elements": True}}, {"product": {"elements": False}}], ids=str
)
def test_models_for_other_elements_predict_the_same_of_those_that_stay(network: dict[str, Any], mode: Any) -> None:
    level = Input("fidelity", "structure", "", +1, "", Fidelity(("pbe", "scan"), mode))
    source = small(["energy", "dipole"], network, [level])
    value = {"fidelity": torch.tensor([1])}
    expected = energies_and_dipoles(source, ["energy", "forces", "dipole"], value)
    for elements, like in (((1, 6, 7, 8, 9), {7: 8}), ((1, 6, 7, 8), {})):
        wider = with_elements(source, elements, like)
        assert wider.elements == elements
        narrower = with_elements(wider, (1, 6, 8), {}).eval()
        for model in (wider.eval(), narrower):
            found = energies_and_dipoles(model, ["energy", "forces", "dipole"], value)
            for name, tensor in expected.items():
                torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-12)


def test_a_model_without_levels_gives_each_level_its_energies() -> None:
    source, model = small(["energy"], {}), leveled(("pbe", "scan"), "heads", 1)
    expected = energies_and_dipoles(source, ["energy"], {})["energy"]
    assert take_over(model, source) == []
    for level in range(2):
        found = energies_and_dipoles(model, ["energy"], {"fidelity": torch.tensor([level])})["energy"]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_what_is_new_and_what_is_dropped_is_said(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    def change(atoms: Atoms) -> dict[str, Any]:
        return {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "charges": 0.1 * atoms.numbers}

    data = {"train": relabelled(alloys, tmp_path / "charges.extxyz", change)}
    charges = {"energy": {}, "charges": {}}
    sections = {"training": {"epochs": 1}, "data": data}
    first = train(configure(**sections, output=str(tmp_path / "a"), properties=charges), console=QUIET).model
    for start, properties, said in ((first, {"energy": {}}, "dropped: charges"), (None, charges, "new: charges")):
        shown, output = io.StringIO(), tmp_path / f"to {said[:3]}"
        start = start or tmp_path / "to dro" / BEST
        config = configure(**sections, output=str(output), properties=properties, start=str(start))
        train(config, console=Console(file=shown, width=1000))
        assert f"starts from {start}; {said}" in shown.getvalue()
