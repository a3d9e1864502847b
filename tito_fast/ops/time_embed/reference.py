"""The definition of ``time_embed`` in plain PyTorch."""

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import MlpParameters, mlp_reference
from tito_fast.ops.segments import molecule_sizes


def time_embed_reference(
    scalars: Tensor, encodings: Tensor, batch_ptr: Tensor, parameters: MlpParameters
) -> Tensor:
    """Return the mlp of ``[scalars, encodings[batch_idx]]``.

    Arguments as in :func:`tito_fast.ops.time_embed`, already checked.
    """
    per_atom = encodings.repeat_interleave(
        molecule_sizes(batch_ptr), dim=0, output_size=scalars.shape[0]
    )
    return mlp_reference(torch.cat([scalars, per_atom], dim=-1), parameters)
