"""Where random numbers come from: counters or recorded tensors, behind one interface.

With counters the value of a random number follows from (seed, molecule, replica, rollout step, use, atom) alone, so a
trajectory does not depend on what else is in the batch, on chunks, devices or restarts.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from tito_fast.ops import philox_normal

# The last counter word is stream · 2²⁸ + evaluation.
_STREAM = 2**28
BASE_STREAM = 0
VECTOR_STREAM = 1
# Training has the streams 2 to 4.
DIFFUSION_STREAM = 5


def stream_evaluation(stream: int, evaluation: int) -> int:
    """Return the last counter word of an evaluation's numbers in a stream."""
    if not 0 <= evaluation < _STREAM:
        raise ValueError(f"evaluation: expected 0 to {_STREAM - 1}, got {evaluation}")
    return stream * _STREAM + evaluation


class NoiseSource(Protocol):
    """Standard normal values for one batch of (molecule, replica) rows."""

    def base(self, rollout_step: int) -> Tensor:
        """Return the base sample of a rollout step, (n_atoms, 3); not centred, not scaled."""
        ...

    def vector_start(self, rollout_step: int, evaluation: int) -> Tensor:
        """Return the vectors that an evaluation of the velocity starts from, (n_atoms, 3, n_features)."""
        ...

    def diffusion(self, rollout_step: int, evaluation: int) -> Tensor:
        """Return the noise that ancestral sampling adds after an evaluation, (n_atoms, 3)."""
        ...


class CounterNoise:
    """Philox-4x32-10 noise: every value is a function of its counter.

    Parameters
    ----------
    seed : int
        64 bits.
    noise_hashes : sequence of int, one per row
        ``Molecule.noise_hash`` of each row of the batch.
    replicas : sequence of int, one per row
        Number of the replica within its molecule.
    sizes : sequence of int, one per row
        Atoms of each row.
    n_features : int
        Channels of the vectors.
    device, dtype
        Of the results; the values are drawn in float32.

    References
    ----------
    Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC'11, doi:10.1145/2063384.2063405.
    """

    def __init__(
        self,
        seed: int,
        noise_hashes: Sequence[int],
        replicas: Sequence[int],
        *,
        sizes: Sequence[int],
        n_features: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: expected 0 to 2**64 - 1, got {seed}")
        keys = [_as_signed(seed ^ noise_hash) for noise_hash in noise_hashes]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device)
        self._replicas = torch.tensor(list(replicas), dtype=torch.int64, device=device)
        self._sizes = torch.tensor(list(sizes), dtype=torch.int64, device=device)
        self._n_atoms = sum(sizes)
        self._n_features = n_features
        self._dtype = dtype

    @property
    def keys(self) -> Tensor:
        """Keys of the rows, (n_rows,) int64: the seed and the molecule's hash."""
        return self._keys

    @property
    def replicas(self) -> Tensor:
        """Numbers of the rows' replicas, (n_rows,) int64."""
        return self._replicas

    def base(self, rollout_step: int) -> Tensor:
        """Return the base sample of a rollout step, (n_atoms, 3)."""
        return self._draw(3, rollout_step, stream_evaluation(BASE_STREAM, 0)).view(self._n_atoms, 3)

    def vector_start(self, rollout_step: int, evaluation: int) -> Tensor:
        """Return the vectors that an evaluation starts from, (n_atoms, 3, n_features)."""
        words = stream_evaluation(VECTOR_STREAM, evaluation)
        values = self._draw(3 * self._n_features, rollout_step, words)
        return values.view(self._n_atoms, 3, self._n_features)

    def diffusion(self, rollout_step: int, evaluation: int) -> Tensor:
        """Return the noise that ancestral sampling adds after an evaluation, (n_atoms, 3)."""
        words = stream_evaluation(DIFFUSION_STREAM, evaluation)
        return self._draw(3, rollout_step, words).view(self._n_atoms, 3)

    def _draw(self, per_atom: int, rollout_step: int, words: int) -> Tensor:
        values = philox_normal(
            self._keys,
            self._replicas,
            self._sizes * per_atom,
            rollout_step=rollout_step,
            stream_evaluation=words,
            n_total=self._n_atoms * per_atom,
        )
        return values.to(self._dtype)


class RecordedNoise:
    """Noise that was recorded elsewhere, for replaying it.

    Parameters
    ----------
    base_samples : Tensor, shape (n_rollout_steps, n_atoms, 3)
    vector_starts : Tensor, shape (n_rollout_steps, n_evaluations, n_atoms, 3, n_features)
    diffusion_noise : Tensor, shape (n_rollout_steps, n_evaluations, n_atoms, 3), optional
        For ancestral sampling.
    """

    def __init__(
        self, base_samples: Tensor, vector_starts: Tensor, diffusion_noise: Tensor | None = None
    ) -> None:
        self._base_samples = base_samples
        self._vector_starts = vector_starts
        self._diffusion_noise = diffusion_noise

    def base(self, rollout_step: int) -> Tensor:
        """Return the recorded base sample of a rollout step."""
        return self._base_samples[rollout_step]

    def vector_start(self, rollout_step: int, evaluation: int) -> Tensor:
        """Return the recorded vectors of an evaluation."""
        return self._vector_starts[rollout_step, evaluation]

    def diffusion(self, rollout_step: int, evaluation: int) -> Tensor:
        """Return the recorded noise that is added after an evaluation.

        Raises
        ------
        ValueError
            If none was recorded.
        """
        if self._diffusion_noise is None:
            raise ValueError("diffusion_noise: expected recorded noise to sample with, got None")
        return self._diffusion_noise[rollout_step, evaluation]


def _as_signed(bits: int) -> int:
    """Return the int64 with the same 64 bits."""
    return bits - 2**64 if bits >= 2**63 else bits
