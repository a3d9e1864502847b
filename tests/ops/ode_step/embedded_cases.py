"""Inputs of embedded steps."""

from types import SimpleNamespace

import torch

from tito_fast.ops import embedded_ode_step

# The last row of Dormand and Prince's tableau, and what it differs by from the row of order 4.
DORMAND_PRINCE = (
    [35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0],
    [71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40],
)
HEUN_EULER = ([0.5, 0.5], [-0.5, 0.5])
SIZES = [[1], [63], [64], [65], [129], [1000], [0, 5, 0, 1, 7, 0], [17] * 20, [0], []]


def make_case(sizes, *, pair=DORMAND_PRINCE, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_atoms = sum(sizes)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weights, error_weights = pair
    return SimpleNamespace(
        positions=draw(n_atoms, 3) + 1.0,
        velocities=draw(len(weights), n_atoms, 3),
        step={
            "weights": weights,
            "error_weights": error_weights,
            "step_sizes": (0.05 + 0.2 * draw(len(sizes)).abs()),
            "absolute_tolerance": 1e-3,
            "relative_tolerance": 1e-2,
            "batch_ptr": torch.tensor([0, *sizes]).cumsum(0),
        },
    )


def run(case, **options):
    return embedded_ode_step(case.positions, case.velocities, **(case.step | options))


def in_float64(case):
    step = case.step | {"step_sizes": case.step["step_sizes"].double()}
    return SimpleNamespace(
        positions=case.positions.double(), velocities=case.velocities.double(), step=step
    )
