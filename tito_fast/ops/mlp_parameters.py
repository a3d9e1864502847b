"""The parameters of the network's one kind of MLP, as the ops take them."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

NORM_EPS = 1e-5
"""Epsilon of both LayerNorms; the compiled kernels have the same."""


class MlpParameters(NamedTuple):
    """Linear, LayerNorm, SiLU, linear, LayerNorm, SiLU, linear; in torch's layout.

    Parameters
    ----------
    first_weight : (n_hidden, n_in)
    first_bias, first_scale, first_shift : (n_hidden,)
        Bias of the linear, weight and bias of the norm after it.
    second_weight : (n_hidden, n_hidden)
    second_bias, second_scale, second_shift : (n_hidden,)
    last_weight : (n_out, n_hidden)
    last_bias : (n_out,)
    """

    first_weight: Tensor
    first_bias: Tensor
    first_scale: Tensor
    first_shift: Tensor
    second_weight: Tensor
    second_bias: Tensor
    second_scale: Tensor
    second_shift: Tensor
    last_weight: Tensor
    last_bias: Tensor


def mlp_reference(inputs: Tensor, parameters: MlpParameters) -> Tensor:
    """Return the MLP of ``inputs`` (n, n_in), (n, n_out), in plain PyTorch."""
    p = parameters
    width = p.first_scale.shape
    hidden = functional.linear(inputs, p.first_weight, p.first_bias)
    hidden = functional.silu(
        functional.layer_norm(hidden, width, p.first_scale, p.first_shift, NORM_EPS)
    )
    hidden = functional.linear(hidden, p.second_weight, p.second_bias)
    hidden = functional.silu(
        functional.layer_norm(hidden, width, p.second_scale, p.second_shift, NORM_EPS)
    )
    return functional.linear(hidden, p.last_weight, p.last_bias)
