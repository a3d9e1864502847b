"""The definition of ``readout_step`` in plain PyTorch."""

from torch import Tensor
from torch.nn import functional

from tito_fast.ops.mlp_parameters import MlpParameters, mlp_reference
from tito_fast.ops.segments import centered


def readout_step_reference(
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    v_weight: Tensor,
    parameters: MlpParameters,
    batch_ptr: Tensor,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    """Return the velocity and the new positions.

    Arguments as in :func:`tito_fast.ops.readout_step`, already checked.
    """
    gate = mlp_reference(scalars, parameters)
    readout = gate * functional.linear(vectors, v_weight).squeeze(-1)
    velocity = centered(positions + readout, batch_ptr)
    return velocity, centered(positions + step_size * velocity, batch_ptr)
