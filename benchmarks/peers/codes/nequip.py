"""NequIP: eager, compiled ahead of time (AOTInductor, inference), and compiled for training (torch.compile)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import chemical_symbols
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import get_latest_global_state, set_global_state

from benchmarks.peers.codes.common import as_array, read_first, training_step
from benchmarks.peers.settings import ELEMENTS, NEIGHBOURS, Array, Infer, Job, Settings, Train

OUTPUTS = [AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY]
SYMBOLS = [chemical_symbols[z] for z in ELEMENTS]


def infer(job: Job, atoms: Atoms) -> Infer:
    torch.set_num_threads(job.threads)
    data = _data(atoms, job.settings)
    if job.variant == "compiled":
        from nequip.model.inference_models import load_compiled_model

        network = load_compiled_model(str(_compiled(job)), torch.device("cpu"))[0]
    else:
        network = model(job.settings).eval().requires_grad_(False)

    def run() -> tuple[float, Array]:
        found = forward(network, data)
        return float(found[AtomicDataDict.TOTAL_ENERGY_KEY]), as_array(found[AtomicDataDict.FORCE_KEY])

    return run


def train(job: Job, frames: Sequence[Atoms]) -> Train:
    torch.set_num_threads(job.threads)
    network = model(job.settings, "compile" if job.variant == "compiled" else "eager").train()
    data = inputs(frames, job.settings)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = forward(network, data)
        return found[AtomicDataDict.TOTAL_ENERGY_KEY], found[AtomicDataDict.FORCE_KEY]

    return training_step(network.parameters(), predict, frames)


def forward(network: Any, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
    """Energy and forces."""
    found: AtomicDataDict.Type = network(dict(data))
    return found


def inputs(frames: Sequence[Atoms], size: Settings) -> AtomicDataDict.Type:
    """Structures as NequIP takes them."""
    found: AtomicDataDict.Type = AtomicDataDict.batched_from_list([_data(frame, size) for frame in frames])
    return found


def model(size: Settings, mode: str = "eager") -> Any:
    """A model of this size."""
    set_global_state(allow_tf32=False)
    return NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        compile_mode=mode,
        type_names=SYMBOLS,
        r_max=size.cutoff,
        num_layers=size.layers,
        l_max=size.l_features,
        parity=False,
        num_features=size.channels,
        radial_mlp_depth=2,
        radial_mlp_width=64,
        avg_num_neighbors=NEIGHBOURS,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )


def _data(atoms: Atoms, size: Settings) -> AtomicDataDict.Type:
    data = ChemicalSpeciesToAtomTypeMapper(SYMBOLS)(from_ase(atoms))
    data = NeighborListTransform(r_max=size.cutoff)(data)
    return {key: value.float() if value.is_floating_point() else value for key, value in data.items()}


def _compiled(job: Job) -> Path:
    """The compiled model, made once, by another process so that the memory it takes is not counted."""
    target = job.artefact("model.nequip.pt2")
    if not target.exists():
        subprocess.run([sys.executable, "-m", __name__, job.dump(), str(target)], check=True, stdout=sys.stderr)
    return target


def _compile(job: Job, target: Path) -> None:
    """What ``nequip-compile --mode aotinductor`` does, for a model that was never trained; energy and forces only."""
    from nequip.scripts._compile_utils import PAIR_NEQUIP_INPUTS, single_frame_data_settings
    from nequip.utils.aot import aot_export_model
    from nequip.utils.aoti_metadata import NEQUIP_AOTI_INPUTS_KEY, NEQUIP_AOTI_OUTPUTS_KEY, serialize_aoti_keys

    made = target.with_name(f"new-{target.name}")
    network = model(job.settings).eval()
    bound = {name: torch.export.Dim(f"num_{name}s", min=2) for name in ("node", "edge")}
    metadata = {**network.metadata, **get_latest_global_state(only_metadata_related=True)}
    metadata = {key: str(int(value)) if isinstance(value, bool) else value for key, value in metadata.items()}
    metadata[NEQUIP_AOTI_INPUTS_KEY] = serialize_aoti_keys(PAIR_NEQUIP_INPUTS)
    metadata[NEQUIP_AOTI_OUTPUTS_KEY] = serialize_aoti_keys(OUTPUTS)
    aot_export_model(
        model=network,
        device=torch.device("cpu"),
        input_fields=PAIR_NEQUIP_INPUTS,
        output_fields=OUTPUTS,
        data=single_frame_data_settings(_data(read_first(job), job.settings)),
        batch_map={**bound, "graph": torch.export.Dim.STATIC},
        output_path=str(made),
        inductor_configs={"aot_inductor.metadata": {key: str(value) for key, value in metadata.items()}},
    )
    made.rename(target)


if __name__ == "__main__":
    _compile(Job.load(sys.argv[1]), Path(sys.argv[2]))
