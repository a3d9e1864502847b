"""The hand-written CUDA kernels against their definition in plain PyTorch, and Triton where it has a kernel.

Errors are held to the rule of :mod:`benchmarks.gpu_report_ops`. On ``--device cpu`` native is the C++ kernel.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.gpu_report_cases import Absent, Case, Check, Lab, Result
from benchmarks.gpu_report_graphs import graph_cases
from benchmarks.gpu_report_ops import (
    Draw,
    Make,
    OpRun,
    Work,
    center_work,
    ode_step_work,
    philox_work,
)
from tito_fast import ops
from tito_fast.ops.resolve import backend_problem

Size = tuple[int, int, int]


def couple_work(draw: Draw, n: int, b: int, width: int, *, plan: str) -> Work:
    del width
    batch_ptr = n * torch.arange(b + 1, device=draw.device)
    x_0, x_1 = draw.normal(n * b, 3), draw.normal(n * b, 3)
    return Work(
        lambda backend, _: [
            ops.ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan=plan, backend=backend)
        ],
        n_bytes=36.0 * n * b,
    )


def noisy_step_work(draw: Draw, n: int, b: int, width: int, *, n_stages: int) -> Work:
    del width
    molecules = torch.arange(b, device=draw.device)
    batch_ptr = n * torch.arange(b + 1, device=draw.device)
    positions, velocities = draw.normal(n * b, 3), draw.normal(n_stages, n * b, 3)
    return Work(
        lambda backend, _: [
            ops.noisy_ode_step(
                positions,
                velocities,
                weights=[0.5] * n_stages,
                step_size=0.05,
                noise_scale=0.2,
                keys=molecules + 1,
                replicas=molecules,
                rollout_step=3,
                stream_evaluation=5,
                batch_ptr=batch_ptr,
                backend=backend,
            )
        ],
        n_bytes=12.0 * (2 + n_stages) * n * b,
    )


def embedded_step_work(draw: Draw, n: int, b: int, width: int, *, n_stages: int) -> Work:
    del width
    batch_ptr = n * torch.arange(b + 1, device=draw.device)
    positions, velocities = draw.normal(n * b, 3), draw.normal(n_stages, n * b, 3)
    step_sizes = 0.05 + 0.01 * draw.normal(b).abs()
    return Work(
        lambda backend, _: list(
            ops.embedded_ode_step(
                positions,
                velocities,
                weights=[1 / n_stages] * n_stages,
                error_weights=[1.0, -1.0, *[0.0] * (n_stages - 2)],
                step_sizes=step_sizes,
                absolute_tolerance=1e-3,
                relative_tolerance=1e-2,
                batch_ptr=batch_ptr,
                backend=backend,
            )
        ),
        n_bytes=12.0 * (2 + n_stages) * n * b,
    )


@dataclass(frozen=True)
class Kernel:
    """One operation with its options: what is timed on which sizes (atoms, molecules, features)."""

    op: str
    options: str
    make: Make
    sizes: tuple[Size, ...]
    quick_sizes: tuple[Size, ...] = ((3, 2, 8),)


SMALL = ((20, 1024, 64),)
COUPLED = ((20, 1024, 0), (128, 64, 0))
KERNELS = (
    # Stages of Euler and midpoint, of Heun and Adams-Bashforth, and of Runge-Kutta; further ones of the kernel.
    *(
        Kernel("ode_step", f"stages={k}", partial(ode_step_work, n_stages=k), SMALL)
        for k in (1, 2, 3, 4, 6)
    ),
    Kernel("noisy_ode_step", "stages=1", partial(noisy_step_work, n_stages=1), SMALL),
    *(
        Kernel("embedded_ode_step", f"stages={k}", partial(embedded_step_work, n_stages=k), SMALL)
        for k in (2, 4, 7)
    ),
    Kernel("center", "", center_work, SMALL),
    Kernel("ot_couple", "plan=r", partial(couple_work, plan="r"), COUPLED),
    Kernel("ot_couple", "plan=pr", partial(couple_work, plan="pr"), COUPLED),
    Kernel("philox_normal", "", philox_work, SMALL),
)
CODES = {"native": "native", "triton": "triton", "torch": "eager"}


@dataclass(frozen=True)
class KernelRun:
    """One kernel at one size by one code."""

    kernel: Kernel
    size: Size
    code: str

    def __call__(self, lab: Lab) -> Result:
        problem = backend_problem(self.kernel.op, CODES[self.code], lab.device.type)
        if problem:
            raise Absent(problem)
        return OpRun(
            self.kernel.make,
            self.size,
            CODES[self.code],
            "ieee",
            "forward",
            keeps_expected=True,
            # PyTorch's version may wait for the device.
            can_capture=self.code != "torch",
        )(lab)


def randn_run(lab: Lab, *, count: int) -> Result:
    """Time torch's own normals, which depend on the order of the calls, and check their moments."""

    def call() -> torch.Tensor:
        return torch.randn(count, device=lab.device)

    timing = lab.clock.time([call], can_capture=True)
    normals = call().double()
    mean, variance = float(normals.mean()), float(normals.square().mean())
    checks = [
        Check("mean", abs(mean), 6 / math.sqrt(count)),
        Check("mean square less 1", abs(variance - 1), 6 * math.sqrt(2 / count)),
    ]
    return Result(timing.figures(), checks)


def kernel_cases(lab: Lab) -> Iterator[Case]:
    """Yield the cases of all CUDA kernels."""
    yield from graph_cases(lab)
    for kernel in KERNELS:
        for size in kernel.quick_sizes if lab.is_quick else kernel.sizes:
            conditions = f"{size[0]} x {size[1]}"
            conditions += f", {kernel.options}" if kernel.options else ""
            for code in CODES:
                yield _case(kernel.op, conditions, code, KernelRun(kernel, size, code))
    n_atoms, n_molecules, width = KERNELS[-1].quick_sizes[0] if lab.is_quick else SMALL[0]
    draw = partial(randn_run, count=3 * width * n_atoms * n_molecules)
    yield _case("philox_normal", f"{n_atoms} x {n_molecules}", "torch.randn", draw)


def _case(op: str, conditions: str, code: str, run) -> Case:
    return Case(
        name=f"{op} {conditions} {code}",
        kind="kernel",
        about={"op": op, "conditions": conditions, "code": code},
        importance=3 if code == "native" else 5,
        seconds=4.0,
        run=run,
    )
