"""Several molecules as one set of tensors, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from tito_fast.data.molecule import Molecule


@dataclass(frozen=True, eq=False, kw_only=True)
class MoleculeBatch:
    """The topology of a ragged batch; positions travel beside it as ``(n_atoms, 3)``.

    Parameters
    ----------
    atomic_numbers : Tensor, shape (n_atoms,), int64
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
        Atoms of molecule ``m`` are ``batch_ptr[m]:batch_ptr[m + 1]``.
    bond_index : Tensor, shape (2, n_bonds), int64
        Both directions, numbered over the whole batch.
    bond_type : Tensor, shape (n_bonds,), int64
        RDKit codes.
    sizes : tuple of int
        Atoms of each molecule, on the host, so that nothing synchronises to learn them.
    """

    atomic_numbers: Tensor
    batch_ptr: Tensor
    bond_index: Tensor
    bond_type: Tensor
    sizes: tuple[int, ...]

    @classmethod
    def from_molecules(
        cls, molecules: Sequence[Molecule], *, device: torch.device | str = "cpu"
    ) -> Self:
        """Return the batch of ``molecules`` in the order given, on ``device``."""
        sizes = tuple(molecule.n_atoms for molecule in molecules)
        starts = [0]
        for size in sizes:
            starts.append(starts[-1] + size)
        empty = torch.zeros(0, dtype=torch.int64)
        return cls(
            atomic_numbers=torch.cat(
                [empty, *(torch.as_tensor(m.atomic_numbers) for m in molecules)]
            ).to(device),
            batch_ptr=torch.tensor(starts, dtype=torch.int64, device=device),
            bond_index=torch.cat(
                [
                    empty.view(2, 0),
                    *(
                        torch.as_tensor(m.bond_index) + start
                        for m, start in zip(molecules, starts, strict=False)
                    ),
                ],
                dim=1,
            ).to(device),
            bond_type=torch.cat([empty, *(torch.as_tensor(m.bond_type) for m in molecules)]).to(
                device
            ),
            sizes=sizes,
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all molecules."""
        return sum(self.sizes)

    @property
    def n_molecules(self) -> int:
        """Number of molecules."""
        return len(self.sizes)

    @property
    def batch_idx(self) -> Tensor:
        """Molecule of each atom, (n_atoms,), int64."""
        return torch.repeat_interleave(
            torch.arange(self.n_molecules, device=self.batch_ptr.device),
            self.batch_ptr.diff(),
            output_size=self.n_atoms,
        )

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on ``device``."""
        return type(self)(
            atomic_numbers=upload(self.atomic_numbers, device),
            batch_ptr=upload(self.batch_ptr, device),
            bond_index=upload(self.bond_index, device),
            bond_type=upload(self.bond_type, device),
            sizes=self.sizes,
        )


def upload(values: Tensor, device: torch.device | str) -> Tensor:
    """Return ``values`` on ``device``; the host does not wait where it goes to a CUDA device."""
    if values.device.type == "cpu" and torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
