"""Conditional flow matching between a normal base density and data.

References
----------
.. [1] TITO, arXiv:2510.07589: interpolant, target and loss (the released code adds σ ε to the interpolant).
"""

import torch
from torch import Tensor

from tito_fast.ops import center
from tito_fast.validation import check_shape


def interpolate(
    x_0: Tensor, x_1: Tensor, flow_time: Tensor, epsilon: Tensor, *, batch_ptr: Tensor, sigma: float
) -> Tensor:
    """Return ``flow_time x_1 + (1 − flow_time) x_0 + sigma center(epsilon)``.

    Parameters
    ----------
    x_0, x_1, epsilon : Tensor, shape (n_atoms, 3)
        Base sample, data, standard normal values; model units.
    flow_time : Tensor, shape (n_molecules,)
        In [0, 1].
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    sigma : float
        Standard deviation of the added noise, model units.

    Returns
    -------
    Tensor, shape (n_atoms, 3)
    """
    n_atoms = x_0.shape[0]
    for name, tensor in (("x_0", x_0), ("x_1", x_1), ("epsilon", epsilon)):
        check_shape(name, tensor, (n_atoms, 3))
    check_shape("flow_time", flow_time, (batch_ptr.shape[0] - 1,))
    t = torch.repeat_interleave(flow_time, batch_ptr.diff(), output_size=n_atoms).unsqueeze(-1)
    return t * x_1 + (1 - t) * x_0 + sigma * center(epsilon, batch_ptr=batch_ptr)


def flow_matching_loss(velocity: Tensor, x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return the mean over atoms of ``|velocity − (x_1 − x_0)|²``, so that larger molecules weigh more.

    All arguments are (n_atoms, 3); the result is a scalar, model units squared.
    """
    return (velocity - (x_1 - x_0)).square().sum(dim=-1).mean()


def molecule_mean_loss(velocity: Tensor, x_0: Tensor, x_1: Tensor, *, batch_ptr: Tensor) -> Tensor:
    """Return the mean over molecules of the mean squared error of a coordinate, so that all molecules weigh the same.

    Parameters
    ----------
    velocity, x_0, x_1 : Tensor, shape (n_atoms, 3)
        Model units.
    batch_ptr : Tensor, shape (n_molecules + 1,), int64

    Returns
    -------
    Tensor
        A scalar, model units squared.

    References
    ----------
    .. [1] Transferable Boltzmann Generators, arXiv:2406.14426: the loss of each molecule is divided by three times
       its number of atoms.
    """
    sizes = batch_ptr.diff()
    weights = torch.repeat_interleave(
        1.0 / (3.0 * sizes * sizes.numel()), sizes, output_size=x_0.shape[0]
    )
    error = (velocity - (x_1 - x_0)).square().sum(dim=-1)
    return torch.dot(error, weights.to(error.dtype))
