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
def cuts(triton_device):
    """Numbers of rows of the parts of a batch, to be computed together and apart.

    The interpreter multiplies in NumPy, whose rounding of a row depends on the row's place in its tile: there,
    parts begin where tiles of up to 64 rows do.
    """
    return (1, 0, 5, 48, 63, 14) if triton_device.type == "cuda" else (64, 0, 128, 5)


def _evaluate(function, tensors, backend, *, gradients):
    leaves = [tensor.clone().requires_grad_(gradients) for tensor in tensors]
    results = function(leaves, backend)
    if not gradients:
        return list(results)
    total = sum(
        (
            result
            * torch.linspace(-1.0, 2.0, result.numel(), dtype=result.dtype)
            .view_as(result)
            .to(result.device)
        ).sum()
        for result in results
    )
    return list(torch.autograd.grad(total, leaves))


# Root mean square error over root mean square, through at most ten products one after the other (a forward
# and its backward), each with two rounded factors: sqrt(20) times a factor's largest rounding error, 2^-10 in
# TF32 (cut off) and 2^-9 in bf16, twice for the norms between. Split factors keep 16 bits.
PRODUCT_BOUNDS = {"tf32": 2 * 20**0.5 * 2**-10, "bf16": 2 * 20**0.5 * 2**-9, "fp32": 1e-4}


@pytest.fixture
def check_product_precision():
    """Return a function that holds an op's results and gradients to the bound of a precision."""

    def check(function, tensors, precision, device):
        def compute(leaves, backend):
            return function(leaves, backend, precision if backend == "triton" else "ieee")

        for gradients in (False, True):
            found = _evaluate(
                compute, [each.to(device) for each in tensors], "triton", gradients=gradients
            )
            exact = _evaluate(
                compute, [each.double() for each in tensors], "reference", gradients=gradients
            )
            for index, (ours, reference64) in enumerate(zip(found, exact, strict=True)):
                error = (ours.cpu().double() - reference64).square().mean().sqrt()
                relative = float(error / reference64.square().mean().sqrt())
                assert relative <= PRODUCT_BOUNDS[precision], (gradients, index, relative)
                # Exact products in place of rounded ones would pass, too.
                assert gradients or relative > 1e-6, (index, relative)

    return check


@pytest.fixture
def check_draws():
    """Return a function that holds an op to the tolerance over several draws of its inputs."""

    def check(function, draws, *, gradients, backend="native", device="cpu"):
        dtype = draws[0][0].dtype
        kernel, plain, exact = (
            [
                _evaluate(
                    function,
                    [tensor.to(each_device, each_dtype) for tensor in tensors],
                    each_backend,
                    gradients=gradients,
                )
                for tensors in draws
            ]
            for each_dtype, each_backend, each_device in (
                (dtype, backend, device),
                (dtype, "reference", "cpu"),
                (torch.float64, "reference", "cpu"),
            )
        )
        for index in range(len(kernel[0])):
            ours, theirs, reference64 = (
                torch.stack([results[index] for results in each]) for each in (kernel, plain, exact)
            )
            check_draws_against_reference(ours, theirs, reference64, name=f"tensor {index}")

    return check
