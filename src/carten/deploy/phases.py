"""Phases of a model: which operators of its circuits run together, on some rows or on a chunk of atoms.

A chunk is some consecutive atoms with all their edges. What a layer does is done for one chunk after the other, whose
arrays stay in the caches. Only what another phase reads is kept for all atoms: features, what atoms send to their
neighbours, and what the gradient of a layer needs. The last layer, the readouts and their gradient are one phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from carten.deploy.deviations import DEVIATIONS
from carten.ops.circuit import Circuit
from carten.ops.operators import Add, Operator, Run, Value, renamed
from carten.ops.reverse import gradient_name
from carten.ops.space import SCALAR
from carten.properties.planning import ENERGIES

HARMONICS = "harmonics"
GEOMETRY = ("unit", "fraction", "basis")
"""Arrays of edges that whoever runs the circuits makes, besides ``one``, and whose gradients are wanted."""
INDICES = ("element", "all_element", "structure", "all_structure", "zero")
SEEDS = {ENERGIES: "seed", DEVIATIONS: "seed of deviations"}
"""Gradients in the scalars that energies, and what members differ from them by, are read as."""


@dataclass(frozen=True)
class Circuits:
    """The circuits of a model, with weights under names that are unique in the model.

    Args:
        edges: from unit vectors to harmonics.
        start: features before the first layer.
        layers: of every layer.
        heads: from features of all layers to packed values, by property.
        embeddings: what inputs add to the initial features, and to messages.
    """

    edges: Circuit
    start: Circuit
    layers: tuple[Circuit, ...]
    heads: Mapping[str, Circuit]
    embeddings: tuple[Circuit, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Operators that lead from features to the packed parts of a property."""

    name: str
    operators: tuple[Operator, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    """Operators that run together.

    Args:
        name: of the phase.
        operators: run always.
        readings: then these, each only if it is asked for.
        gradient: then these, if gradients are asked for.
        edges: gradients of :data:`GEOMETRY` that the phase leaves, by name.
    """

    name: str
    operators: tuple[Operator, ...] = ()
    readings: tuple[Reading, ...] = ()
    gradient: tuple[Operator, ...] = ()
    edges: Mapping[str, str] | None = None

    @property
    def all(self) -> list[Operator]:
        """All operators."""
        return [*self.operators, *(o for reading in self.readings for o in reading.operators), *self.gradient]


@dataclass(frozen=True)
class Scheme:
    """The phases of a model in the order in which they run, and their values.

    Args:
        values: by name.
        structure: what depends on inputs of the structure alone.
        start: on all atoms: features before the first layer, and what is sent to neighbours in it.
        sends: for each layer, on all atoms: what they send, from the features; the first is part of ``start``.
        layers: on chunks; the last one with readouts, and its gradient.
        deviations: on chunks: the gradient of the last layer for members of an ensemble, where there are any.
        receives: for each layer, on all atoms: gradients of features from those of what they sent.
        backs: gradients of all layers but the last, on chunks.
        features: for each layer, the features that atoms send from; ghosts have to have them.
        returned: for each layer, their gradients; owners have to add those of ghosts.
        weights: names of values that are constants: weights, and tables of radial functions.
        input_names: values of inputs.
        categories: indices that are inputs: their number, whether each atom has one, and the number of categories.
    """

    values: Mapping[str, Value]
    structure: Phase
    start: Phase
    sends: Sequence[Phase]
    layers: Sequence[Phase]
    deviations: Sequence[Phase]
    receives: Sequence[Phase]
    backs: Sequence[Phase]
    features: Sequence[Sequence[str]]
    returned: Sequence[Sequence[str]]
    weights: frozenset[str] = frozenset()
    input_names: tuple[str, ...] = ()
    categories: Mapping[str, tuple[int, bool, int]] = field(default_factory=dict)

    @property
    def phases(self) -> list[Phase]:
        """All."""
        return [self.structure, self.start, *self.sends, *self.layers, *self.deviations, *self.receives, *self.backs]

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """Values that one phase writes and another reads, or other atoms."""
        writers: dict[str, set[str]] = {}
        for phase in self.phases:
            for name in (name for operator in phase.all for name in operator.writes):
                writers.setdefault(name, set()).add(phase.name)
        outside = {name for parts in (*self.features, *self.returned) for name in parts}
        names_found = dict.fromkeys(name for name in writers if name in outside or name in self.scattered)
        for phase in self.phases:
            reads = (name for operator in phase.all for name in operator.reads)
            names_found.update(dict.fromkeys(n for n in reads if n in writers and phase.name not in writers[n]))
        return tuple(names_found)

    @cached_property
    def scattered(self) -> tuple[str, ...]:
        """Values of all atoms that the edges of chunks add to."""
        runs = [o for phase in self.phases for o in phase.all if isinstance(o, Run) and o.sites == "edges"]
        return tuple(dict.fromkeys(n for run in runs for n in run.outputs if self.values[n].rows == "all"))


def gradient(name: str) -> str:
    """Name of a gradient in the derivative of a circuit."""
    return gradient_name(name, {})


def schedule(circuits: Circuits) -> Scheme:
    """The phases of a model."""
    return _Scheduler(circuits).run()


class _Scheduler:
    def __init__(self, circuits: Circuits) -> None:
        self.circuits = circuits
        self.n_layers = len(circuits.layers)
        self.values: dict[str, Value] = {}
        self.writers: dict[str, Operator] = {}
        self.contributions: dict[str, list[str]] = {}
        """For features of a layer, the parts of their gradient."""
        self.seeded: dict[str, list[Operator]] = {}
        """Gradients of readouts in features."""

    def run(self) -> Scheme:
        embeddings = [
            operator
            for n, circuit in enumerate(self.circuits.embeddings)
            for operator in self._add(circuit, f"embedding {n}:", self._embedding_names(circuit))
        ]
        self._add(self.circuits.edges, "edges:", {name: name for name in ("one", "unit", HARMONICS)})
        start = [*embeddings, *self._add(self.circuits.start, "start:", self._start_names())]
        layers = [self._add(circuit, f"{k}:", self._layer_names(k)) for k, circuit in enumerate(self.circuits.layers)]
        readings = tuple(self._reading(name, circuit) for name, circuit in self.circuits.heads.items())
        self.seeded = {name: self._seeded(name) for name in SEEDS if name in self.circuits.heads}
        gradients = [self._reverse(k) if self.seeded else [] for k in reversed(range(self.n_layers))][::-1]
        return self._phases(start, layers, readings, gradients)

    def _add(self, circuit: Circuit, prefix: str, names: Mapping[str, str]) -> list[Operator]:
        """Operators of a circuit; values are called as ``names`` says, else with a prefix; weights keep their names."""
        called = {value.name: names.get(value.name, f"{prefix}{value.name}") for value in circuit.by_name.values()}
        called.update({value.name: value.name for value in circuit.weights})
        for value in circuit.by_name.values():
            self.values.setdefault(called[value.name], replace(value, name=called[value.name]))
        operators = [renamed(operator, called.__getitem__) for operator in circuit.operators]
        self.writers.update({name: operator for operator in operators for name in operator.writes})
        return operators

    @staticmethod
    def _embedding_names(circuit: Circuit) -> dict[str, str]:
        inputs = {value.name: f"input/{value.name}" for value in circuit.inputs}
        return inputs | {name: name for name in circuit.outputs}

    def _start_names(self) -> dict[str, str]:
        circuit = self.circuits.start
        return {value.name: value.name for value in circuit.inputs} | {name: f"0/{name}" for name in circuit.outputs}

    def _layer_names(self, k: int) -> dict[str, str]:
        circuit = self.circuits.layers[k]
        names = {name: f"{k + 1}/{name}" for name in circuit.outputs}
        for value in circuit.inputs:
            kind, _, part = value.name.partition("/")
            called = {"all": f"{k}/{part}", "own": f"{k}/{part}", "added": f"added/{k}/{part}"}
            called |= {"all_moments": f"moments/{part}", "own_moments": f"moments/{part}"}
            named = f"{k}:{value.name}" if kind == "table" else value.name
            names[value.name] = called.get(kind, named) if part else named
        return names

    @staticmethod
    def _head_names(circuit: Circuit) -> dict[str, str]:
        """Features after layer K, ``K/PART``, are those before the next."""
        parts = [value.name.partition("/") for value in circuit.inputs]
        return {f"{layer}/{part}": f"{int(layer) + 1}/{part}" for layer, _, part in parts}

    def _reading(self, name: str, circuit: Circuit) -> Reading:
        operators = self._add(circuit, f"{name}:", self._head_names(circuit))
        return Reading(name, tuple(operators), tuple(f"{name}:{output}" for output in circuit.outputs))

    def _seeded(self, head_name: str) -> list[Operator]:
        """Operators of the gradient of a readout in the features; those of all readouts write to the same values."""
        head = self.circuits.heads[head_name]
        names = self._head_names(head)
        reverse = head.vjp(list(names), [SCALAR.name])
        called = {value.name: f"{head_name}:{value.name}" for value in reverse.inputs} | names
        called |= {gradient(source): f"d_head {target}" for source, target in names.items()}
        called[gradient(SCALAR.name)] = SEEDS[head_name]
        for source, target in names.items():
            if gradient(source) in reverse.outputs:
                self.contributions[target] = [f"d_head {target}"]
        return self._add(reverse, f"d {head_name}:", called)

    def _reverse(self, k: int) -> list[Operator]:
        circuit, sums = self.circuits.layers[k], []
        outputs = [output for output in circuit.outputs if f"{k + 1}/{output}" in self.contributions]
        seeds = {}
        for target in (f"{k + 1}/{output}" for output in outputs):
            shares = tuple(self.contributions[target])
            seeds[target] = shares[0] if len(shares) == 1 else f"d {target}"
            if len(shares) > 1:
                self.values[f"d {target}"] = replace(self.values[target], name=f"d {target}")
                sums.append(Add(shares, f"d {target}"))
        features = [value.name for value in circuit.inputs if k and value.name.partition("/")[0] in ("all", "own")]
        geometry = [value.name for value in circuit.inputs if value.name in (HARMONICS, *GEOMETRY)]
        reverse = circuit.vjp([*geometry, *features], outputs)
        names = {value.name: f"{k}:{value.name}" for value in reverse.inputs} | self._layer_names(k)
        names |= {gradient(output): seeds[f"{k + 1}/{output}"] for output in outputs}
        names |= {gradient(name): f"d_{name} {k}" for name in geometry}
        for name in features:
            kind, _, part = name.partition("/")
            names[gradient(name)] = f"d_{kind} {k}/{part}"
            if gradient(name) in reverse.outputs:
                self.contributions.setdefault(f"{k}/{part}", []).append(f"d_{kind} {k}/{part}")
        operators = self._add(reverse, f"d {k}:", names)
        turned = self.circuits.edges.vjp(["unit"], [HARMONICS])
        names = {value.name: f"edges:{value.name}" for value in turned.inputs} | {"one": "one", "unit": "unit"}
        names |= {HARMONICS: HARMONICS, gradient(HARMONICS): f"d_{HARMONICS} {k}", gradient("unit"): f"d_unit {k}"}
        if gradient(HARMONICS) in reverse.outputs:
            operators += self._add(turned, f"d edges {k}:", names)
        return [*sums, *operators]

    def _phases(
        self,
        start: Sequence[Operator],
        layers: Sequence[Sequence[Operator]],
        readings: tuple[Reading, ...],
        gradients: Sequence[Sequence[Operator]],
    ) -> Scheme:
        last = self.n_layers - 1
        available: set[str] = set()
        sends = [self._at(layer, "all") for layer in layers]
        structure = Phase("structure", self._at(start, "structures"))
        opening = Phase("start", (*self._at(start, "all"), *sends[0]))
        available.update(n for phase in (structure, opening) for o in phase.all for n in o.writes)
        available.update(n for send in sends for o in send for n in o.writes)
        forward, backs, deviations = [], [], []
        for k, layer in enumerate(layers):
            operators = self._with_missing(self._at(layer, "own", "edges"), available, ("own", "edges"))
            available.update(n for o in operators for n in o.writes if self._rows(o) == "own")
            backward, left = self._at(gradients[k], "own", "edges"), self._left(k)
            if k == last:
                if DEVIATIONS in self.seeded:
                    again = self._with_missing([*self.seeded[DEVIATIONS], *backward], available, ("own", "edges"))
                    deviations.append(Phase("deviations", (), (), again, left))
                backward = (*self.seeded.get(ENERGIES, ()), *backward)
                available.update(n for o in operators for n in o.writes)
                backward = self._with_missing(backward, available, ("edges",))
                forward.append(Phase(f"layer{k}", operators, readings, backward, left))
            else:
                forward.append(Phase(f"layer{k}", operators))
                if backward:
                    backs.append(Phase(f"back{k}", (), (), self._with_missing(backward, available, ("edges",)), left))
        receives = [Phase(f"receive{k}", self._at(gradient, "all")) for k, gradient in enumerate(gradients)]
        return Scheme(
            self.values,
            structure,
            opening,
            [Phase(f"send{k}", send if k else ()) for k, send in enumerate(sends)],
            forward,
            deviations,
            receives,
            backs,
            [[] if k == 0 else self._exchanged(layer, f"{k}/") for k, layer in enumerate(layers)],
            [[n for o in each.operators for n in o.writes if n.startswith("d_all ")] for each in receives],
            frozenset(
                name for name, value in self.values.items() if not isinstance(value.rows, str) or value.rows == "knots"
            ),
            tuple(dict.fromkeys(f"input/{v.name}" for circuit in self.circuits.embeddings for v in circuit.inputs)),
            self._categories(),
        )

    def _categories(self) -> dict[str, tuple[int, bool, int]]:
        names_found: dict[str, tuple[int, bool, int]] = {}
        for index in (index for circuit in self.circuits.embeddings for index in circuit.indices):
            if index.name not in INDICES and index.name not in names_found:
                names_found[index.name] = (len(names_found), index.sites != "structures", int(index.rows))
        return names_found

    def _rows(self, operator: Operator) -> str | int:
        """Rows an operator runs on."""
        return operator.sites if isinstance(operator, Run) else self.values[operator.writes[0]].rows

    def _at(self, operators: Iterable[Operator], *rows: str) -> tuple[Operator, ...]:
        return tuple(operator for operator in operators if self._rows(operator) in rows)

    def _left(self, k: int) -> dict[str, str]:
        names = {name: f"d_{name} {k}" for name in GEOMETRY}
        return {name: called for name, called in names.items() if called in self.writers}

    def _exchanged(self, layer: Sequence[Operator], prefix: str) -> list[str]:
        """Features that operators on all atoms, or edges, take from neighbours."""
        reads = [n for o in layer if self._rows(o) in ("all", "edges") for n in o.reads if n.startswith(prefix)]
        return list(dict.fromkeys(reads))

    def _with_missing(
        self, operators: Sequence[Operator], available: set[str], rows: Sequence[str]
    ) -> tuple[Operator, ...]:
        """Operators, and before them those on these rows that write what they read, unless it is there."""
        chosen: dict[int, Operator] = {}
        written = {name for operator in operators for name in operator.writes}

        def visit(operator: Operator) -> None:
            for name in operator.reads:
                writer = self.writers.get(name)
                if writer is None or name in available or name in written or id(writer) in chosen:
                    continue
                if self._rows(writer) in rows:
                    visit(writer)
            chosen[id(operator)] = operator

        for operator in operators:
            visit(operator)
        return tuple(chosen.values())
