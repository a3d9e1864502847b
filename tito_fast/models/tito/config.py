"""What a TITO model is, apart from its weights."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from tito_fast.types import COUPLINGS, VECTOR_STARTS, Coupling, VectorStart
from tito_fast.validation import check_at_least, check_choice, check_positive


@dataclass(frozen=True, kw_only=True)
class TitoConfig:
    """The shape of the network.

    Parameters
    ----------
    n_features : int
        Channels F of scalars, vectors and edges.
    n_embedding_layers, n_model_layers : int
        Message-and-update pairs of the conditioning and of the velocity network.
    n_reduced_features : int or None
        Width of the bottleneck inside the messages; None: no bottleneck.
    scaled_cutoff : float or None
        Radius of the graph in model units; None: complete molecular graphs, as published.
    distance_encoding_length : float
        Length of the distance encoding of the conditioning network, model units. The velocity network
        always uses 10.
    max_lag_ps : float
        Largest lag the model takes; also the length of the lag encoding.
    has_temperature : bool
        Whether the velocity network takes a temperature.
    temperature_scale_k : float
        Kelvins are divided by this before they are encoded (the encoding has length 1).
    vector_start : "randn" | "randn_fixed" | "zeros"
        How the vectors of the velocity network start (architecture: what a model is).
    """

    n_features: int = 64
    n_embedding_layers: int = 2
    n_model_layers: int = 5
    n_reduced_features: int | None = None
    scaled_cutoff: float | None = None
    distance_encoding_length: float = 10.0
    max_lag_ps: float = 1000.0
    has_temperature: bool = False
    temperature_scale_k: float = 1000.0
    vector_start: VectorStart = "randn"

    def __post_init__(self) -> None:
        """Check ranges."""
        check_at_least("n_features", self.n_features, 2)
        if self.n_features % 2:
            raise ValueError(f"n_features: expected an even number, got {self.n_features}")
        check_at_least("n_embedding_layers", self.n_embedding_layers, 1)
        check_at_least("n_model_layers", self.n_model_layers, 1)
        if self.n_reduced_features is not None and (
            self.n_reduced_features < 2 or self.n_reduced_features % 2
        ):
            raise ValueError(
                f"n_reduced_features: expected an even number above zero or none, got {self.n_reduced_features}"
            )
        if self.scaled_cutoff is not None:
            check_positive("scaled_cutoff", self.scaled_cutoff)
        check_positive("distance_encoding_length", self.distance_encoding_length)
        check_positive("max_lag_ps", self.max_lag_ps, unit="ps")
        check_positive("temperature_scale_k", self.temperature_scale_k, unit="K")
        check_choice("vector_start", self.vector_start, VECTOR_STARTS)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the config that ``to_dict`` described; refuse unknown fields by name."""
        return cls(**_known_fields(cls, values))


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The facts that are needed to use a model safely (architecture §7).

    Parameters
    ----------
    length_unit_nm : float
        Nanometres in one model unit.
    elements : tuple of int or None
        Atomic numbers the model was trained on; None: not recorded, anything is let through.
    bond_types : tuple of int or None
        Bond types (RDKit codes; 0 for no bond) it was trained on; None as for ``elements``.
    formal_charges : tuple of int
        Formal charges of atoms it was trained on.
    min_lag_ps : float or None
        Shortest lag it was trained on; a shorter one warns.
    coupling : Coupling
        How base samples were paired with data.
    flow_sigma : float
        Standard deviation of the noise on the interpolant, model units.
    base_std : float
        Standard deviation of the base density, model units.
    temperature_k : float or None
        Temperature of the training data.
    training_set, training_set_hash : str
        Name and hash of the training data.
    description : str
        One line for people.
    """

    length_unit_nm: float
    elements: tuple[int, ...] | None = None
    bond_types: tuple[int, ...] | None = None
    formal_charges: tuple[int, ...] = (0,)
    min_lag_ps: float | None = None
    coupling: Coupling = "r"
    flow_sigma: float = 0.001
    base_std: float = 1.0
    temperature_k: float | None = None
    training_set: str = ""
    training_set_hash: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        """Check ranges; lists become tuples, as JSON gives lists."""
        check_positive("length_unit_nm", self.length_unit_nm, unit="nm")
        check_positive("base_std", self.base_std)
        check_choice("coupling", self.coupling, COUPLINGS)
        for name in ("elements", "bond_types", "formal_charges"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(int(entry) for entry in value))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the facts that ``to_dict`` described; refuse unknown fields by name."""
        return cls(**_known_fields(cls, values))


def _known_fields(
    cls: type[TitoConfig] | type[ModelInfo], values: dict[str, Any]
) -> dict[str, Any]:
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{cls.__name__}: expected fields {', '.join(sorted(known))}, got {', '.join(unknown)}; "
            "the file may come from a newer version of tito_fast"
        )
    return values
