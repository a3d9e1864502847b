"""Public function of the op ``noisy_ode_step``."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tito_fast.ops.ode_step import native
from tito_fast.ops.ode_step.checks import check_finite, check_per_molecule, check_step
from tito_fast.ops.ode_step.reference import noisy_ode_step_reference
from tito_fast.ops.philox_normal import check_replicas, check_word
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import check_batch_ptr


def noisy_ode_step(  # noqa: PLR0913, a step and the numbers of its noise
    positions: Tensor,
    velocities: Tensor,
    *,
    weights: Sequence[float],
    step_size: float,
    noise_scale: float,
    keys: Tensor,
    replicas: Tensor,
    rollout_step: int,
    stream_evaluation: int,
    batch_ptr: Tensor,
    center: bool = True,
    backend: Backend = "auto",
) -> Tensor:
    """Advance positions by a weighted sum of stage velocities and by noise, and center each molecule.

    ``moved = positions + step_size * sum_k weights[k] * velocities[k] + noise_scale * z``; with
    ``center``, the result is ``moved_i - mean_{j in molecule(i)} moved_j``. The standard normals ``z`` of
    molecule m are the ``3 n_m`` values, atom by atom, that :func:`tito_fast.ops.philox_normal` draws for
    a row with ``keys[m]``, ``replicas[m]`` and the two step numbers.

    This is the step of samplers of stochastic equations: of Euler-Maruyama with
    ``noise_scale = g(t) sqrt(step_size)``, of ancestral sampling with the standard deviation of the posterior.

    Parameters
    ----------
    positions
        (n_atoms, 3) float32 or float64, any length unit.
    velocities
        (n_stages, n_atoms, 3), dtype of ``positions``; 1 to 8 stages.
    weights
        n_stages numbers.
    step_size
        Length of the step in the unit of time that ``velocities`` are per.
    noise_scale
        Standard deviation of the noise, in the unit of ``positions``.
    keys
        (n_molecules,) int64, 64-bit keys.
    replicas
        (n_molecules,) int64, 0 to 2**32 - 1.
    rollout_step, stream_evaluation
        0 to 2**32 - 1.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    center
        Subtract each molecule's mean position, the noise's with it.
    backend
        ``auto``, ``native``, ``reference`` or ``eager`` (the same as ``reference``); there is no Triton kernel.

    Returns
    -------
    Tensor
        (n_atoms, 3), a new tensor.

    Raises
    ------
    ValueError
        A shape or a number is wrong. The contents of ``batch_ptr`` and ``replicas`` are checked on CPU
        tensors; on CUDA tensors that would wait for the device, and rows outside the arrays are left out
        instead.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Native: one launch on CUDA, the mean in double; the noise is never in memory. The normals have the same
    bits on CPU and CUDA, the reference's differ from them by an ulp at most (they are float32, in float64
    too); what is not centred has the same bits on CPU and CUDA.
    No synchronisation; CUDA graphs yes, of which all numbers here are constants, those of the noise
    included: a replay draws the same noise, unless ``keys`` or ``replicas`` are written in between.
    Deterministic, and bitwise independent of the batch and of the number of threads. Differentiable in
    ``positions`` and ``velocities``, any number of times, as :func:`tito_fast.ops.ode_step`, whose backward
    this is.

    References
    ----------
    Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, eq. 10.2.4
    (Euler-Maruyama), doi:10.1007/978-3-662-12616-5; Ho et al., Denoising diffusion probabilistic models,
    algorithm 2 (ancestral sampling), arXiv:2006.11239.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import noisy_ode_step
    >>> one = torch.ones(1, dtype=torch.int64)
    >>> moved = noisy_ode_step(
    ...     torch.zeros(2, 3),
    ...     torch.ones(1, 2, 3),
    ...     weights=[1.0],
    ...     step_size=0.5,
    ...     noise_scale=0.1,
    ...     keys=one,
    ...     replicas=one,
    ...     rollout_step=0,
    ...     stream_evaluation=0,
    ...     batch_ptr=torch.tensor([0, 2]),
    ... )
    >>> torch.allclose(moved.mean(dim=0), torch.zeros(3), atol=1e-6)
    True
    """
    check_step(positions, velocities, weights, batch_ptr)
    check_finite("step_size", step_size)
    check_finite("noise_scale", noise_scale)
    check_per_molecule("keys", keys, torch.int64, batch_ptr)
    check_per_molecule("replicas", replicas, torch.int64, batch_ptr)
    check_word("rollout_step", rollout_step)
    check_word("stream_evaluation", stream_evaluation)
    implementation = resolve_backend("noisy_ode_step", backend, positions.device)
    if implementation == "reference" and batch_ptr.device.type == "cpu":
        check_batch_ptr(batch_ptr, positions.shape[0])
        check_replicas(replicas)
    function = (
        native.noisy_ode_step_native if implementation == "native" else noisy_ode_step_reference
    )
    return function(
        positions,
        velocities,
        [float(weight) for weight in weights],
        float(step_size),
        float(noise_scale),
        keys,
        replicas,
        rollout_step,
        stream_evaluation,
        batch_ptr,
        center,
    )
