"""Named systems: molecules of the sizes that people sample, with random positions."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import Molecule

N_ATOMS = {
    "mdqm9-like": 18,
    "alanine-dipeptide": 22,
    "tetrapeptide": 68,
    "octapeptide": 166,
    "chignolin-like": 250,
}


@dataclass(frozen=True)
class System:
    """``n_replicas`` copies of a molecule of ``n_atoms`` atoms."""

    name: str
    n_atoms: int
    n_replicas: int

    @property
    def n_edges(self) -> int:
        """Directed edges of the complete graphs."""
        return self.n_replicas * self.n_atoms * (self.n_atoms - 1)

    def molecule(self) -> Molecule:
        """Return a chain of random elements with single bonds; its positions are random."""
        n, rng = self.n_atoms, np.random.default_rng(0)
        chain = np.stack([np.arange(n - 1), np.arange(1, n)])
        return Molecule(
            name=self.name,
            atomic_numbers=rng.choice([1, 6, 7, 8], size=n),
            bond_index=np.concatenate([chain, chain[::-1]], axis=1),
            bond_type=np.ones(2 * (n - 1), dtype=np.int64),
            positions=0.25 * rng.standard_normal((n, 3)),
            atom_names=tuple(f"X{i}" for i in range(n)),
            residue_names=("MOL",) * n,
            residue_numbers=(1,) * n,
            chain_ids=("A",) * n,
        )

    def batch(self) -> MoleculeBatch:
        """Return the batch of all replicas."""
        return MoleculeBatch.from_molecules([self.molecule()] * self.n_replicas)


def system(name: str, n_replicas: int) -> System:
    """Return the system called ``name``."""
    return System(name, N_ATOMS[name], n_replicas)


def sgemm_gflops(n_rows: int = 4096, width: int = 64, n_out: int = 320) -> float:
    """Return the best rate of a float32 matrix product of the network's shape, in GFLOP/s."""
    left, right = torch.randn(n_rows, width), torch.randn(width, n_out)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return 2 * n_rows * width * n_out / best * 1e-9
