"""A TBG model: network, what it was trained on, and its velocity of ragged batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

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

        The same object several times, as for samples of one molecule, is encoded once.

        Raises
        ------
        ValueError
            If a molecule does not fit the encoding.
        """
        batch = MoleculeBatch.from_molecules(molecules, device=self.device)
        encoded = {id(molecule): molecule for molecule in molecules}
        features = {
            key: atom_features(molecule, self.config).to(self.device, self.dtype)
            for key, molecule in encoded.items()
        }
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
                    torch.stack([features[id(molecules[index])] for index in members]),
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
