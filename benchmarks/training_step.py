"""One training step that can be taken again and again, and the memory that it takes.

Run as a program it takes one step in a process of its own and writes the peak of its memory as JSON:
``python -m benchmarks.training_step --system tetrapeptide --replicas 2 --backend eager``.
"""

import argparse
import copy
import json
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.network import LENGTH_UNIT_NM, scaled_positions
from benchmarks.systems import N_ATOMS, System, system
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.batches import TrainingBatch, batch_loss
from tito_fast.training.config import OptimizerConfig
from tito_fast.training.optimization import clip_gradients, make_optimizer

SIGMA = 0.001
GRADIENT_LIMIT = 10.0
SMALLEST = system("mdqm9-like", 1)


def training_batch(system: System, n_features: int) -> TrainingBatch:
    """Return random pairs of ``system``, all noise drawn, in float32."""
    generator = torch.Generator().manual_seed(0)
    n_atoms, n = system.n_atoms * system.n_replicas, system.n_replicas
    positions = scaled_positions(system)
    return TrainingBatch(
        batch=system.batch(),
        scaled_current=positions,
        x_0=torch.randn(n_atoms, 3, generator=generator),
        x_1=positions + 0.3 * torch.randn(n_atoms, 3, generator=generator),
        flow_time=torch.rand(n, generator=generator),
        lag_time_ps=1000 * torch.rand(n, generator=generator),
        temperature_k=None,
        epsilon=torch.randn(n_atoms, 3, generator=generator),
        vectors=torch.randn(n_atoms, 3, n_features, generator=generator),
        share=1.0,
    )


class Step:
    """Forward, backward, clipping and Adam on the default network, from the same weights each time."""

    def __init__(
        self, system: System, n_features: int, backend: str, *, dtype: torch.dtype = torch.float32
    ) -> None:
        self.backend, self.n_features, self.dtype = backend, n_features, dtype
        self.model = TitoModel.create(
            TitoConfig(n_features=n_features), ModelInfo(length_unit_nm=LENGTH_UNIT_NM), seed=0
        ).to(dtype=dtype)
        self.optimizer = make_optimizer(OptimizerConfig(), self.model.network.parameters())
        self.start = copy.deepcopy(self.model.network.state_dict())
        self.draw(system)

    def draw(self, system: System) -> None:
        """Take the pairs of ``system`` from now on."""
        drawn = vars(training_batch(system, self.n_features))
        self.drawn = TrainingBatch(
            **{
                name: value.to(self.dtype) if isinstance(value, Tensor) else value
                for name, value in drawn.items()
            }
        )

    def reset(self) -> None:
        """Go back to the first weights."""
        self.model.network.load_state_dict(self.start)
        self.optimizer.zero_grad(set_to_none=True)

    def loss(self) -> Tensor:
        """Run the forward."""
        return batch_loss(self.model, self.drawn, sigma=SIGMA, backend=self.backend)

    def __call__(self) -> tuple[float, float]:
        """Take the step; return the loss and the norm of its gradient."""
        loss = self.loss()
        loss.backward()
        norm = clip_gradients(self.model.network.parameters(), limit=GRADIENT_LIMIT)
        self.optimizer.step()
        return loss.item(), norm.item()

    def saved_bytes(self) -> int:
        """Return what autograd keeps for the backward, each storage once, without the parameters."""
        parameters = {
            parameter.untyped_storage().data_ptr() for parameter in self.model.network.parameters()
        }
        kept = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                # Held, so that no other storage comes to have its address.
                kept[storage.data_ptr()] = storage
            return tensor.detach()

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self.loss()
        return sum(storage.nbytes() for storage in kept.values())


def peak_of_step(system: System, n_features: int, backend: str) -> dict[str, float]:
    """Return the peak of this process above what it holds before the step, and the step's loss.

    A step on one small molecule goes before, so that Adam's averages and the code itself are not counted.
    """
    step = Step(SMALLEST, n_features, backend)
    step()
    step.reset()
    step.draw(system)
    before = resident_bytes("VmRSS")
    loss, _ = step()
    peak = resident_bytes("VmHWM")
    return {"loss": loss, "peak_bytes": peak - before, "baseline_bytes": before}


def resident_bytes(field: str) -> int:
    """Return the memory that this process holds now (VmRSS), or held at most (VmHWM).

    Not ``getrusage``: its maximum counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status").read_text("ascii")
    (kibibytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(kibibytes)


def main() -> None:
    """Write the peak of one step as JSON to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--system", choices=N_ATOMS, required=True)
    parser.add_argument("--replicas", type=int, required=True)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--backend", required=True)
    options = parser.parse_args()
    case = system(options.system, options.replicas)
    sys.stdout.write(json.dumps(peak_of_step(case, options.features, options.backend)) + "\n")


if __name__ == "__main__":
    main()
