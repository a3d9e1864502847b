"""Divergence of velocity fields over ragged batches, on the subspace without the center of mass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from tito_fast.noise import stream_evaluation
from tito_fast.ops import center, philox_normal
from tito_fast.validation import check_at_least, check_choice, check_shape

VelocityFunction = Callable[[Tensor, Tensor], Tensor]
"""Velocities (n_atoms, 3) at positions (n_atoms, 3) and flow times (n_molecules,)."""

DifferentiationMode = Literal["reverse", "forward"]
ProbeLaw = Literal["rademacher", "normal"]

# 0 to 6 are those of rollouts, training and diffusion.
_PROBE_STREAM: Final = 7
# What a forward and a reverse derivative of one field may differ by, of their size.
_ADJOINT_TOLERANCE: Final = {torch.float64: 1e-8, torch.float32: 1e-3}


def check_seed(seed: int) -> None:
    """Raise ``ValueError`` unless a counter takes the seed."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected 0 to 2**63 - 1, got {seed}")


@dataclass(frozen=True, kw_only=True)
class ExactDivergence:
    """The trace itself: a derivative along each of the ``3 max(n_atoms)`` coordinates of the largest molecule.

    Parameters
    ----------
    mode : "reverse" or "forward"
        How derivatives are taken. Reverse (a backward pass each, one forward pass for all) works through all of
        this package's operations. Forward (``torch.func.jvp``) wants a field of plain PyTorch.
    directions_per_pass : int
        Derivatives taken together, by ``vmap``; above 1 only for fields that ``vmap`` can batch.
    """

    mode: DifferentiationMode = "reverse"
    directions_per_pass: int = 1

    def __post_init__(self) -> None:
        """Check ranges."""
        check_choice("mode", self.mode, ("reverse", "forward"))
        check_at_least("directions_per_pass", self.directions_per_pass, 1)


@dataclass(frozen=True, kw_only=True)
class HutchinsonDivergence:
    """An estimate of the trace: the mean of ``probe · (∂v/∂x) probe`` over random probes.

    Parameters
    ----------
    n_probes : int
        Derivatives for each evaluation.
    law : "rademacher" or "normal"
        Of the probes' components; signs have the lower variance.
    seed : int
        Probes follow from it, the molecule's number and the atom's.
    first_molecule : int
        Number of the batch's first molecule: a batch in parts draws the same probes as the whole.
    mode, directions_per_pass
        As in :class:`ExactDivergence`.
    """

    n_probes: int = 1
    law: ProbeLaw = "rademacher"
    seed: int = 0
    first_molecule: int = 0
    mode: DifferentiationMode = "reverse"
    directions_per_pass: int = 1

    def __post_init__(self) -> None:
        """Check ranges."""
        check_at_least("n_probes", self.n_probes, 1)
        check_choice("law", self.law, ("rademacher", "normal"))
        check_choice("mode", self.mode, ("reverse", "forward"))
        check_seed(self.seed)
        check_at_least("first_molecule", self.first_molecule, 0)
        check_at_least("directions_per_pass", self.directions_per_pass, 1)


DivergenceMethod = ExactDivergence | HutchinsonDivergence


class VelocityAndDivergence(NamedTuple):
    """A velocity field and its divergence at one point for each molecule."""

    velocity: Tensor
    """(n_atoms, 3), without its mean over each molecule."""
    divergence: Tensor
    """(n_molecules,) float64."""


class Probes:
    """Directions in which a field is differentiated; the same at every evaluation.

    The trace on the mean-free subspace is ``Σ_k left_k · (∂v/∂x) right_k`` with ``Σ_k left_k right_kᵀ = P``,
    the projection that takes away each molecule's mean: exactly, with unit vectors ``right_k = e_k`` and
    ``left_k = P e_k``; or on average over random ``left = right = P probe / √n_probes``.

    Parameters
    ----------
    method : ExactDivergence or HutchinsonDivergence
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    n_atoms : int
    dtype : torch.dtype
    """

    def __init__(
        self, method: DivergenceMethod, batch_ptr: Tensor, *, n_atoms: int, dtype: torch.dtype
    ) -> None:
        sizes = batch_ptr.diff()
        self.n_molecules = sizes.shape[0]
        self.method, self.n_atoms, self.dtype, self.batch_ptr = method, n_atoms, dtype, batch_ptr
        self.molecule_of = torch.repeat_interleave(
            torch.arange(self.n_molecules, device=batch_ptr.device), sizes, output_size=n_atoms
        )
        rows = torch.arange(n_atoms, device=batch_ptr.device) - batch_ptr[self.molecule_of]
        axes = torch.arange(3, device=batch_ptr.device)
        self._coordinate = 3 * rows.unsqueeze(1) + axes
        self._size_of = sizes[self.molecule_of].view(1, n_atoms, 1)
        self._random: Tensor | None = None
        if isinstance(method, HutchinsonDivergence):
            self.n_directions = method.n_probes
            self._random = self._drawn(method)
        else:
            largest = int(sizes.max()) if self.n_molecules else 0
            self.n_directions = 3 * largest

    def passes(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield left and right directions, (n_together, n_atoms, 3) each."""
        step = self.method.directions_per_pass
        for first in range(0, self.n_directions, step):
            span = slice(first, min(first + step, self.n_directions))
            if self._random is not None:
                yield self._random[span], self._random[span]
            else:
                yield self._units(span)

    def contribution(self, left: Tensor, right: Tensor) -> Tensor:
        """Return ``Σ left right`` over passes and the coordinates of each molecule, (n_molecules,) float64."""
        products = (left.double() * right.double()).sum(dim=(0, 2))
        # Summed molecule by molecule in the order of atoms: the same in any batch.
        return torch.segment_reduce(
            products, "sum", offsets=self.batch_ptr, axis=0, initial=0.0
        ).view(self.n_molecules)

    def _units(self, span: slice) -> tuple[Tensor, Tensor]:
        numbers = torch.arange(span.start, span.stop, device=self._coordinate.device)
        numbers = numbers.view(-1, 1, 1)
        right = (self._coordinate == numbers).to(self.dtype)
        is_inside = numbers < 3 * self._size_of
        same_axis = self._coordinate % 3 == numbers % 3
        return right - (is_inside & same_axis).to(self.dtype) / self._size_of, right

    def _drawn(self, method: HutchinsonDivergence) -> Tensor:
        count, device = self.n_molecules, self.batch_ptr.device
        first = method.first_molecule
        keys = torch.full((count,), method.seed, dtype=torch.int64, device=device)
        numbers = torch.arange(first, first + count, dtype=torch.int64, device=device)
        probes = []
        for probe in range(method.n_probes):
            normals = philox_normal(
                keys,
                numbers,
                3 * self.batch_ptr.diff(),
                rollout_step=probe,
                stream_evaluation=stream_evaluation(_PROBE_STREAM, 0),
                n_total=3 * self.n_atoms,
            )
            values = normals.view(self.n_atoms, 3).to(self.dtype)
            if method.law == "rademacher":
                values = torch.where(values < 0, -1.0, 1.0).to(self.dtype)
            probes.append(center(values, batch_ptr=self.batch_ptr))
        scale: float = method.n_probes**-0.5
        return scale * torch.stack(probes)


@torch.no_grad()
def velocity_and_divergence(
    velocity_field: VelocityFunction,
    x_t: Tensor,
    flow_time: Tensor,
    *,
    batch_ptr: Tensor,
    method: DivergenceMethod | None = None,
    probes: Probes | None = None,
) -> VelocityAndDivergence:
    """Return the velocity without its mean over each molecule, and its divergence on the mean-free subspace.

    With P the projection that takes away the mean over a molecule, the field is ``P v(x)`` and its
    divergence the trace of ``P ∂v/∂x P`` on the ``3 n_m − 3`` dimensions of molecule m's subspace.

    Parameters
    ----------
    velocity_field : callable of (x_t, flow_time)
        Of no memory: the same arguments give the same velocity. Molecules do not depend on each other.
    x_t : Tensor, shape (n_atoms, 3), float32 or float64
    flow_time : Tensor, shape (n_molecules,)
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    method : ExactDivergence or HutchinsonDivergence, optional
        None: exact, in reverse mode.
    probes : Probes, optional
        Instead of ``method``: the directions, made once for many evaluations. Forward mode is then not compared with
        reverse mode, as it is otherwise: call ``check_forward_mode`` once.

    Returns
    -------
    VelocityAndDivergence

    Raises
    ------
    ValueError
        If a shape is wrong, or the velocity has no derivative by ``x_t`` in the mode asked for.

    Notes
    -----
    Exact: ``3 max(n_m)`` derivatives whatever the number of molecules, for a direction moves one coordinate
    of every molecule at once. The host reads the largest size when ``probes`` are made, else nothing. Results
    are float64 sums of products in the field's dtype; not differentiable.

    References
    ----------
    Hutchinson, Commun. Stat. Simul. Comput. 18, 1059 (1989), doi:10.1080/03610918908812806; FFJORD, arXiv:1810.01367.

    Examples
    --------
    >>> x_t, batch_ptr = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 4])
    >>> velocity_and_divergence(lambda x, t: 2 * x, x_t, torch.zeros(1), batch_ptr=batch_ptr).divergence
    tensor([18.], dtype=torch.float64)
    """
    check_shape("x_t", x_t, ("n_atoms", 3))
    if probes is None:
        probes = Probes(
            method or ExactDivergence(), batch_ptr, n_atoms=x_t.shape[0], dtype=x_t.dtype
        )
        if probes.method.mode == "forward":
            check_forward_mode(velocity_field, x_t, flow_time, batch_ptr=batch_ptr)
    take = _reverse if probes.method.mode == "reverse" else _forward
    velocity, divergence = take(lambda x: velocity_field(x, flow_time), x_t, probes)
    return VelocityAndDivergence(center(velocity, batch_ptr=batch_ptr), divergence)


def check_forward_mode(
    velocity_field: VelocityFunction, x_t: Tensor, flow_time: Tensor, *, batch_ptr: Tensor
) -> None:
    """Raise ``ValueError`` unless forward derivatives of the field agree with those in reverse.

    A compiled operation without forward derivatives lets a tangent vanish without a word; one pair of derivatives
    tells, for ``left · (J right) = (Jᵀ left) · right``.
    """
    method = HutchinsonDivergence(n_probes=1, law="normal", mode="reverse")
    reverse = Probes(method, batch_ptr, n_atoms=x_t.shape[0], dtype=x_t.dtype)
    forward = Probes(
        replace(method, mode="forward"), batch_ptr, n_atoms=x_t.shape[0], dtype=x_t.dtype
    )
    try:
        found = velocity_and_divergence(
            velocity_field, x_t, flow_time, batch_ptr=batch_ptr, probes=forward
        ).divergence
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"mode: expected a velocity_field with forward derivatives, got {error}; use mode='reverse'"
        ) from error
    expected = velocity_and_divergence(
        velocity_field, x_t, flow_time, batch_ptr=batch_ptr, probes=reverse
    ).divergence
    off = (found - expected).abs().max() if found.numel() else torch.zeros(())
    if off > _ADJOINT_TOLERANCE[x_t.dtype] * (1 + expected.abs().sum()):
        raise ValueError(
            f"mode: expected forward derivatives of velocity_field to agree with those in reverse, got "
            f"{off:.3g} between them; an operation in it has none: use mode='reverse'"
        )


def _reverse(
    field: Callable[[Tensor], Tensor], x_t: Tensor, probes: Probes
) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        velocity = field(x_t)
    if not velocity.requires_grad:
        raise ValueError(
            "velocity_field: expected a velocity that depends on x_t by differentiable operations, got one without a "
            "gradient; does it run under torch.no_grad, or detach its argument?"
        )
    total = torch.zeros(probes.n_molecules, dtype=torch.float64, device=x_t.device)
    for left, right in probes.passes():
        together = left.shape[0] > 1
        (rows,) = torch.autograd.grad(
            velocity,
            x_t,
            left if together else left[0],
            retain_graph=True,
            is_grads_batched=together,
        )
        total += probes.contribution(rows if together else rows.unsqueeze(0), right)
    return velocity.detach(), total


def _forward(
    field: Callable[[Tensor], Tensor], x_t: Tensor, probes: Probes
) -> tuple[Tensor, Tensor]:
    def derivative(right: Tensor) -> tuple[Tensor, Tensor]:
        pair = torch.func.jvp(field, (x_t,), (right,))
        return pair[0], pair[1]

    velocity = None
    total = torch.zeros(probes.n_molecules, dtype=torch.float64, device=x_t.device)
    for left, right in probes.passes():
        if left.shape[0] > 1:
            velocities, tangents = torch.func.vmap(derivative)(right)
            velocity = velocities[0]
        else:
            velocity, tangent = derivative(right[0])
            tangents = tangent.unsqueeze(0)
        total += probes.contribution(tangents, left)
    return field(x_t) if velocity is None else velocity, total
