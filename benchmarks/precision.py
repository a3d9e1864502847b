"""What rounding the factors of products does to the shipped model: its velocity, and the torsions of its trajectories.

    python -m benchmarks.precision --out docs/benchmarks/precision.json --page docs/precision.md

Needs no GPU: each precision of the Triton kernels is emulated on ``eager`` (``benchmarks/precision_products.py``).
About fifteen minutes on one core; with ``--quick`` seconds, and it says nothing. ``--join`` takes an earlier run.
"""

import argparse
import json
import math
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.precision_page import page
from benchmarks.precision_products import emulated
from tito_fast._extension import build_info
from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import Molecule
from tito_fast.data.readers import from_smiles
from tito_fast.data.torsions import rotatable_torsions, torsion_angles, torsion_jsd
from tito_fast.errors import BackendUnavailableError
from tito_fast.models.load import load_model
from tito_fast.models.tito.model import TitoModel
from tito_fast.precision import forward_precision
from tito_fast.rollout.chunk import Chunk, Row
from tito_fast.rollout.config import RolloutConfig
from tito_fast.types import Backend, Precision

MODEL = "smallmol"
# Of its validation molecules, which it never saw, those of most torsions.
MOLECULES = ("CC(C)OCCCN", "C=CCOC(=O)[C@@H](C)O", "CCOC(C)(C)C", "CC(C)(C(=O)O)C(=O)O")
LAG_PS = 100.0
N_ODE_STEPS = 20
# Of the exact rollouts beside the first: what two of them differ by is the floor.
SEEDS = (1, 2, 3)


class Mode(NamedTuple):
    """One way to compute."""

    name: str
    backend: Backend
    products: str | None = None  # None: as the backend has them
    precision: Precision = "fp32"

    def products_context(self) -> AbstractContextManager[object]:
        return nullcontext() if self.products is None else emulated(self.products)


EMULATED = tuple(
    Mode(f"{products} (emulated)", "eager", products) for products in ("fp32", "tf32", "bf16")
)
EXACT = Mode("float32, `native`", "native")
MODES = (
    Mode("ieee (emulated)", "eager", "ieee"),
    *EMULATED,
    Mode("tf32 rounded to nearest (emulated)", "eager", "tf32-nearest"),
    EXACT,
    Mode("bf16, `native`", "native", precision="bf16"),
    Mode("bf16, `eager` in autocast", "eager", precision="bf16"),
)


class Size(NamedTuple):
    """How much is drawn."""

    n_states: int
    n_replicas: int
    n_steps: int


def molecules() -> list[Molecule]:
    return [from_smiles(smiles) for smiles in MOLECULES]


def roll_out(model: TitoModel, molecule: Molecule, mode: Mode, size: Size, *, seed: int) -> Any:
    """Return positions (n_steps, n_replicas, n_atoms, 3), nm, without the start."""
    config = RolloutConfig(
        lag_times_ps=(LAG_PS,),
        n_rollout_steps=size.n_steps,
        n_replicas=size.n_replicas,
        n_ode_steps=N_ODE_STEPS,
        seed=seed,
        precision=mode.precision,
        backend=mode.backend,
    )
    rows = [Row(0, molecule, replica) for replica in range(size.n_replicas)]
    scaled = torch.as_tensor(molecule.positions).repeat(size.n_replicas, 1)
    scaled = (scaled / model.info.length_unit_nm).to(model.dtype)
    with mode.products_context():
        steps = Chunk(model, rows, config).run(scaled, first_step=0, last_step=size.n_steps)
        frames = torch.stack(list(steps))
    frames = frames.view(size.n_steps, size.n_replicas, molecule.n_atoms, 3)
    return (frames.double() * model.info.length_unit_nm).numpy()


class States:
    """Inputs of the velocity as a rollout meets them: a state, a state one lag later, any time and noise."""

    def __init__(self, model: TitoModel, molecule: Molecule, frames: Any, n: int) -> None:
        rng = np.random.default_rng(0)
        step = rng.integers(len(frames) - 1, size=n)
        replica = rng.integers(frames.shape[1], size=n)
        scaled = frames / model.info.length_unit_nm
        self.batch = MoleculeBatch.from_molecules([molecule] * n)
        self.current = self._float32(scaled[step, replica])
        later, t = scaled[step + 1, replica], rng.random((n, 1, 1))
        noise = rng.standard_normal(later.shape)
        noise -= noise.mean(axis=1, keepdims=True)
        self.x_t = self._float32((1 - t) * noise + t * later)
        self.flow_time = torch.as_tensor(t.ravel()).float()
        self.lag_time_ps = torch.as_tensor(rng.uniform(1, LAG_PS, size=n)).float()

    @staticmethod
    def _float32(frames: Any) -> Tensor:
        return torch.as_tensor(frames).float().reshape(-1, 3)

    @torch.no_grad()
    def velocity(self, model: TitoModel, mode: Mode) -> Tensor:
        dtype = model.dtype
        with ExitStack() as contexts:
            contexts.enter_context(forward_precision(mode.precision, model.device))
            contexts.enter_context(mode.products_context())
            prepared = model.prepare(self.batch, backend=mode.backend)
            conditioning = model.condition(prepared, self.current.to(dtype))
            return model.velocity(
                prepared,
                conditioning,
                self.x_t.to(dtype),
                self.flow_time.to(dtype),
                self.lag_time_ps.to(dtype),
                # The shipped model's condition hands them over.
                vectors=None,
            ).double()


def velocity_errors(
    model: TitoModel, exact: TitoModel, states: list[States]
) -> list[dict[str, Any]]:
    """Return each mode's error against float64, over all molecules, relative to the velocity's rms."""
    expected = torch.cat([each.velocity(exact, Mode("float64", "eager")) for each in states])
    rms = expected.square().mean().sqrt()
    rows: list[dict[str, Any]] = []
    for mode in MODES:
        try:
            found = torch.cat([each.velocity(model, mode) for each in states])
        except BackendUnavailableError as error:
            rows.append({"mode": mode.name, "not_run": str(error)})
            continue
        error = (found - expected) / rms
        rows.append(
            {
                "mode": mode.name,
                "rms_error": error.square().mean().sqrt().item(),
                "largest_error": error.abs().max().item(),
            }
        )
    return rows


def torsions_of(
    model: TitoModel, molecule: Molecule, exact: dict[int, Any], size: Size
) -> dict[str, Any]:
    """Return the torsion JSD of each emulated precision to exact products, and that of other seeds."""
    torsions = rotatable_torsions(molecule)

    def jsd(a: Any, b: Any) -> list[float]:
        angles = [torsion_angles(f.reshape(-1, molecule.n_atoms, 3), torsions) for f in (a, b)]
        return torsion_jsd(*angles).tolist()

    first, *others = SEEDS
    row: dict[str, Any] = {
        "smiles": molecule.smiles,
        "n_atoms": molecule.n_atoms,
        "n_torsions": len(torsions),
        "n_frames": size.n_steps * size.n_replicas,
        "jsd_floor": [jsd(exact[0], exact[seed]) for seed in SEEDS],
        "modes": [],
    }
    for mode in (*EMULATED, Mode("bf16, `native`", "native", precision="bf16")):
        start = time.perf_counter()
        try:
            frames = roll_out(model, molecule, mode, size, seed=first)
        except BackendUnavailableError as error:
            row["modes"].append({"mode": mode.name, "not_run": str(error)})
            continue
        step = frames[0] - exact[first][0]
        row["modes"].append(
            {
                "mode": mode.name,
                "jsd_other_noise": [jsd(exact[seed], frames) for seed in (0, *others)],
                "jsd_same_noise": jsd(exact[first], frames),
                "rms_nm_after_one_step": math.sqrt((step**2).sum(-1).mean()),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    return row


def measure(size: Size) -> dict[str, Any]:
    """Return all figures."""
    torch.set_num_threads(1)
    model = load_model(MODEL)
    exact_model = load_model(MODEL).to(dtype=torch.float64)
    named = molecules()
    exact = [
        {seed: roll_out(model, each, EXACT, size, seed=seed) for seed in (0, *SEEDS)}
        for each in named
    ]
    states = [
        States(model, each, frames[0], size.n_states)
        for each, frames in zip(named, exact, strict=True)
    ]
    return {
        "how": "python -m benchmarks.precision, one thread",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "model": MODEL,
        "versions": {"torch": torch.__version__},
        "isa": build_info()["isa"],
        "lag_ps": LAG_PS,
        "n_ode_steps": N_ODE_STEPS,
        **size._asdict(),
        "velocity": velocity_errors(model, exact_model, states),
        "torsions": [
            torsions_of(model, each, frames, size)
            for each, frames in zip(named, exact, strict=True)
        ],
    }


def main() -> None:
    """Measure, or read what was measured, and write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--page", type=Path, required=True, help="Markdown page to write")
    parser.add_argument("--join", type=Path, help="JSON file of an earlier run")
    parser.add_argument("--quick", action="store_true", help="a few frames only")
    options = parser.parse_args()
    if options.join:
        results = json.loads(options.join.read_text("utf-8"))
    else:
        results = measure(Size(2, 2, 2) if options.quick else Size(32, 32, 24))
    options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    options.page.write_text(page(results, options.out, options.page), "utf-8")


if __name__ == "__main__":
    main()
