"""Fields with known flows, for the tests of divergences and densities."""

import math

import torch

SIZES = (2, 1, 0, 3)
PTR = torch.tensor([0, 2, 3, 3, 6])
N_ATOMS = 6


def positions(*, seed=0, n_atoms=N_ATOMS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_atoms, 3, generator=generator, dtype=torch.float64).to(dtype)


def molecule_of(batch_ptr):
    sizes = batch_ptr.diff()
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes)


def pair_field(batch_ptr):
    """An equivariant field of pairs, no gradient of anything: ``v_i = Σ_j (x_j − x_i) sin(d_ij² + i + t) / 5``."""
    of = molecule_of(batch_ptr)
    same = (of.unsqueeze(0) == of.unsqueeze(1)).double()
    number = (torch.arange(len(of)) - batch_ptr[of]).unsqueeze(1)

    def field(x_t, flow_time):
        vec = x_t.unsqueeze(0) - x_t.unsqueeze(1)
        weight = 0.2 * torch.sin(vec.square().sum(-1) + number + flow_time[of].unsqueeze(1))
        return ((same.to(x_t.dtype) * weight).unsqueeze(-1) * vec).sum(1)

    return field


def projection(n_atoms):
    """Return the matrix that takes the mean away from ``3 n_atoms`` coordinates."""
    keep = torch.eye(n_atoms, dtype=torch.float64) - 1 / n_atoms
    return torch.kron(keep, torch.eye(3, dtype=torch.float64))


def gaussian_field(base_std, data_std, batch_ptr):
    """The marginal velocity between two normal densities coupled independently, ``data_std`` per axis.

    Of ``x_t = (1 − t) x_0 + t x_1``: ``E[x_1 − x_0 | x_t]``; it carries one density exactly into the other.
    """

    def field(x_t, flow_time):
        t = flow_time[molecule_of(batch_ptr)].unsqueeze(1)
        base, data = base_std**2, data_std.to(x_t.dtype) ** 2
        return x_t * (t * data - (1 - t) * base) / ((1 - t) ** 2 * base + t**2 * data)

    return field


def normal_log_density(x, std):
    """Return the log density of mean-free ``x`` (n, 3) with a standard deviation for each axis."""
    n_free = x.shape[0] - 1
    quadratic = (x / std).square().sum()
    return -0.5 * quadratic - n_free * (torch.log(std) + 0.5 * math.log(2 * math.pi)).sum()
