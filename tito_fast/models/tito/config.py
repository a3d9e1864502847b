"""What a TITO model is, apart from its weights."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from tito_fast.types import (
    COUPLINGS,
    LAG_INPUTS,
    MESSAGE_KINDS,
    NOISE_SCHEDULES,
    OBJECTIVES,
    VECTOR_STARTS,
    Coupling,
    LagInput,
    MessageKind,
    NoiseScheduleName,
    Objective,
    VectorStart,
)
from tito_fast.validation import check_at_least, check_choice, check_positive

# Fields that came after models had been written: left out of files where they say what was always so.
_LATER_FIELDS = (
    "objective",
    "is_conditional",
    "layer_norm",
    "message",
    "first_rank",
    "lag_in",
    "is_centered",
    "n_diffusion_steps",
    "noise_schedule",
)


@dataclass(frozen=True, kw_only=True)
class TitoConfig:
    """The shape of the network: TITO's by default, ITO's and BoPITO's by their class methods.

    Parameters
    ----------
    n_features : int
        Channels F of scalars, vectors and edges.
    n_embedding_layers, n_model_layers : int
        Message-and-update pairs of the conditioning and of the velocity network. Without a condition
        the first is 0.
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
    vector_start : "randn" | "randn_fixed" | "zeros" | "condition"
        How the vectors of the velocity network start: as noise, as zeros, or as the vectors that the
        conditioning network hands over.
    objective : "velocity" | "noise"
        What the network predicts.
    is_conditional : bool
        False: a network without state at t and without lag, of an equilibrium density.
    layer_norm : bool
        Whether the MLPs have LayerNorm.
    message : "edge" | "source"
        What messages are made of: the source's scalars and the edge's features, or the source's scalars
        alone; the latter have no edge features and scale the source's scalars instead of adding new ones.
    first_rank : 0 | 1
        Rank k of the first cosine and sine of all encodings; with 0 that pair is constant.
    lag_in : "velocity" | "condition"
        Which network reads the lag.
    is_centered : bool
        Whether the output is centered per molecule.
    n_diffusion_steps : int
        Steps T of the diffusion, and the length of their encoding; 0 for a velocity.
    noise_schedule : "sigmoid" | "polynomial" | "cosine" | ""
        Of the diffusion; empty for a velocity.

    References
    ----------
    .. [1] TITO, Science Advances 12(15) eaed2333 (2026), arXiv:2510.07589.
    .. [2] ITO, arXiv:2305.18046; BoPITO, arXiv:2410.10605.
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
    objective: Objective = "velocity"
    is_conditional: bool = True
    layer_norm: bool = True
    message: MessageKind = "edge"
    first_rank: int = 1
    lag_in: LagInput = "velocity"
    is_centered: bool = True
    n_diffusion_steps: int = 0
    noise_schedule: NoiseScheduleName | Literal[""] = ""

    @classmethod
    def ito(
        cls,
        *,
        n_features: int = 64,
        max_lag_ps: float = 1000.0,
        n_embedding_layers: int = 2,
        n_model_layers: int = 5,
        n_diffusion_steps: int = 1000,
    ) -> Self:
        """Return the network of ITO [2]_: 654,146 parameters with the published 64 features.

        Lags of its data are counted in frames of 1 ps.
        """
        return cls(
            n_features=n_features,
            n_embedding_layers=n_embedding_layers,
            n_model_layers=n_model_layers,
            max_lag_ps=max_lag_ps,
            vector_start="condition",
            objective="noise",
            layer_norm=False,
            message="source",
            first_rank=0,
            lag_in="condition",
            is_centered=False,
            n_diffusion_steps=n_diffusion_steps,
            noise_schedule="sigmoid",
        )

    @classmethod
    def bopito_dynamic(
        cls,
        *,
        n_features: int = 64,
        max_lag_ps: float = 10000.0,
        n_embedding_layers: int = 2,
        n_model_layers: int = 5,
        n_diffusion_steps: int = 1000,
        noise_schedule: NoiseScheduleName = "polynomial",
    ) -> Self:
        """Return the network of BoPITO's dynamic term [2]_; lags of its data are counted in frames of 1 ps.

        735,554 parameters with the published 64 features, of which 576 are bond types that the released
        network does not know.
        """
        return cls(
            n_features=n_features,
            n_embedding_layers=n_embedding_layers,
            n_model_layers=n_model_layers,
            max_lag_ps=max_lag_ps,
            vector_start="condition",
            objective="noise",
            first_rank=0,
            is_centered=False,
            n_diffusion_steps=n_diffusion_steps,
            noise_schedule=noise_schedule,
        )

    @classmethod
    def bopito_equilibrium(
        cls,
        *,
        n_features: int = 64,
        n_model_layers: int = 5,
        n_diffusion_steps: int = 1000,
        noise_schedule: NoiseScheduleName = "polynomial",
    ) -> Self:
        """Return the network of BoPITO's equilibrium term [2]_: atoms, bonds and the diffusion step only.

        518,082 parameters with the published 64 features, of which 576 are bond types that the released
        network does not know.
        """
        return cls(
            n_features=n_features,
            n_embedding_layers=0,
            n_model_layers=n_model_layers,
            vector_start="zeros",
            objective="noise",
            is_conditional=False,
            first_rank=0,
            is_centered=False,
            n_diffusion_steps=n_diffusion_steps,
            noise_schedule=noise_schedule,
        )

    def __post_init__(self) -> None:
        """Check ranges, and what goes with what."""
        check_at_least("n_features", self.n_features, 2)
        if self.n_features % 2:
            raise ValueError(f"n_features: expected an even number, got {self.n_features}")
        self._check_condition()
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
        self._check_messages()
        self._check_objective()

    @property
    def time_length(self) -> float:
        """Length of the encoding of the flow time (1), or of the diffusion step (T)."""
        return float(self.n_diffusion_steps or 1)

    def _check_condition(self) -> None:
        check_choice("lag_in", self.lag_in, LAG_INPUTS)
        if self.is_conditional:
            check_at_least("n_embedding_layers", self.n_embedding_layers, 1)
            return
        if self.n_embedding_layers != 0:
            raise ValueError(
                "n_embedding_layers: expected 0 without a condition (is_conditional: false), "
                f"got {self.n_embedding_layers}"
            )
        if self.vector_start == "condition":
            raise ValueError(
                "vector_start: expected zeros or noise without a condition (is_conditional: false), "
                "got 'condition'"
            )
        if self.lag_in == "condition":
            raise ValueError(
                "lag_in: expected 'velocity' without a condition (is_conditional: false), "
                "got 'condition'"
            )

    def _check_messages(self) -> None:
        check_choice("message", self.message, MESSAGE_KINDS)
        if self.first_rank not in (0, 1):
            raise ValueError(f"first_rank: expected 0 or 1, got {self.first_rank}")
        if self.message == "source" and self.n_reduced_features is not None:
            raise ValueError(
                "n_reduced_features: expected none with messages of the source alone "
                f"(message: source), got {self.n_reduced_features}"
            )

    def _check_objective(self) -> None:
        check_choice("objective", self.objective, OBJECTIVES)
        if self.objective == "noise":
            check_at_least("n_diffusion_steps", self.n_diffusion_steps, 1)
            check_choice("noise_schedule", self.noise_schedule, NOISE_SCHEDULES)
        elif self.n_diffusion_steps or self.noise_schedule:
            raise ValueError(
                "objective: expected 'noise' with n_diffusion_steps and noise_schedule, got "
                f"'velocity' with {self.n_diffusion_steps} and {self.noise_schedule!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON.

        What later versions added is left out where it has its default, so that the files and hashes of
        earlier models stay what they are.
        """
        values = asdict(self)
        for field in fields(self):
            if field.name in _LATER_FIELDS and values[field.name] == field.default:
                del values[field.name]
        return values

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
