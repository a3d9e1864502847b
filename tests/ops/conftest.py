from collections.abc import Iterator

import pytest
import torch

from tito_fast.ops import MlpParameters
from tito_fast.testing.tolerance import check_draws_against_reference


@pytest.fixture(autouse=True)
def fresh_memory_is_nan() -> Iterator[None]:
    """An element that a kernel forgot to write is then seen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def draw_parameters():
    """Return a function that draws an mlp whose hidden rows stay of order one."""

    def draw(sizes, generator, dtype):
        n_in, n_hidden, n_out = sizes

        def normal(*shape, mean=0.0, std=0.3):
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return (mean + std * drawn).to(dtype)

        def norm_and_bias():
            return normal(n_hidden), normal(n_hidden, mean=1.0), normal(n_hidden)

        return MlpParameters(
            normal(n_hidden, n_in, std=n_in**-0.5),
            *norm_and_bias(),
            normal(n_hidden, n_hidden, std=n_hidden**-0.5),
            *norm_and_bias(),
            normal(n_out, n_hidden, std=n_hidden**-0.5),
            normal(n_out),
        )

    return draw


@pytest.fixture
def check_draws():
    """Return a function that holds an op to the tolerance over several draws of its inputs."""

    def evaluate(function, tensors, dtype, backend, *, gradients):
        leaves = [tensor.to(dtype).clone().requires_grad_(gradients) for tensor in tensors]
        results = function(leaves, backend)
        if not gradients:
            return list(results)
        total = sum(
            (result * torch.linspace(-1.0, 2.0, result.numel(), dtype=dtype).view_as(result)).sum()
            for result in results
        )
        return list(torch.autograd.grad(total, leaves))

    def check(function, draws, *, gradients):
        dtype = draws[0][0].dtype
        kernel, plain, exact = (
            [
                evaluate(function, tensors, each_dtype, backend, gradients=gradients)
                for tensors in draws
            ]
            for each_dtype, backend in (
                (dtype, "native"),
                (dtype, "reference"),
                (torch.float64, "reference"),
            )
        )
        for index in range(len(kernel[0])):
            ours, theirs, reference64 = (
                torch.stack([results[index] for results in each]) for each in (kernel, plain, exact)
            )
            check_draws_against_reference(ours, theirs, reference64, name=f"tensor {index}")

    return check
