"""How many frames of a rollout are chemically sound, counted while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.contacts import (
    CLASH_SHARE_HEAVY,
    CLASH_SHARE_HYDROGEN,
    MIN_BONDS_APART,
    clash_shares,
    far_pairs,
    vdw_sums_nm,
)
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.stereo import corner_senses, mol_with_stereo, stereocenter_corners

BOND_RANGE_NM: Final = (0.08, 0.2)
"""A bond length in this range is plausible for some pair of elements."""

COVALENT_RANGE: Final = (0.7, 1.3)
"""Plausible bond length over the sum of the two covalent radii: 0.73 to 1.17 in our MD at 300 K."""

FLAG_BITS: Final = {"bonds": 1, "clashes": 2, "stereo": 4, "nan": 8}
"""What can make a frame unsound, and the bit that says so in its flag.

``bonds``: a bond length outside ``COVALENT_RANGE`` of the covalent radii (not ``BOND_RANGE_NM``: a sound S-S or C-I
bond is longer than that); ``clashes``: a clash; ``stereo``: a stereocenter or double bond that is not as in
the start structure; ``nan``: a coordinate that is NaN or infinite.
"""

_COUNTS: Final = (
    "frames",
    "nan_frames",
    "bonds_in_range",
    "bonds_near_covalent",
    "clash_frames",
    "clash_pairs",
    "inverted_frames",
    "inverted_stereocenters",
    "flipped_frames",
    "flipped_double_bonds",
)
# Distances looked at together: a few MB, whatever the number of frames.
_BLOCK_DISTANCES = 1 << 18


@dataclass(frozen=True, eq=False, kw_only=True)
class _Geometry:
    """What of a molecule is looked at in each frame."""

    bonds: IntArray  # (2, n)
    covalent_nm: FloatArray  # (n,)
    pairs: IntArray  # (2, n), at least three bonds apart
    clash_nm: FloatArray  # (n,)
    stereocenters: IntArray  # (n,)
    tetrahedra: IntArray  # (n, 4), apex last
    double_bonds: IntArray  # (n, 4), atoms a-b=c-d


class ValidityCounter:
    """Counts sound and unsound frames of each replica of one molecule.

    Looked at: NaN; bond lengths, in ``BOND_RANGE_NM`` and in ``COVALENT_RANGE`` of the covalent radii;
    clashes of atoms three or more bonds apart; the sense of each stereocenter and of each double bond
    with two isomers (as RDKit finds them) against the start structure. A frame with NaN counts as
    such and for nothing else.

    Parameters
    ----------
    molecule : Molecule
        Its positions are the start structure.

    Notes
    -----
    About 400,000 frames a second for 20 atoms on one core, 0.2 ms for a call with few
    frames. What is counted does not depend on how frames are divided over calls.
    """

    def __init__(self, molecule: Molecule) -> None:
        self._molecule = molecule
        self._geometry = _geometry(molecule)
        start = molecule.positions[None]
        self._start_senses = corner_senses(start, self._geometry.tetrahedra)[0]
        self._start_sides = _sides(start, self._geometry.double_bonds)[0]
        self._counts: dict[str, IntArray] = {name: np.zeros(0, np.int64) for name in _COUNTS}

    def update(self, replica_idx: IntArray, positions: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Count frames; return what is wrong with each.

        Parameters
        ----------
        replica_idx : ndarray, shape (n_frames,), integer
            Replica of each frame, from 0.
        positions : ndarray, shape (n_frames, n_atoms, 3)
            In nm.

        Returns
        -------
        ndarray, shape (n_frames,), uint8
            Sum of the ``FLAG_BITS`` of what makes a frame unsound; 0 for a sound one.

        Raises
        ------
        ValueError
            If shapes do not fit or a replica is negative.
        """
        replicas = np.asarray(replica_idx, dtype=np.int64)
        frames = np.asarray(positions)
        n_atoms = self._molecule.n_atoms
        if frames.ndim != 3 or frames.shape[1:] != (n_atoms, 3):
            raise ValueError(
                f"positions: expected shape (n_frames, {n_atoms}, 3), got {frames.shape}"
            )
        if replicas.shape != frames.shape[:1]:
            raise ValueError(
                f"replica_idx: expected shape {frames.shape[:1]}, got {replicas.shape}"
            )
        flags = np.zeros(len(frames), dtype=np.uint8)
        if not len(frames):
            return flags
        if replicas.min() < 0:
            raise ValueError(f"replica_idx: expected at least 0, got {replicas.min()}")
        self._grow(int(replicas.max()) + 1)
        geometry = self._geometry
        n_distances = geometry.bonds.shape[1] + geometry.pairs.shape[1]
        n_block = max(1, _BLOCK_DISTANCES // max(1, n_distances))
        for start in range(0, len(frames), n_block):
            block = slice(start, start + n_block)
            flags[block] = self._count(replicas[block], frames[block])
        return flags

    def result(self) -> dict[str, Any]:
        """Return counts and shares, of each replica and of all, ready for JSON.

        Returns
        -------
        dict
            ``criteria``, ``stereocenters`` and ``double_bonds`` (atoms), ``all`` and ``replicas`` (a list
            by replica). A share of nothing is None.
        """
        geometry = self._geometry
        n_replicas = len(self._counts["frames"])
        totals = {name: int(values.sum()) for name, values in self._counts.items()}
        return {
            "criteria": {
                "bond_range_nm": list(BOND_RANGE_NM),
                "bond_over_covalent_radii": list(COVALENT_RANGE),
                "clash_share_of_vdw_radii": CLASH_SHARE_HEAVY,
                "clash_share_of_vdw_radii_with_hydrogen": CLASH_SHARE_HYDROGEN,
                "clash_min_bonds_apart": MIN_BONDS_APART,
            },
            "stereocenters": geometry.stereocenters.tolist(),
            "double_bonds": geometry.double_bonds[:, 1:3].tolist(),
            "all": self._summary(totals),
            "replicas": [
                self._summary({name: int(values[row]) for name, values in self._counts.items()})
                for row in range(n_replicas)
            ],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the counts in a form that JSON keeps, for :meth:`from_dict`."""
        return {name: values.tolist() for name, values in self._counts.items()}

    @classmethod
    def from_dict(cls, molecule: Molecule, counts: Mapping[str, Any]) -> Self:
        """Return the counter of ``molecule`` that :meth:`to_dict` was called on.

        Raises
        ------
        ValueError
            If a count is missing, negative or not an integer, or their numbers differ.
        """
        counter = cls(molecule)
        if set(counts) != set(_COUNTS):
            raise ValueError(
                f"counts: expected {', '.join(_COUNTS)}, got {', '.join(sorted(counts))}"
            )
        arrays = {name: np.array(counts[name]) for name in _COUNTS}
        n_replicas = arrays["frames"].shape[0] if arrays["frames"].ndim else -1
        for name, values in arrays.items():
            is_whole = values.dtype.kind == "i" or values.size == 0
            if values.shape != (n_replicas,) or not is_whole or (values < 0).any():
                raise ValueError(
                    f"counts: expected {n_replicas} counts at or above 0 in {name}, got {counts[name]!r}"
                )
        counter._counts = {name: values.astype(np.int64) for name, values in arrays.items()}
        return counter

    def merge(self, other: Self) -> None:
        """Add the counts of ``other``, of the same molecule."""
        self._grow(len(other._counts["frames"]))
        for name, values in other._counts.items():
            self._counts[name][: len(values)] += values

    def _grow(self, n_replicas: int) -> None:
        missing = n_replicas - len(self._counts["frames"])
        if missing > 0:
            for name, values in self._counts.items():
                self._counts[name] = np.concatenate([values, np.zeros(missing, np.int64)])

    def _count(self, replicas: IntArray, frames: NDArray[np.floating]) -> NDArray[np.uint8]:
        is_finite = np.isfinite(frames).all(axis=(1, 2))
        self._add("frames", replicas, np.ones(len(frames)))
        self._add("nan_frames", replicas, ~is_finite)
        if not is_finite.all():
            replicas, frames = replicas[is_finite], frames[is_finite]
        geometry = self._geometry
        lengths = _distances(frames, geometry.bonds)
        low, high = BOND_RANGE_NM
        self._add("bonds_in_range", replicas, ((lengths >= low) & (lengths <= high)).sum(1))
        low, high = COVALENT_RANGE
        near = (lengths >= low * geometry.covalent_nm) & (lengths <= high * geometry.covalent_nm)
        self._add("bonds_near_covalent", replicas, near.sum(1))
        n_clashes = (_distances(frames, geometry.pairs) < geometry.clash_nm).sum(1)
        self._add("clash_pairs", replicas, n_clashes)
        self._add("clash_frames", replicas, n_clashes > 0)
        n_inverted = (corner_senses(frames, geometry.tetrahedra) != self._start_senses).sum(1)
        self._add("inverted_stereocenters", replicas, n_inverted)
        self._add("inverted_frames", replicas, n_inverted > 0)
        n_flipped = (_sides(frames, geometry.double_bonds) != self._start_sides).sum(1)
        self._add("flipped_double_bonds", replicas, n_flipped)
        self._add("flipped_frames", replicas, n_flipped > 0)
        flags = np.full(len(is_finite), FLAG_BITS["nan"], dtype=np.uint8)
        flags[is_finite] = (
            FLAG_BITS["bonds"] * ~near.all(axis=1)
            + FLAG_BITS["clashes"] * (n_clashes > 0)
            + FLAG_BITS["stereo"] * ((n_inverted > 0) | (n_flipped > 0))
        )
        return flags

    def _add(self, name: str, replicas: IntArray, values: NDArray[Any]) -> None:
        counts = self._counts[name]
        # Exact: sums of whole numbers below 2**53.
        counts += np.bincount(replicas, weights=values, minlength=len(counts)).astype(np.int64)

    def _summary(self, counts: dict[str, int]) -> dict[str, int | float | None]:
        geometry = self._geometry
        n_finite = counts["frames"] - counts["nan_frames"]
        sizes = {
            "bonds_in_range": n_finite * geometry.bonds.shape[1],
            "bonds_near_covalent": n_finite * geometry.bonds.shape[1],
            "clash_frames": n_finite,
            "inverted_frames": n_finite if len(geometry.stereocenters) else 0,
            "flipped_frames": n_finite if len(geometry.double_bonds) else 0,
            "nan_frames": counts["frames"],
        }
        shares = {
            f"share_{name}": counts[name] / size if size else None for name, size in sizes.items()
        }
        return {**counts, "bonds": sizes["bonds_in_range"], **shares}


def _distances(frames: NDArray[np.floating], pairs: IntArray) -> FloatArray:
    """Return distances (n_frames, n_pairs) of the atoms in ``pairs`` (2, n_pairs)."""
    # By coordinate, so that no array of three times the size is made.
    squared = np.zeros((len(frames), pairs.shape[1]), dtype=frames.dtype)
    for axis in range(3):
        column = frames[:, :, axis]
        difference = column[:, pairs[0]] - column[:, pairs[1]]
        squared += difference * difference
    return np.sqrt(squared)


def _sides(frames: NDArray[np.floating], double_bonds: IntArray) -> NDArray[np.bool_]:
    """Return whether the outer atoms of each double bond are on one side, (n_frames, n)."""
    atoms = frames[:, double_bonds].astype(np.float64)
    before, axis, after = (atoms[:, :, i + 1] - atoms[:, :, i] for i in range(3))
    return np.asarray((np.cross(before, axis) * np.cross(axis, after)).sum(-1) > 0)


def _geometry(molecule: Molecule) -> _Geometry:
    from rdkit import Chem, rdBase  # noqa: PLC0415  slow to import

    table = Chem.GetPeriodicTable()
    numbers = molecule.atomic_numbers.tolist()
    covalent_nm = 0.1 * np.array([table.GetRcovalent(number) for number in numbers])
    bonds = molecule.bond_index[:, molecule.bond_index[0] < molecule.bond_index[1]]
    pairs = far_pairs(molecule)
    with rdBase.BlockLogs():
        mol = mol_with_stereo(molecule)
    centers = [
        atom.GetIdx()
        for atom in mol.GetAtoms()
        if atom.GetChiralTag()
        in (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
    ]
    double_bonds = [
        [
            bond.GetStereoAtoms()[0],
            bond.GetBeginAtomIdx(),
            bond.GetEndAtomIdx(),
            bond.GetStereoAtoms()[1],
        ]
        for bond in mol.GetBonds()
        if bond.GetBondType() == Chem.BondType.DOUBLE and len(bond.GetStereoAtoms()) == 2
    ]
    return _Geometry(
        bonds=bonds,
        covalent_nm=covalent_nm[bonds].sum(axis=0),
        pairs=pairs,
        clash_nm=clash_shares(molecule, pairs) * vdw_sums_nm(molecule, pairs),
        stereocenters=np.array(centers, dtype=np.int64),
        tetrahedra=stereocenter_corners(mol),
        double_bonds=np.array(double_bonds, dtype=np.int64).reshape(-1, 4),
    )
