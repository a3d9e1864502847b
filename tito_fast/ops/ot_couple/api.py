"""Public function of the op ``ot_couple``."""

import torch
from torch import Tensor

from tito_fast.ops.ot_couple import native
from tito_fast.ops.ot_couple.batched import ot_couple_rotations
from tito_fast.ops.ot_couple.reference import check_finite, ot_couple_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import COUPLINGS, Backend, Coupling
from tito_fast.validation import (
    check_batch_ptr,
    check_choice,
    check_dtype,
    check_floating,
    check_same_device,
    check_shape,
)

_ROTATIONS = ("r", "released")


def ot_couple(
    x_0: Tensor,
    x_1: Tensor,
    *,
    batch_ptr: Tensor,
    plan: Coupling = "r",
    backend: Backend = "auto",
) -> Tensor:
    """Rotate or permute base samples towards the data, molecule by molecule.

    ``r`` applies the proper rotation ``argmin_R sum_i |x_1_i - R x_0_i|^2``; ``p`` the permutation
    ``argmin_j sum_i |x_1_i - x_0_j(i)|^2``; ``pr`` and ``rp`` both, in the order of the letters.

    Parameters
    ----------
    x_0
        (n_atoms, 3) float32 or float64, base samples.
    x_1
        (n_atoms, 3), dtype of ``x_0``, data in the same unit.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    plan
        ``none`` (a copy of ``x_0``), ``r``, ``released`` (the same as ``r``: what the released code
        did under the name ``pr``), ``p``, ``pr`` or ``rp``. The last three choose a permutation from
        ``x_1`` and so change the law of ``x_0`` for labelled atoms: for comparison only.
    backend
        ``auto``, ``native``, ``reference``, or ``eager``: rotations of all molecules at once,
        permutations as in ``reference``. ``auto`` is ``native`` where it was built, else ``eager``.
        ``native`` permutes molecules of up to 128 atoms on a CUDA device; ``auto`` copies batches
        with larger ones to the CPU, and warns of it once.

    Returns
    -------
    Tensor
        (n_atoms, 3), the coupled ``x_0``, a new tensor without gradient history.

    Raises
    ------
    ValueError
        A shape, ``batch_ptr`` or ``plan`` is wrong, or a coordinate is not finite or, for a permutation,
        too large to square. On a CUDA device ``native`` and ``eager`` look at no coordinates: such a
        molecule becomes NaN.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.
    CapacityError
        ``native`` on a CUDA device was to permute a molecule of more than 128 atoms.

    Notes
    -----
    Coordinates are taken as given, about the origin: centre ``x_0`` first for a rotation about its
    centre; where ``x_1`` is centred does then not matter. Computed in double and rounded once.
    Deterministic, independent of the batch and of the number of threads. Not differentiable: the
    result is detached. Where the best rotation is not unique (all atoms of one side on a line) it is
    the smallest rotation of the one line onto the other. The permutation is exact, by shortest
    augmenting paths, O(n_atoms^3) per molecule at worst. ``native`` gives the same bits on a CPU and on
    a CUDA device. There the reference and permutations wait for the device; rotations by ``native``
    (one launch) and ``eager`` do not, and can be captured in a CUDA graph: they read ``batch_ptr`` on
    the device, and rows that it leaves out are undefined.

    References
    ----------
    Kabsch, Acta Cryst. A32, 922 (1976), doi:10.1107/S0567739476001873; Jonker and Volgenant,
    Computing 38, 325 (1987), doi:10.1007/BF02278710.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import ot_couple
    >>> x_0 = torch.tensor([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> x_1 = torch.tensor([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    >>> ot_couple(x_0, x_1, batch_ptr=torch.tensor([0, 2])).tolist()
    [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    check_choice("plan", plan, COUPLINGS)
    check_floating("x_0", x_0)
    check_shape("x_0", x_0, ("n_atoms", 3))
    check_dtype("x_1", x_1, x_0.dtype)
    check_shape("x_1", x_1, (x_0.shape[0], 3))
    check_same_device("x_1", x_1, "x_0", x_0)
    check_dtype("batch_ptr", batch_ptr, torch.int64)
    check_same_device("batch_ptr", batch_ptr, "x_0", x_0)
    if batch_ptr.ndim != 1 or batch_ptr.numel() == 0:
        raise ValueError(
            f"batch_ptr: expected shape (n_molecules + 1,), got {tuple(batch_ptr.shape)}"
        )
    x_0, x_1 = x_0.detach(), x_1.detach()
    if resolve_backend("ot_couple", backend, x_0.device) == "native":
        if backend == "auto":
            return native.ot_couple_native_of_any_size(x_0, x_1, batch_ptr, plan)
        return native.ot_couple_native(x_0, x_1, batch_ptr, plan)
    is_batched = backend != "reference" and plan in _ROTATIONS
    if not (is_batched and x_0.device.type == "cuda"):
        check_batch_ptr(batch_ptr, x_0.shape[0])
    if is_batched:
        if x_0.device.type == "cpu":
            check_finite(x_0, x_1, batch_ptr)
        return ot_couple_rotations(x_0, x_1, batch_ptr)
    return ot_couple_reference(x_0, x_1, batch_ptr, plan)
