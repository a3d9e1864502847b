"""Inputs of noisy steps, and the step put together from other operations."""

from types import SimpleNamespace

import torch

from tito_fast.ops import center, noisy_ode_step, ode_step, philox_normal

WEIGHTS = [0.5, -1.25, 2.0, 0.125, 1.0, 3.0, -0.75, 0.3]
SIZES = [[1], [63], [64], [65], [129], [1000], [0, 5, 0, 1, 7, 0], [17] * 20, [0], []]


def make_case(sizes, *, n_stages=2, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_atoms, n_molecules = sum(sizes), len(sizes)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return SimpleNamespace(
        positions=3.0 + draw(n_atoms, 3),
        velocities=draw(n_stages, n_atoms, 3),
        step={
            "weights": WEIGHTS[:n_stages],
            "step_size": 0.05,
            "noise_scale": 0.3,
            "keys": torch.randint(-(2**63), 2**63 - 1, (n_molecules,), generator=generator),
            "replicas": torch.randint(0, 2**32, (n_molecules,), generator=generator),
            "rollout_step": 2**32 - 5,
            "stream_evaluation": 2**28 + 7,
            "batch_ptr": torch.tensor([0, *sizes]).cumsum(0),
        },
    )


def run(case, **options):
    return noisy_ode_step(case.positions, case.velocities, **(case.step | options))


def normals_of(case, backend):
    step = case.step
    return philox_normal(
        step["keys"],
        step["replicas"],
        3 * step["batch_ptr"].diff(),
        rollout_step=step["rollout_step"],
        stream_evaluation=step["stream_evaluation"],
        n_total=case.positions.numel(),
        backend=backend,
    ).view_as(case.positions)


def composed(case, *, is_centered=True, backend="reference", normals="native", dtype=None):
    """The step from ``ode_step``, ``philox_normal`` and ``center``, those of backend ``normals``."""
    dtype = dtype or case.positions.dtype
    names = ("weights", "step_size", "batch_ptr")
    moved = ode_step(
        case.positions.to(dtype),
        case.velocities.to(dtype),
        **{name: case.step[name] for name in names},
        center=False,
        backend=backend,
    )
    moved = moved + case.step["noise_scale"] * normals_of(case, normals).to(dtype)
    if not is_centered:
        return moved
    return center(moved, batch_ptr=case.step["batch_ptr"], backend=backend)
