"""What a user can say about how a molecule is read."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a molecule.

    Parameters
    ----------
    name : str or None
        The molecule's label; by default the file's stem, or the text that was given.
    smiles_template : str or None
        SMILES that gives the bond orders and formal charges of a structure that has none (PDB,
        MDTraj).
    add_hydrogens : bool
        Complete missing hydrogens instead of refusing the molecule.
    seed : int
        Seed of RDKit's ETKDG, used where no coordinates are given.
    """

    name: str | None = None
    smiles_template: str | None = None
    add_hydrogens: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the seed, which RDKit takes as a 32-bit integer and reads -1 as 'random'."""
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed: expected 0 to {2**31 - 1}, got {self.seed}")
        if self.name is not None and not self.name.strip():
            raise ValueError(f"name: expected a label, got {self.name!r}")

    def refuse_template(self, source: str) -> None:
        """Raise ``ValueError`` if there is a template for an input that has its bond orders."""
        if self.smiles_template is not None:
            raise ValueError(
                f"smiles_template: expected none for {source}, which states its bond orders, "
                f"got {self.smiles_template!r}; it serves PDB files and MDTraj topologies"
            )
