"""What a TBG network is, apart from its weights."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, Self, get_args

from tito_fast.validation import check_at_least, check_choice, check_positive

AtomEncoding = Literal["element", "backbone", "full"]
ATOM_ENCODINGS: tuple[AtomEncoding, ...] = get_args(AtomEncoding)

N_BACKBONE_IDS: Final = 8
N_RESIDUES: Final = 2
N_RESIDUE_TYPES: Final = 20
N_ATOM_NAMES: Final = 54


@dataclass(frozen=True, kw_only=True)
class TbgConfig:
    """The shape of the network; the defaults are the published one for dipeptides.

    Parameters
    ----------
    encoding : "element" | "backbone" | "full"
        What a node knows of its atom (:mod:`tito_fast.models.tbg.encoding`).
    n_features : int
        Hidden width.
    n_layers : int
    coordinate_range : float
        A layer moves an atom by at most ``coordinate_range / n_layers`` along each pair, model units.
    elements : tuple of int
        Atomic numbers of the one-hot; the encoding ``full`` has no use for them.

    References
    ----------
    .. [1] Transferable Boltzmann Generators, arXiv:2406.14426.
    """

    encoding: AtomEncoding = "full"
    n_features: int = 128
    n_layers: int = 9
    coordinate_range: float = 15.0
    elements: tuple[int, ...] = (1, 6, 7, 8, 16)

    def __post_init__(self) -> None:
        """Check ranges; lists become tuples, as JSON gives lists."""
        check_choice("encoding", self.encoding, ATOM_ENCODINGS)
        check_at_least("n_features", self.n_features, 1)
        check_at_least("n_layers", self.n_layers, 1)
        check_positive("coordinate_range", self.coordinate_range)
        object.__setattr__(self, "elements", tuple(int(number) for number in self.elements))
        if len(set(self.elements)) != len(self.elements) or not self.elements:
            raise ValueError(f"elements: expected different atomic numbers, got {self.elements}")

    @classmethod
    def alanine_dipeptide(cls, *, encoding: AtomEncoding = "element") -> Self:
        """Return the published shape for alanine dipeptide: 5 layers of width 64."""
        return cls(encoding=encoding, n_features=64, n_layers=5)

    @property
    def n_inputs(self) -> int:
        """Features of an atom: 5, 13 and 76 with the published elements."""
        if self.encoding == "full":
            return N_RESIDUES + N_RESIDUE_TYPES + N_ATOM_NAMES
        return len(self.elements) + (N_BACKBONE_IDS if self.encoding == "backbone" else 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the config that ``to_dict`` described.

        Raises
        ------
        ValueError
            If a field is unknown, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"TbgConfig: expected fields {', '.join(sorted(known))}, got {', '.join(unknown)}; "
                "the file may come from a newer version of tito_fast"
            )
        return cls(**values)
