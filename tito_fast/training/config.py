"""What a training run is: one frozen tree of settings, read from YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

import yaml

from tito_fast.models.tito.config import TitoConfig
from tito_fast.types import COUPLINGS, PRECISIONS, Coupling, Precision
from tito_fast.validation import check_at_least, check_choice, check_positive

LagLaw = Literal["uniform", "log_uniform", "fixed"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where pairs come from.

    Parameters
    ----------
    store : str
        Directory written by ``tito-fast data convert``.
    train_split, validation_split : str
        The validation split may be empty: no validation.
    length_unit_nm : float or None
        Nanometres in one model unit; None: the standard deviation of the centred training positions.
    coupling : Coupling
        How base samples are paired with data.
    lag_law : "uniform" | "log_uniform" | "fixed"
    """

    store: str = ""
    train_split: str = "train"
    validation_split: str = "val"
    length_unit_nm: float | None = None
    coupling: Coupling = "r"
    lag_law: LagLaw = "uniform"

    def __post_init__(self) -> None:
        """Check ranges."""
        check_choice("data.coupling", self.coupling, COUPLINGS)
        check_choice("data.lag_law", self.lag_law, ("uniform", "log_uniform", "fixed"))
        if self.length_unit_nm is not None:
            check_positive("data.length_unit_nm", self.length_unit_nm, unit="nm")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights move.

    Parameters
    ----------
    learning_rate : float
    weight_decay : float
        Above zero: AdamW; zero: Adam.
    schedule : "constant" | "cosine"
        After the warm-up; the cosine ends at ``final_learning_rate_share`` of the peak at ``n_steps``.
    n_warmup_steps : int
    gradient_clip : float
        Largest norm of all gradients together; 0: no clipping.
    ema_decay : float
        Of the exponential moving average that validation, checkpoints and sampling use; 0: none.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    final_learning_rate_share: float = 0.01
    n_warmup_steps: int = 200
    gradient_clip: float = 10.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        """Check ranges."""
        check_positive("optimizer.learning_rate", self.learning_rate)
        check_choice("optimizer.schedule", self.schedule, ("constant", "cosine"))
        check_at_least("optimizer.n_warmup_steps", self.n_warmup_steps, 0)
        for name in ("weight_decay", "gradient_clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer.{name}: expected zero or more, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"optimizer.ema_decay: expected 0 to below 1, got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One training run.

    Parameters
    ----------
    out : str
        Directory of the run.
    n_steps : int
        Optimizer steps in all.
    batch_size : int
        Pairs in one step, over all devices.
    precision : "fp32" | "tf32" | "bf16" | "fp64"
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    seed : int
        Weights, pairs and noise follow from it.
    flow_sigma : float
        Standard deviation of the noise on the interpolant, model units.
    log_every, validate_every, checkpoint_every : int
        Steps between lines, validations and checkpoints.
    n_validation_pairs : int
        Fixed pairs with fixed noise.
    """

    out: str = ""
    n_steps: int = 10_000
    batch_size: int = 64
    precision: Precision = "fp32"
    device: str = "auto"
    seed: int = 0
    flow_sigma: float = 0.001
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 500
    n_validation_pairs: int = 256
    data: DataConfig = field(default_factory=DataConfig)
    model: TitoConfig = field(default_factory=TitoConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check ranges."""
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("n_steps", "batch_size", "log_every", "validate_every", "checkpoint_every"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("n_validation_pairs", self.n_validation_pairs, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for YAML and JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the config that ``values`` describe; unknown names are refused, missing ones default."""
        return _build(cls, values, "")


def read_training_config(path: Path | str, *, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Return the config in the YAML file at ``path``, changed by ``overrides`` such as ``model.n_features=32``.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; not a mapping; an unknown name; an override without ``=``.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"config: no such file: {file}")
    try:
        values = yaml.safe_load(file.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config: expected YAML, {file} is not: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise ValueError(f"config: expected a mapping of settings in {file}, got {type(values).__name__}")
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"--set: expected name=value, got {override!r}")
        *parents, last = name.strip().split(".")
        inner = values
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = yaml.safe_load(text)
    return TrainingConfig.from_dict(values)


def _build(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:  # noqa: ANN401  any of our dataclasses
    hints = get_type_hints(cls)
    known = {entry.name for entry in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"config: unknown setting {prefix}{unknown[0]}; known here: {', '.join(sorted(known))}"
        )
    built: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ValueError(f"config: expected settings under {prefix}{name}, got {value!r}")
            built[name] = _build(hint, value, f"{prefix}{name}.")
        else:
            built[name] = _number(value, hint, prefix + name)
    return cls(**built)


def _number(value: object, hint: object, name: str) -> object:
    """Return ``value`` as ``hint`` wants it: YAML reads 1e-3 as text and 1 as an integer."""
    if hint in (float, float | None) and value is not None:
        try:
            return float(value)  # type: ignore[arg-type]  # text that is no number raises below
        except (TypeError, ValueError):
            raise ValueError(f"config: expected a number for {name}, got {value!r}") from None
    if hint in (int, int | None) and value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"config: expected an integer for {name}, got {value!r}")
    return value
