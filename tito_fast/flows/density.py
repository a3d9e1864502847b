"""Densities of continuous normalizing flows: what a flow's samples are worth, in nats.

==============================================  =====================================================
in the papers                                   here
==============================================  =====================================================
``dx/dt = v_θ(x, t)``, t from 0 to 1            ``velocity_field(x_t, flow_time)``
prior ``q = N(0, σ² 1)`` without center of mass  ``log_base_density(x_0, base_std=...)``
``log p(x_1) = log q(x_0) − ∫ ∇·v dt``          ``log_likelihood(...).log_density``
``∇·v``                                         ``velocity_and_divergence(...).divergence``
==============================================  =====================================================

References
----------
.. [1] Chen et al., Neural ordinary differential equations, arXiv:1806.07366.
.. [2] Transferable Boltzmann generators, arXiv:2406.14426; equivariant flow matching, arXiv:2306.15030.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from tito_fast.flows.divergence import (
    DivergenceMethod,
    ExactDivergence,
    Probes,
    VelocityFunction,
    check_forward_mode,
    check_seed,
    velocity_and_divergence,
)
from tito_fast.noise import BASE_STREAM, stream_evaluation
from tito_fast.ops import center, philox_normal
from tito_fast.validation import (
    check_at_least,
    check_batch_ptr,
    check_floating,
    check_positive,
    check_shape,
)


class Integrated(Protocol):
    """What an integration leaves."""

    @property
    def x_t(self) -> Tensor:
        """State at the end, (n_rows, 3)."""
        ...

    @property
    def n_rejected(self) -> Tensor:
        """Trial steps of each molecule that were thrown away, (n_molecules,) int64."""
        ...


class OdeSolver(Protocol):
    """What integrates a flow: ``DormandPrince`` or ``FixedGrid`` of :mod:`tito_fast.solvers`."""

    def solve(
        self, field: VelocityFunction, x_0: Tensor, *, batch_ptr: Tensor, start: float, end: float
    ) -> Integrated:
        """Return the solution at ``end``, uncentered."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class LogDensity:
    """Samples of a flow with their densities, of each molecule of a batch.

    Parameters
    ----------
    log_density : Tensor, shape (n_molecules,), float64
        ``log p(x_1)`` in nats, of the ``3 n_m − 3`` dimensions of the mean-free subspace, per model unit each.
    x_0, x_1 : Tensor, shape (n_atoms, 3)
        Both ends of the flow, without their means over each molecule.
    log_base_density : Tensor, shape (n_molecules,), float64
        ``log q(x_0)``.
    divergence_integral : Tensor, shape (n_molecules,), float64
        ``∫ ∇·v dt`` from 0 to 1, so that ``log_density = log_base_density − divergence_integral``.
    n_evaluations : int
        Evaluations of velocity and divergence, each of the whole batch.
    n_rejected : Tensor, shape (n_molecules,), int64
        Trial steps that were thrown away; 0 on a fixed grid.
    """

    log_density: Tensor
    x_0: Tensor
    x_1: Tensor
    log_base_density: Tensor
    divergence_integral: Tensor
    n_evaluations: int
    n_rejected: Tensor


def log_likelihood(
    velocity_field: VelocityFunction,
    x_1: Tensor,
    *,
    batch_ptr: Tensor,
    base_std: float = 1.0,
    solver: OdeSolver,
    method: DivergenceMethod | None = None,
) -> LogDensity:
    """Return the log density of a flow at ``x_1``, by integrating it back to its base.

    Parameters
    ----------
    velocity_field : callable of (x_t, flow_time)
        ``x_t`` (n_atoms, 3), in the dtype of ``x_1`` and model units, ``flow_time`` (n_molecules,): each molecule has
        its own. Returns (n_atoms, 3). It is made mean-free here. Deterministic, and molecules do not depend on each
        other.
    x_1 : Tensor, shape (n_atoms, 3), float32 or float64
        Data in model units; centered here.
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    base_std : float
        Standard deviation of the base density, model units.
    solver : OdeSolver
        ``DormandPrince()``, whose tolerances hold for ``[x, L, L, L]`` with L the integral of the divergence: it
        counts as one atom more, so its error may be ``√(n_m + 1)`` times the tolerance. Or ``FixedGrid``: the same
        method then integrates the divergence, which gives the density of the flow up to the method's error, not
        that of the map which the steps make.
    method : ExactDivergence or HutchinsonDivergence, optional
        None: exact, in reverse mode.

    Returns
    -------
    LogDensity

    Raises
    ------
    ValueError
        If shapes are wrong, the field has no derivative, or the solver gives up.
    TypeError
        If ``x_1`` is not float32 or float64.
    NonFiniteError
        If the field is not finite.

    Notes
    -----
    The state is float64 whatever the dtype of ``x_1``, in which the field is called. Not differentiable.

    References
    ----------
    Transferable Boltzmann generators, arXiv:2406.14426: the base density and the mean-free subspace. The authors take
    dopri5 with tolerances of 1e-4 for all molecules of a batch together; here each molecule has steps of its own.

    Examples
    --------
    A flow that stretches a normal density by e:

    >>> x_1, batch_ptr = torch.zeros(3, 3, dtype=torch.float64), torch.tensor([0, 3])
    >>> from tito_fast.solvers import DormandPrince
    >>> found = log_likelihood(lambda x_t, t: x_t, x_1, batch_ptr=batch_ptr, solver=DormandPrince())
    >>> found.log_density.round(decimals=4)
    tensor([-11.5136], dtype=torch.float64)
    """
    return _integrated(
        velocity_field,
        x_1,
        name="x_1",
        batch_ptr=batch_ptr,
        base_std=base_std,
        solver=solver,
        method=method or ExactDivergence(),
    )


def sample_with_log_density(
    velocity_field: VelocityFunction,
    x_0: Tensor,
    *,
    batch_ptr: Tensor,
    base_std: float = 1.0,
    solver: OdeSolver,
    method: DivergenceMethod | None = None,
) -> LogDensity:
    """Return samples of a flow and their log densities, by integrating it from base samples.

    Parameters
    ----------
    velocity_field : callable of (x_t, flow_time)
    x_0 : Tensor, shape (n_atoms, 3), float32 or float64
        Base samples of standard deviation ``base_std``, as :func:`base_samples` draws them; centered here.
    batch_ptr, base_std, solver, method
        As in :func:`log_likelihood`.

    Returns
    -------
    LogDensity

    Raises
    ------
    ValueError, NonFiniteError
        As :func:`log_likelihood`.
    """
    return _integrated(
        velocity_field,
        x_0,
        name="x_0",
        batch_ptr=batch_ptr,
        base_std=base_std,
        solver=solver,
        method=method or ExactDivergence(),
    )


def log_base_density(x_0: Tensor, *, batch_ptr: Tensor, base_std: float = 1.0) -> Tensor:
    """Return the log density of mean-free normal samples, on their subspace.

    ``log q(x_0) = −|x_0|² / (2 base_std²) − (3 n_m − 3)/2 log(2π base_std²)`` for a molecule of n_m atoms.

    Parameters
    ----------
    x_0 : Tensor, shape (n_atoms, 3)
        Centered here.
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    base_std : float

    Returns
    -------
    Tensor, shape (n_molecules,), float64
        In nats; 0 for molecules of one atom or none, which have no dimension.
    """
    check_shape("x_0", x_0, ("n_atoms", 3))
    check_positive("base_std", base_std)
    centered = center(x_0.double(), batch_ptr=batch_ptr)
    squares = torch.segment_reduce(
        centered.square().sum(dim=1), "sum", offsets=batch_ptr, axis=0, initial=0.0
    ).view(batch_ptr.shape[0] - 1)
    n_dimensions = 3 * (batch_ptr.diff() - 1).clamp(min=0).double()
    variance = base_std**2
    return -0.5 * (squares / variance + n_dimensions * math.log(2 * math.pi * variance))


def base_samples(
    batch_ptr: Tensor,
    *,
    base_std: float = 1.0,
    seed: int,
    first_molecule: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return mean-free normal samples of a base density.

    Parameters
    ----------
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    base_std : float
    seed : int
    first_molecule : int
        Number of the first molecule: samples follow from seed and number, so that a batch may be drawn in parts.
    dtype : torch.dtype

    Returns
    -------
    Tensor, shape (n_atoms, 3)
    """
    check_positive("base_std", base_std)
    check_seed(seed)
    check_at_least("first_molecule", first_molecule, 0)
    count, n_atoms = batch_ptr.shape[0] - 1, int(batch_ptr[-1])
    normals = philox_normal(
        torch.full((count,), seed, dtype=torch.int64, device=batch_ptr.device),
        torch.arange(first_molecule, first_molecule + count, device=batch_ptr.device),
        3 * batch_ptr.diff(),
        rollout_step=0,
        stream_evaluation=stream_evaluation(BASE_STREAM, 0),
        n_total=3 * n_atoms,
    )
    return base_std * center(normals.view(n_atoms, 3).to(dtype), batch_ptr=batch_ptr)


def log_density_in_nm(log_density: Tensor, *, batch_ptr: Tensor, length_unit_nm: float) -> Tensor:
    """Return a log density per nm that was one per model unit.

    ``log p_nm = log p − (3 n_m − 3) log(length_unit_nm)``: the same for all samples of one molecule, so importance
    weights do not change.

    Parameters
    ----------
    log_density : Tensor, shape (n_molecules,)
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    length_unit_nm : float
        Nanometers in one model unit.

    Returns
    -------
    Tensor, shape (n_molecules,), float64
    """
    check_shape("log_density", log_density, (batch_ptr.shape[0] - 1,))
    check_positive("length_unit_nm", length_unit_nm, unit="nm")
    n_dimensions = 3 * (batch_ptr.diff() - 1).clamp(min=0).double()
    return log_density.double() - n_dimensions * math.log(length_unit_nm)


class _WithVolume:
    """A field of ``[x, L]``: the rows of each molecule, then one row with ``L = ∫ ∇·v dt`` three times."""

    def __init__(
        self, field: VelocityFunction, *, batch_ptr: Tensor, probes: Probes, dtype: torch.dtype
    ) -> None:
        self._field, self._probes, self._dtype = field, probes, dtype
        self._molecule_ptr = batch_ptr
        numbers = torch.arange(probes.n_molecules, device=batch_ptr.device)
        self.n_molecules = probes.n_molecules
        self.batch_ptr = batch_ptr + torch.arange(self.n_molecules + 1, device=batch_ptr.device)
        atoms = torch.arange(probes.n_atoms, device=batch_ptr.device)
        self._atom_rows = atoms + probes.molecule_of
        self._volume_rows = batch_ptr[1:] + numbers
        self.n_evaluations = 0

    def joined(self, x_t: Tensor, volume: Tensor) -> Tensor:
        """Return rows (n_atoms + n_molecules, 3), float64."""
        rows = x_t.new_empty((x_t.shape[0] + self.n_molecules, 3), dtype=torch.float64)
        rows[self._atom_rows] = x_t.double()
        rows[self._volume_rows] = volume.unsqueeze(1).expand(-1, 3)
        return rows

    def parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions (n_atoms, 3) and volumes (n_molecules,), float64."""
        x_t = center(rows[self._atom_rows], batch_ptr=self._molecule_ptr)
        return x_t, rows[self._volume_rows, 0]

    def __call__(self, rows: Tensor, flow_time: Tensor) -> Tensor:
        """Return the rates of all rows."""
        self.n_evaluations += 1
        x_t = rows[self._atom_rows].to(self._dtype)
        velocity, divergence = velocity_and_divergence(
            self._field,
            x_t,
            flow_time.to(self._dtype),
            batch_ptr=self._molecule_ptr,
            probes=self._probes,
        )
        return self.joined(velocity, divergence)


@torch.no_grad()
def _integrated(
    velocity_field: VelocityFunction,
    given: Tensor,
    *,
    name: Literal["x_0", "x_1"],
    batch_ptr: Tensor,
    base_std: float,
    solver: OdeSolver,
    method: DivergenceMethod,
) -> LogDensity:
    """Return both ends of the flow through ``given``, its start (x_0) or its end (x_1)."""
    check_floating(name, given)
    check_shape(name, given, ("n_atoms", 3))
    check_positive("base_std", base_std)
    if batch_ptr.device.type == "cpu":
        check_batch_ptr(batch_ptr, given.shape[0])
    is_forward = name == "x_0"
    probes = Probes(method, batch_ptr, n_atoms=given.shape[0], dtype=given.dtype)
    field = _WithVolume(velocity_field, batch_ptr=batch_ptr, probes=probes, dtype=given.dtype)
    from_end = center(given.double(), batch_ptr=batch_ptr)
    if method.mode == "forward":
        middle = torch.full((field.n_molecules,), 0.5, dtype=given.dtype, device=given.device)
        check_forward_mode(velocity_field, from_end.to(given.dtype), middle, batch_ptr=batch_ptr)
    start = field.joined(from_end, from_end.new_zeros(field.n_molecules))
    # Velocities are mean-free, and the rows of volumes must not be centered.
    solved = solver.solve(
        field,
        start,
        batch_ptr=field.batch_ptr,
        start=0.0 if is_forward else 1.0,
        end=1.0 if is_forward else 0.0,
    )
    to_end, volume = field.parts(solved.x_t)
    x_0, x_1 = (from_end, to_end) if is_forward else (to_end, from_end)
    # Backward the integral was taken from 1 to 0.
    integral = volume if is_forward else -volume
    of_base = log_base_density(x_0, batch_ptr=batch_ptr, base_std=base_std)
    return LogDensity(
        log_density=of_base - integral,
        x_0=x_0.to(given.dtype),
        x_1=x_1.to(given.dtype),
        log_base_density=of_base,
        divergence_integral=integral,
        n_evaluations=field.n_evaluations,
        n_rejected=solved.n_rejected,
    )
