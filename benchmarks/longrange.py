"""Cost of electrostatics: its share in energy and forces of water, and its growth with the number of atoms.

    python -m benchmarks.longrange --output docs/images/longrange.svg

prints both and draws the second: seconds for energy and forces of fixed charges of water, by explicit sums and by a
particle mesh. Seconds are those of the processor on one thread, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ase
import numpy as np
import torch

from carten.data.neighbours import graph
from carten.model.config import NetworkConfig
from carten.physics.charges import LesConfig
from carten.physics.ewald import Ewald, ewald_energies
from carten.physics.pairs import Multipoles
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.workflows.systems import find_system

CHARGES = {8: -0.8, 1: 0.4}
EXPLICIT_UP_TO = 6000


def seconds(run: Callable[[], object], least: int = 3, budget: float = 2.0) -> float:
    """Processor seconds of the fastest of several runs, after a warm-up."""
    run()
    found: list[float] = []
    while len(found) < least or sum(found) < budget:
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
        if found[-1] > budget:
            break
    return min(found)


def of_a_model(atoms: ase.Atoms, dtype: torch.dtype) -> tuple[float, float]:
    """Seconds for energy and forces of the default network, without and with latent charges."""
    rows = [property_table()[name] for name in ("energy", "forces")]
    found = []
    for terms in ((), (LesConfig(),)):
        model = Potential(NetworkConfig(), (1, 8), rows, 40.0, terms=terms).to(dtype).freeze()
        one = graph(atoms, model.cutoff)
        found.append(seconds(lambda model=model, one=one: model(one, ("energy", "forces"))))  # type: ignore[misc]
    return found[0], found[1]


def of_charges(atoms: ase.Atoms, method: str) -> float:
    """Seconds for energy and forces of fixed charges."""
    one = graph(atoms, 1.2)
    charges = torch.tensor([[CHARGES[z]] for z in atoms.numbers], dtype=torch.float64)
    how = Ewald(1.0, accuracy=1e-4, method="mesh" if method == "mesh" else "explicit")

    def run() -> None:
        positions = one.positions.clone().requires_grad_()
        moved = type(one)(**{**vars(one), "positions": positions})
        total = ewald_energies(Multipoles(charges), moved, one.edge_vectors(), how).sum()
        torch.autograd.grad(total, positions)

    return seconds(run, 1, 1.0)


def scaling(largest: int) -> list[tuple[int, str, float]]:
    """Atoms, method and seconds, of cubic cells of 192 atoms repeated."""
    found = []
    for repeat in (1, 2, 3, 4, 5, 6, 8):
        atoms = find_system("water:64").repeat(repeat)
        if len(atoms) > largest:
            break
        for method in ("explicit", "mesh"):
            if method == "mesh" or len(atoms) <= EXPLICIT_UP_TO:
                found.append((len(atoms), method, of_charges(atoms, method)))
                print(*found[-1], flush=True)
    return found


def draw(found: Sequence[tuple[int, str, float]], path: Path) -> None:
    """Seconds against atoms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.5), layout="constrained")
    axes = figure.subplots()
    for method in ("explicit", "mesh"):
        atoms, times = np.array([(n, t) for n, name, t in found if name == method]).T
        axes.loglog(atoms, times, "o-", label={"explicit": "explicit sum", "mesh": "particle mesh"}[method])
    n = np.array([atoms[0], atoms[-1]], dtype=float)
    line = n * np.log(n)
    axes.loglog(n, line / line[-1] * times[-1], "k:", label="N log N")
    axes.set(xlabel="atoms", ylabel="processor seconds for energy and forces")
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="a picture of the scaling")
    parser.add_argument("--largest", type=int, default=100_000, help="atoms")
    parser.add_argument("--only", choices=["model", "scaling"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only != "scaling":
        for dtype in (torch.float32, torch.float64):
            without, with_term = of_a_model(find_system("water:64"), dtype)
            share = 100 * (with_term / without - 1)
            print(f"192 atoms, {dtype}: {1e3 * without:.1f} ms, with les {1e3 * with_term:.1f} ms, {share:.1f} % more")
    if options.only != "model":
        found = scaling(options.largest)
        if options.output is not None:
            draw(found, options.output)


if __name__ == "__main__":
    main()
