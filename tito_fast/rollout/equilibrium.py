"""Independent samples of an equilibrium flow, with their densities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tito_fast.data.bg_samples import BgSamples
from tito_fast.data.molecule import Molecule
from tito_fast.flows.density import (
    OdeSolver,
    base_samples,
    log_density_in_nm,
    sample_with_log_density,
)
from tito_fast.flows.divergence import DivergenceMethod, ExactDivergence
from tito_fast.models.equilibrium import (
    EquilibriumModel,
    equilibrium_field,
    equilibrium_model_hash,
)
from tito_fast.models.tbg.model import TbgModel
from tito_fast.solvers import DormandPrince
from tito_fast.types import Backend
from tito_fast.validation import check_at_least

_SEED_BITS = 2**63 - 1
# Of alanine dipeptide a third faster than one at a time; memory grows with it.
_DIRECTIONS_PER_PASS = 6


@dataclass(frozen=True, kw_only=True)
class EquilibriumSampling:
    """How to sample an equilibrium flow.

    Parameters
    ----------
    n_samples : int
    seed : int
        The base samples follow from it, the molecule with its name, and their number.
    log_density : bool
        Also integrate the divergence, for the density of each sample: a backward pass for each coordinate
        and evaluation, unless ``method`` says otherwise.
    batch_size : int
        Samples computed together; it has no influence on them but rounding.
    solver : OdeSolver, optional
        By default :class:`~tito_fast.solvers.DormandPrince` with tolerances of 1e-5.
    method : DivergenceMethod, optional
        By default exact, of TBG's network six directions at a time.
    backend : Backend
        Of TITO's network.
    temperature_k : float, optional
        For models that take one.
    """

    n_samples: int
    seed: int = 0
    log_density: bool = False
    batch_size: int = 256
    solver: OdeSolver | None = None
    method: DivergenceMethod | None = None
    backend: Backend = "auto"
    temperature_k: float | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        check_at_least("n_samples", self.n_samples, 1)
        check_at_least("seed", self.seed, 0)
        check_at_least("batch_size", self.batch_size, 1)


def sample_equilibrium(
    model: EquilibriumModel,
    molecule: Molecule,
    config: EquilibriumSampling,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> BgSamples:
    """Return independent samples of ``molecule``.

    Parameters
    ----------
    model : EquilibriumModel
    molecule : Molecule
        Its start structure is not read.
    config : EquilibriumSampling
    on_progress : callable, optional
        Told the number of samples after each batch.

    Returns
    -------
    BgSamples
        Positions in nm; not checked: see :func:`~tito_fast.data.configuration_checks.check_configurations`.

    Raises
    ------
    ValueError
        If the model does not know the molecule, or the solver does not meet its tolerance.
    NonFiniteError
        If a velocity is not finite.

    References
    ----------
    .. [1] Transferable Boltzmann Generators, arXiv:2406.14426.
    """
    solver = DormandPrince() if config.solver is None else config.solver
    method = config.method
    if method is None:
        # TITO's operations cannot be batched by vmap.
        together = _DIRECTIONS_PER_PASS if isinstance(model, TbgModel) else 1
        method = ExactDivergence(directions_per_pass=together)
    # Part of it, so that molecules of one size do not have the same noise.
    key = (config.seed ^ molecule.noise_hash) & _SEED_BITS
    unit_nm, base_std = model.info.length_unit_nm, model.info.base_std
    positions, densities = [], []
    for first in range(0, config.n_samples, config.batch_size):
        size = min(config.batch_size, config.n_samples - first)
        batch_ptr = torch.arange(size + 1) * molecule.n_atoms
        x_0 = base_samples(
            batch_ptr, base_std=base_std, seed=key, first_molecule=first, dtype=model.dtype
        ).to(model.device)
        batch_ptr = batch_ptr.to(model.device)
        field = equilibrium_field(
            model,
            [molecule] * size,
            backend=config.backend,
            temperature_k=config.temperature_k,
        )
        if config.log_density:
            found = sample_with_log_density(
                field,
                x_0,
                batch_ptr=batch_ptr,
                base_std=base_std,
                solver=solver,
                method=method,
            )
            in_nm = log_density_in_nm(
                found.log_density, batch_ptr=batch_ptr, length_unit_nm=unit_nm
            )
            densities.append(in_nm.cpu().numpy())
            x_1 = found.x_1
        else:
            with torch.no_grad():
                x_1 = solver.solve(field, x_0, batch_ptr=batch_ptr, start=0.0, end=1.0).x_t
        positions.append(_centered_nm(x_1, molecule.n_atoms, unit_nm))
        if on_progress is not None:
            on_progress(first + size)
    return BgSamples(
        molecule=molecule,
        positions=np.concatenate(positions),
        log_density=np.concatenate(densities) if densities else None,
        seed=config.seed,
        model_hash=equilibrium_model_hash(model),
    )


def _centered_nm(x_1: Tensor, n_atoms: int, length_unit_nm: float) -> NDArray[np.float32]:
    scaled = x_1.double().view(-1, n_atoms, 3)
    centered = scaled - scaled.mean(dim=1, keepdim=True)
    return np.asarray((length_unit_nm * centered).cpu().numpy(), dtype=np.float32)
