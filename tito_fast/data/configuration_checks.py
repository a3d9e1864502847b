"""Whether samples are the molecule that was asked for: its bonds, its stereocenters.

A generator of positions may make another isomer, or the mirror image. As published for transferable Boltzmann
generators: bonds are read off the distances, the graph of bonds must be that of the molecule, and the
stereocenters must have their sense, of the sample or else of its mirror image.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.stereo import corner_senses, mol_with_stereo, stereocenter_corners

CUTOFF_HYDROGEN_NM: Final = 0.14
CUTOFF_NM: Final = 0.18
CUTOFF_LARGE_NM: Final = 0.22
"""Of pairs with an element from phosphorus on, such as sulfur, and without hydrogen."""

_HYDROGEN, _CARBON, _FIRST_LARGE = 1, 6, 15
# Distances looked at together: a few MB, whatever the number of samples.
_BLOCK_DISTANCES: Final = 1 << 20


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckedConfigurations:
    """Samples after the checks.

    Parameters
    ----------
    positions : ndarray, shape (n_samples, n_atoms, 3)
        As given, except that reordered samples have their atoms in the molecule's order, and mirrored ones
        are the mirror images.
    is_kept, is_reordered, is_mirrored : ndarray, shape (n_samples,), bool
    counts : dict of str to int
        ``samples``; ``not_finite``, ``wrong_topology`` and ``wrong_chirality``, the reason for which a sample is
        not kept, each counted once; ``kept``, and of those ``reordered`` and ``mirrored``.
    """

    positions: NDArray[np.floating]
    is_kept: NDArray[np.bool_]
    is_reordered: NDArray[np.bool_]
    is_mirrored: NDArray[np.bool_]
    counts: dict[str, int]

    @property
    def share_kept(self) -> float | None:
        """Share of samples that are kept; None of none."""
        n_samples = self.counts["samples"]
        return self.counts["kept"] / n_samples if n_samples else None


def check_configurations(
    molecule: Molecule,
    positions: NDArray[np.floating],
    *,
    reorder: bool = True,
    mirror: bool = True,
) -> CheckedConfigurations:
    """Check samples of ``molecule``.

    Parameters
    ----------
    molecule : Molecule
        Its bonds and the stereocenters of its positions are what is expected.
    positions : ndarray, shape (n_samples, n_atoms, 3)
        In nm.
    reorder : bool
        Keep a sample with the molecule's bonds between other atoms of the same elements, and put its atoms in the
        molecule's order. Right for a model whose density is that of the sample in either order.
    mirror : bool
        Take the mirror image of a sample whose stereocenters all are wrong. Right for a model whose
        density is that of the mirror image as well.

    Returns
    -------
    CheckedConfigurations

    Raises
    ------
    ValueError
        If the shape does not fit.

    Notes
    -----
    Two atoms are bonded below 0.14 nm if one is hydrogen, else below 0.22 nm if one is sulfur (or
    phosphorus or anything heavier), else below 0.18 nm if one is carbon; other pairs, such as nitrogen and
    oxygen, only where the molecule has a bond between those elements, below 0.18 nm. Samples with the bonds of
    the molecule atom by atom, nearly all, are found by comparing distances of all samples at once; only others
    with as many bonds are tried for an isomorphism that keeps elements, and their atoms put in its order.

    References
    ----------
    .. [1] Transferable Boltzmann Generators, arXiv:2406.14426, appendix; there graphs are always matched, by
       another library, and time out.

    Examples
    --------
    >>> import tito_fast
    >>> from tito_fast.data.configuration_checks import check_configurations
    >>> molecule = tito_fast.read_molecule("C[C@H](O)F")
    >>> checked = check_configurations(molecule, -molecule.positions[None])
    >>> checked.counts["kept"], checked.counts["mirrored"]
    (1, 1)
    """
    samples = np.array(positions)
    n_atoms = molecule.n_atoms
    if samples.ndim != 3 or samples.shape[1:] != (n_atoms, 3):
        raise ValueError(
            f"positions: expected shape (n_samples, {n_atoms}, 3), got {samples.shape}"
        )
    is_finite: NDArray[np.bool_] = np.asarray(np.isfinite(samples).all(axis=(1, 2)))
    has_topology = is_finite.copy()
    is_reordered = np.zeros(len(samples), dtype=np.bool_)
    graph = _BondGraph(molecule)
    for rows in _blocks(np.flatnonzero(is_finite), n_atoms * n_atoms):
        bonds = graph.bonds_of(samples[rows])
        is_same = (bonds == graph.expected).all(axis=1)
        for row, found in zip(rows[~is_same], bonds[~is_same], strict=True):
            order = graph.isomorphism(found) if reorder else None
            has_topology[row] = order is not None
            if order is not None:
                is_reordered[row] = True
                samples[row] = samples[row][order]
    is_wrong = _is_wrong_handed(molecule, samples)
    # The mirror image has the other sense everywhere: it is right only where all of them were wrong.
    is_mirrored = has_topology & is_wrong.all(axis=1) & bool(mirror and is_wrong.shape[1])
    # Through the origin: the mirror image, turned. A centered sample stays centered.
    samples[is_mirrored] *= -1
    is_rejected = has_topology & is_wrong.any(axis=1) & ~is_mirrored
    is_kept = has_topology & ~is_rejected
    is_reordered &= is_kept
    counts = {
        "samples": len(samples),
        "not_finite": int((~is_finite).sum()),
        "wrong_topology": int((is_finite & ~has_topology).sum()),
        "wrong_chirality": int(is_rejected.sum()),
        "kept": int(is_kept.sum()),
        "reordered": int(is_reordered.sum()),
        "mirrored": int(is_mirrored.sum()),
    }
    return CheckedConfigurations(
        positions=samples,
        is_kept=is_kept,
        is_reordered=is_reordered,
        is_mirrored=is_mirrored,
        counts=counts,
    )


def bond_cutoffs_nm(molecule: Molecule, pairs: IntArray) -> FloatArray:
    """Return the distance below which two atoms count as bonded; 0 for elements that do not bond.

    Parameters
    ----------
    molecule : Molecule
    pairs : ndarray, shape (2, n_pairs), int64

    Returns
    -------
    ndarray, shape (n_pairs,), float64
        In nm.
    """
    low, high = np.sort(molecule.atomic_numbers[pairs], axis=0)
    bonded = {
        tuple(sorted(numbers))
        for numbers in molecule.atomic_numbers[molecule.bond_index].T.tolist()
    }
    may_bond = np.array([pair in bonded for pair in zip(low.tolist(), high.tolist(), strict=True)])
    has_carbon = (low == _CARBON) | (high == _CARBON)
    cutoffs = np.where(has_carbon | may_bond.astype(np.bool_), CUTOFF_NM, 0.0)
    cutoffs[high >= _FIRST_LARGE] = CUTOFF_LARGE_NM
    cutoffs[low == _HYDROGEN] = CUTOFF_HYDROGEN_NM
    return cutoffs


class _BondGraph:
    """The graph of bonds that samples of a molecule must have."""

    def __init__(self, molecule: Molecule) -> None:
        self._numbers = molecule.atomic_numbers
        n_atoms = molecule.n_atoms
        self.pairs = np.array(np.triu_indices(n_atoms, 1), dtype=np.int64)
        self._squared_cutoffs = bond_cutoffs_nm(molecule, self.pairs) ** 2
        is_bonded = np.zeros((n_atoms, n_atoms), dtype=np.bool_)
        is_bonded[tuple(molecule.bond_index)] = True
        self.expected: NDArray[np.bool_] = is_bonded[tuple(self.pairs)]
        self._kinds = self._bond_kinds(self.expected)
        self._mol: Any = None

    def bonds_of(self, samples: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return whether each pair is bonded, (n_samples, n_pairs)."""
        squared = np.zeros((len(samples), self.pairs.shape[1]))
        # By coordinate, so that no array of three times the size is made.
        for axis in range(3):
            column = samples[:, :, axis].astype(np.float64)
            difference = column[:, self.pairs[0]] - column[:, self.pairs[1]]
            squared += difference * difference
        return np.asarray(squared < self._squared_cutoffs)

    def isomorphism(self, is_bonded: NDArray[np.bool_]) -> IntArray | None:
        """Return the sample's atom in the place of each of the molecule's, or None if the graphs differ."""
        if not np.array_equal(self._bond_kinds(is_bonded), self._kinds):
            return None
        if self._mol is None:
            self._mol = self._graph(self.expected)
        match = self._graph(is_bonded).GetSubstructMatch(self._mol)
        # With as many atoms and bonds, a part that matches is all of it.
        return np.array(match, dtype=np.int64) if match else None

    def _bond_kinds(self, is_bonded: NDArray[np.bool_]) -> IntArray:
        """Return the elements of all bonds in one order, (n_bonds, 2)."""
        kinds = np.sort(self._numbers[self.pairs[:, is_bonded]], axis=0).T
        return np.asarray(kinds[np.lexsort(kinds.T)])

    def _graph(self, is_bonded: NDArray[np.bool_]) -> Any:  # noqa: ANN401  RDKit has no types
        from rdkit import Chem  # noqa: PLC0415  slow to import

        mol = Chem.RWMol()
        for number in self._numbers.tolist():
            atom = Chem.Atom(number)
            atom.SetNoImplicit(True)
            mol.AddAtom(atom)
        for first, second in self.pairs[:, is_bonded].T.tolist():
            mol.AddBond(first, second, Chem.BondType.SINGLE)
        return mol.GetMol()


def _is_wrong_handed(molecule: Molecule, samples: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return whether each stereocenter has another sense than in ``molecule``, (n_samples, n_stereocenters)."""
    from rdkit import rdBase  # noqa: PLC0415  slow to import

    with rdBase.BlockLogs():
        corners = stereocenter_corners(mol_with_stereo(molecule))
    expected = corner_senses(molecule.positions[None], corners)
    with np.errstate(invalid="ignore"):
        return np.asarray(corner_senses(samples, corners) != expected)


def _blocks(rows: IntArray, n_each: int) -> list[IntArray]:
    n_rows = max(1, _BLOCK_DISTANCES // n_each)
    return [rows[start : start + n_rows] for start in range(0, len(rows), n_rows)]
