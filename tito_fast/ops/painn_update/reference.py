"""The definition of ``painn_update`` in plain PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional

from tito_fast.ops.mlp_parameters import MlpParameters, mlp_reference


def painn_update_reference(
    scalars: Tensor,
    vectors: Tensor,
    u_weight: Tensor | None,
    v_weight: Tensor,
    parameters: MlpParameters,
) -> tuple[Tensor, Tensor]:
    """Return new scalars and vectors; arguments as in :func:`tito_fast.ops.painn_update`."""
    length = torch.linalg.vector_norm(functional.linear(vectors, v_weight), dim=1)
    outputs = mlp_reference(torch.cat([length, scalars], dim=-1), parameters)
    if u_weight is None:
        scale, add = outputs.chunk(2, dim=-1)
        return scalars + length**2 * scale + add, vectors
    gates, scale, add = outputs.chunk(3, dim=-1)
    new_vectors = vectors + gates.unsqueeze(1) * functional.linear(vectors, u_weight)
    return scalars + length**2 * scale + add, new_vectors
