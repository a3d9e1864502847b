"""A TBG model: network, what it was trained on, and its velocity of ragged batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import Molecule
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.encoding import atom_features
from tito_fast.models.tbg.network import TbgNetwork
from tito_fast.models.tito.config import ModelInfo
from tito_fast.validation import check_shape


@dataclass(frozen=True, eq=False)
class SizeGroup:
    """The molecules of a batch that have one size.

    Parameters
    ----------
    molecule_idx : Tensor, shape (n_molecules,), int64
    atom_idx : Tensor, shape (n_molecules * n_atoms,), int64
        Their atoms in the batch.
    atom_features : Tensor, shape (n_molecules, n_atoms, n_inputs)
    """

    molecule_idx: Tensor
    atom_idx: Tensor
    atom_features: Tensor


@dataclass(frozen=True, eq=False)
class PreparedMolecules:
    """Tables of a batch of molecules for :meth:`TbgModel.velocity`."""

    batch: MoleculeBatch
    groups: tuple[SizeGroup, ...]


class TbgModel:
    """A network with everything that is needed to use it safely.

    Parameters
    ----------
    config : TbgConfig
    info : ModelInfo
    network : TbgNetwork
        Built from ``config``.

    Notes
    -----
    Positions are in model units (``nm / info.length_unit_nm``). Differentiable in parameters and positions,
    in reverse and in forward mode; nothing here draws random numbers.
    """

    def __init__(self, config: TbgConfig, info: ModelInfo, network: TbgNetwork) -> None:
        self.config = config
        self.info = info
        self.network = network
        # Encoded once: batches of training draw from the same molecules again and again.
        self._features: WeakKeyDictionary[Molecule, Tensor] = WeakKeyDictionary()

    @classmethod
    def create(cls, config: TbgConfig, info: ModelInfo, *, seed: int) -> Self:
        """Return a model with freshly drawn weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, info, TbgNetwork(config))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights."""
        return next(self.network.parameters()).dtype

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Move the weights, in place; return the model."""
        self.network.to(device=device, dtype=dtype)
        return self

    def prepare_molecules(self, molecules: Sequence[Molecule]) -> PreparedMolecules:
        """Return the tables of ``molecules``: once per set of molecules.

        Raises
        ------
        ValueError
            If a molecule does not fit the encoding, or has an element that the model never saw.
        """
        batch = MoleculeBatch.from_molecules(molecules, device=self.device)
        starts = batch.batch_ptr.tolist()
        groups = []
        for size in sorted(set(batch.sizes)):
            members = [index for index, each in enumerate(batch.sizes) if each == size]
            first_atoms = torch.tensor([starts[index] for index in members])
            atom_idx = first_atoms[:, None] + torch.arange(size)
            groups.append(
                SizeGroup(
                    torch.tensor(members, device=self.device),
                    atom_idx.flatten().to(self.device),
                    torch.stack([self._encoded(molecules[index]) for index in members]),
                )
            )
        return PreparedMolecules(batch, tuple(groups))

    def velocity(self, prepared: PreparedMolecules, x_t: Tensor, flow_time: Tensor) -> Tensor:
        """Return the velocity of the flow.

        Parameters
        ----------
        prepared : PreparedMolecules
        x_t : Tensor, shape (n_atoms, 3)
            Model units, of the model's type and device.
        flow_time : Tensor, shape (n_molecules,)
            In [0, 1].

        Returns
        -------
        Tensor, shape (n_atoms, 3)
            Model units, mean-free for each molecule.

        Raises
        ------
        ValueError
            If a shape does not fit the batch.

        Notes
        -----
        One pass of the network for each size that occurs; memory grows with the sum of squares of the sizes.
        """
        check_shape("x_t", x_t, (prepared.batch.n_atoms, 3))
        check_shape("flow_time", flow_time, (prepared.batch.n_molecules,))
        parts = []
        for group in prepared.groups:
            n_molecules, n_atoms, _ = group.atom_features.shape
            tile = x_t[group.atom_idx].view(n_molecules, n_atoms, 3)
            velocity = self.network(group.atom_features, tile, flow_time[group.molecule_idx])
            parts.append(velocity.reshape(-1, 3))
        if not parts:
            return torch.zeros_like(x_t)
        places = torch.cat([group.atom_idx for group in prepared.groups])
        return torch.cat(parts)[places.argsort()]

    def _encoded(self, molecule: Molecule) -> Tensor:
        if molecule not in self._features:
            known = self.info.elements
            unknown = set(molecule.atomic_numbers.tolist()).difference(known or ())
            if known is not None and unknown:
                raise ValueError(
                    f"molecule {molecule.name!r}: element {', '.join(map(str, sorted(unknown)))} was never "
                    f"seen by this model, which knows {', '.join(map(str, known))}"
                )
            self._features[molecule] = atom_features(molecule, self.config)
        return self._features[molecule].to(self.device, self.dtype)
