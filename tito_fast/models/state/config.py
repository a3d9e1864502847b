"""What a model of low-dimensional states is made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from tito_fast.flows.noise_schedule import NoiseSchedule
from tito_fast.types import NoiseScheduleName
from tito_fast.validation import check_at_least, check_choice, check_positive

StateKind = Literal["equilibrium", "ito", "bopito"]
STATE_KINDS: Final[tuple[StateKind, ...]] = get_args(StateKind)


@dataclass(frozen=True, kw_only=True)
class StateConfig:
    """Sizes and schedule of a model of states.

    Parameters
    ----------
    kind : "equilibrium" | "ito" | "bopito"
        What the prediction depends on: the noised state and the diffusion step; also the current state and the lag;
        or these in a term beside a frozen equilibrium model's.
    n_dims : int
        Dimensions of a state.
    n_features : int
        Width of the hidden layers.
    n_layers : int
        Linear layers, at least two.
    n_state_features, n_lag_features, n_diffusion_features : int
        Values that encode one dimension of a state, the lag, the diffusion step; even.
    state_start, state_length : float
        Left end and length of the range that encodings tell apart, in the units of the states: ``x`` and
        ``x + 2 state_length`` have one encoding.
    max_lag_steps : int
        Longest lag in frames that the network sees; 0 for an equilibrium model.
    n_diffusion_steps : int
    noise_schedule : "sigmoid" | "polynomial" | "cosine"
    is_decay_learned : bool
        Whether training changes the decay of a BoPITO model.
    prior : StateConfig or None
        The equilibrium model of a BoPITO model.

    Raises
    ------
    ValueError
        If a value is out of range, or the prior does not fit.
    """

    kind: StateKind
    n_dims: int = 1
    n_features: int = 64
    n_layers: int = 3
    n_state_features: int = 64
    n_lag_features: int = 64
    n_diffusion_features: int = 64
    state_start: float = -6.0
    state_length: float = 12.0
    max_lag_steps: int = 0
    n_diffusion_steps: int = 500
    noise_schedule: NoiseScheduleName = "sigmoid"
    is_decay_learned: bool = False
    prior: "StateConfig | None" = None

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, STATE_KINDS)
        for name in ("n_dims", "n_features"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("n_layers", self.n_layers, 2)
        for name in ("n_state_features", "n_lag_features", "n_diffusion_features"):
            value = getattr(self, name)
            if value < 2 or value % 2:
                raise ValueError(f"{name}: expected an even number of at least 2, got {value}")
        check_positive("state_length", self.state_length)
        _ = self.schedule
        if self.kind == "equilibrium":
            if self.max_lag_steps:
                raise ValueError(
                    f"max_lag_steps: expected 0 for an equilibrium model, got {self.max_lag_steps}"
                )
        else:
            check_at_least("max_lag_steps", self.max_lag_steps, 1)
        self._check_prior()

    def _check_prior(self) -> None:
        if self.kind != "bopito":
            if self.prior is not None or self.is_decay_learned:
                raise ValueError(f"prior: expected none for kind {self.kind}, nor a learned decay")
            return
        if self.prior is None or self.prior.kind != "equilibrium":
            given = "none" if self.prior is None else f"one of kind {self.prior.kind}"
            raise ValueError(f"prior: expected an equilibrium model, got {given}")
        for name in ("n_dims", "n_diffusion_steps", "noise_schedule"):
            own, other = getattr(self, name), getattr(self.prior, name)
            if own != other:
                raise ValueError(f"prior: expected {name} {own} as of the model, got {other}")

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule, with consistent indices."""
        return NoiseSchedule(self.noise_schedule, self.n_diffusion_steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, which JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StateConfig":
        """Return the config that `to_dict` wrote.

        Raises
        ------
        ValueError
            If a field is unknown or a value out of range.
        """
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise ValueError(f"config: expected fields of StateConfig, got {', '.join(unknown)}")
        given = dict(values)
        if given.get("prior") is not None:
            given["prior"] = cls.from_dict(given["prior"])
        return cls(**given)
