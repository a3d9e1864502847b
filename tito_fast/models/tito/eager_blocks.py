"""What the eager backend computes with: linears, MLPs and encodings whose rows do not depend on their number."""

import torch
from torch import Tensor
from torch.nn import functional

from tito_fast.models.tito.eager_tiles import pad_rows
from tito_fast.models.tito.eager_weights import MlpWeights


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``inputs @ weight.T + bias`` for inputs (n, ·), computed on a whole block of rows."""
    n_rows = inputs.shape[0]
    padded = pad_rows(inputs)
    result = functional.linear(padded, weight, bias)
    return result if padded is inputs else result[:n_rows]


def pair_encoding(dist: Tensor, *, n_features: int, length: float) -> Tensor:
    """Return ``positional_encoding(dist)`` from one sine and cosine each, (n, n_features).

    The powers of ``z = exp(iπd/length)`` come by doubling, ``z^(m+k) = z^m z^k``, so the error grows with log₂ k.
    """
    angle = dist * (torch.pi / length)
    cos, sin = torch.cos(angle).unsqueeze(-1), torch.sin(angle).unsqueeze(-1)
    n_ranks = n_features // 2
    while cos.shape[-1] < n_ranks:
        top_cos, top_sin = cos[:, -1:], sin[:, -1:]
        cos, sin = (
            torch.cat([cos, cos * top_cos - sin * top_sin], dim=-1),
            torch.cat([sin, sin * top_cos + cos * top_sin], dim=-1),
        )
    return torch.stack([cos[:, :n_ranks], sin[:, :n_ranks]], dim=-1).flatten(-2)


def run_mlp(mlp: MlpWeights, inputs: Tensor) -> Tensor:
    """Return the MLP of inputs (n, ·)."""
    n_rows = inputs.shape[0]
    return mlp_tail(mlp, functional.linear(pad_rows(inputs), *mlp.first))[:n_rows]


def mlp_tail(mlp: MlpWeights, hidden: Tensor) -> Tensor:
    """Return the MLP of what its first linear gave."""
    n_rows = hidden.shape[0]
    padded = pad_rows(hidden)
    middle = functional.linear(_norm_silu(mlp.first_norm, padded), *mlp.second)
    result = functional.linear(_norm_silu(mlp.second_norm, middle), *mlp.last)
    return result if padded is hidden else result[:n_rows]


def _norm_silu(norm: tuple[Tensor, Tensor, float] | None, hidden: Tensor) -> Tensor:
    if norm is None:
        return functional.silu(hidden)
    weight, bias, eps = norm
    hidden = functional.layer_norm(hidden, weight.shape, weight, bias, eps)
    return functional.silu(hidden, inplace=not hidden.requires_grad)


def linear_vectors(vectors: Tensor, weight: Tensor) -> Tensor:
    """Return the bias-free linear of the features of vectors (n_atoms, 3, ·)."""
    flat = linear(vectors.reshape(-1, vectors.shape[-1]), weight)
    return flat.view(vectors.shape[0], 3, weight.shape[0])
