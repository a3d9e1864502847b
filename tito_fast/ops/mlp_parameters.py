"""The parameters of the network's one kind of MLP, as the ops take them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tito_fast.ops.triton_launch import width_problem
from tito_fast.validation import check_at_least, check_dtype, check_same_device, check_shape

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


def check_mlp_parameters(
    parameters: MlpParameters, *, n_in: int | None, n_out: int | None, like: tuple[str, Tensor]
) -> None:
    """Raise unless ``parameters`` belong together and to the other arguments.

    Parameters
    ----------
    parameters
        Given by a user.
    n_in, n_out
        Number of inputs and outputs; None for any number above zero.
    like
        Name and tensor of the argument whose dtype and device the parameters must have.

    Raises
    ------
    ValueError
        A shape or device is wrong.
    TypeError
        A dtype is wrong.
    """
    other_name, other = like
    for name, tensor in parameters._asdict().items():
        check_dtype(f"parameters.{name}", tensor, other.dtype)
        check_same_device(f"parameters.{name}", tensor, other_name, other)
    first = "n_in" if n_in is None else n_in
    check_shape("parameters.first_weight", parameters.first_weight, ("n_hidden", first))
    n_hidden = parameters.first_weight.shape[0]
    check_shape("parameters.second_weight", parameters.second_weight, (n_hidden, n_hidden))
    last = "n_out" if n_out is None else n_out
    check_shape("parameters.last_weight", parameters.last_weight, (last, n_hidden))
    for name in (
        "first_bias",
        "first_scale",
        "first_shift",
        "second_bias",
        "second_scale",
        "second_shift",
    ):
        check_shape(f"parameters.{name}", getattr(parameters, name), (n_hidden,))
    check_shape("parameters.last_bias", parameters.last_bias, (parameters.last_weight.shape[0],))
    check_at_least("parameters.first_weight: n_in", parameters.first_weight.shape[1], 1)
    check_at_least("parameters.first_weight: n_hidden", n_hidden, 1)
    check_at_least("parameters.last_weight: n_out", parameters.last_weight.shape[0], 1)


def triton_mlp_problem(parameters: MlpParameters, *, n_features: int | None = None) -> str:
    """Return why no Triton kernel takes an mlp of these sizes or dtype, or an empty string.

    Parameters
    ----------
    parameters
        Of the mlp.
    n_features
        Of the rows that the kernel reads beside the mlp, which must be as many as hidden ones; None for none.
    """
    weight = parameters.first_weight
    if weight.dtype == torch.float64 and weight.device.type != "cpu":
        return "expected float32 on a GPU, got float64"
    n_hidden, n_in = weight.shape
    if problem := width_problem(n_hidden):
        return problem
    if n_in % n_hidden:
        return f"expected a multiple of {n_hidden} inputs of the mlp, got {n_in}"
    if n_features not in (None, n_hidden):
        return f"expected as many features as hidden ones, {n_hidden}, got {n_features}"
    return ""
