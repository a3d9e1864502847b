"""What a training run is: one frozen tree of settings, read from YAML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_type_hints

import yaml

from tito_fast.data.pairs import LAG_LAWS, LagLaw
from tito_fast.models.tito.config import TitoConfig
from tito_fast.processes import Devices, check_devices
from tito_fast.types import BACKENDS, COUPLINGS, PRECISIONS, Backend, Coupling, Precision
from tito_fast.validation import check_at_least, check_choice, check_positive

Schedule = Literal["constant", "cosine"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)

DecayChoice = Literal["fit", "learn"]
DECAY_CHOICES: tuple[DecayChoice, ...] = get_args(DecayChoice)
Decay = float | DecayChoice


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
        Nanometres in one model unit; None: that of ``init_from``, else the standard deviation of
        the centered training positions.
    coupling : Coupling
        How base samples are paired with data; ``none`` for a model that predicts noise.
    superpose : bool
        Superpose each next state on the current one, by a proper rotation: the orientation that a molecule
        tumbles to is then not learned. For networks that know the state's orientation
        (``model.vector_start: condition``).
    mirror : bool
        Mirror half of the pairs, drawn at random: mirror images obey the same dynamics.
    lag_law : "uniform" | "log_uniform" | "fixed"
    on_device : bool or "auto"
        Whether the positions of the training split lie on the device, where pairs are then gathered and
        coupled; ``auto``: on CUDA, if they take no more than a quarter of its free memory.
    """

    store: str = ""
    train_split: str = "train"
    validation_split: str = "val"
    length_unit_nm: float | None = None
    coupling: Coupling = "r"
    superpose: bool = False
    mirror: bool = False
    lag_law: LagLaw = "uniform"
    on_device: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        """Check ranges."""
        check_choice("data.coupling", self.coupling, COUPLINGS)
        check_choice("data.lag_law", self.lag_law, LAG_LAWS)
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
        After the warm-up; the cosine ends at ``final_learning_rate_share`` of the peak at
        ``n_steps``.
    final_learning_rate_share : float
    n_warmup_steps : int
    gradient_clip : float
        Largest norm of all gradients together; 0: no clipping.
    ema_decay : float
        Of the exponential moving average that validation, model files and sampling use; 0: none.
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
        check_choice("optimizer.schedule", self.schedule, SCHEDULES)
        check_at_least("optimizer.n_warmup_steps", self.n_warmup_steps, 0)
        for name in ("weight_decay", "gradient_clip"):
            _check_not_negative(f"optimizer.{name}", getattr(self, name))
        if not 0 <= self.final_learning_rate_share <= 1:
            raise ValueError(
                "optimizer.final_learning_rate_share: expected 0 to 1, "
                f"got {self.final_learning_rate_share:g}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"optimizer.ema_decay: expected 0 to below 1, got {self.ema_decay:g}; 0 is no average"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(TitoConfig):
    """The network to train, and for BoPITO what it is added to.

    Parameters
    ----------
    equilibrium : str
        Model of the equilibrium term, by name or file, which stays as it is; the network is then the dynamic term.
        Empty: the network is the whole model.
    decay : float or "fit" or "learn"
        With ``equilibrium``: the share of the dynamic term that is left after one frame of the data. ``fit``: that of
        the slowest process in the data, which the command line fits before it trains. ``learn``: trained, from a
        relaxation time of ``max_lag_ps`` on.
    """

    equilibrium: str = ""
    decay: Decay = "learn"

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        if isinstance(self.decay, str):
            check_choice("model.decay", self.decay, DECAY_CHOICES)
        elif not 0 < self.decay < 1:
            raise ValueError(
                f"model.decay: expected a value above 0 and below 1, fit or learn, got {self.decay:g}"
            )

    @property
    def network(self) -> TitoConfig:
        """The network by itself."""
        return TitoConfig(**{each.name: getattr(self, each.name) for each in fields(TitoConfig)})


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One training run.

    Parameters
    ----------
    out : str
        Directory of the run.
    init_from : str
        Model whose weights the run starts from, for fine-tuning; empty: fresh weights.
    n_steps : int
        Optimizer steps in all.
    batch_size : int
        Pairs in one step, over all devices.
    precision : "fp32" | "tf32" | "bf16" | "fp64"
    backend : Backend
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    devices : int or "auto"
        Processes on each machine, one device each; ``auto``: every CUDA device, one on a CPU. More
        than one needs the extra ``[train]``.
    n_nodes : int
        Machines.
    seed : int
        Weights, pairs and noise follow from it.
    flow_sigma : float
        Standard deviation of the noise on the interpolant, model units; not read for a model that predicts
        noise.
    log_every, validate_every, checkpoint_every : int
        Steps between lines, validations and checkpoints.
    n_validation_pairs : int
        Fixed pairs with fixed noise.
    tensorboard : bool
        Write TensorBoard events beside ``log.csv``; needs the extra ``[train]``.
    data, model, optimizer
        Groups of settings.
    """

    out: str = ""
    init_from: str = ""
    n_steps: int = 10_000
    batch_size: int = 64
    precision: Precision = "fp32"
    backend: Backend = "auto"
    device: str = "auto"
    devices: Devices = 1
    n_nodes: int = 1
    seed: int = 0
    flow_sigma: float = 0.001
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 500
    n_validation_pairs: int = 256
    tensorboard: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check ranges."""
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("backend", self.backend, BACKENDS)
        for name in (
            "n_steps",
            "batch_size",
            "n_nodes",
            "log_every",
            "validate_every",
            "checkpoint_every",
        ):
            check_at_least(name, getattr(self, name), 1)
        check_devices(self.devices)
        check_at_least("n_validation_pairs", self.n_validation_pairs, 0)
        _check_not_negative("flow_sigma", self.flow_sigma)
        if self.model.objective == "noise" and self.data.coupling != "none":
            raise ValueError(
                "data.coupling: expected none for a model that predicts noise, which must not depend on "
                f"the data, got {self.data.coupling!r}; set data.coupling to none"
            )
        knows_orientation = self.model.vector_start == "condition"
        if self.data.superpose and knows_orientation and self.data.coupling != "none":
            raise ValueError(
                "data.coupling: expected none with data.superpose and the condition's vectors, for a base sample "
                f"turned onto its target would tell its orientation, got {self.data.coupling!r}; "
                "set data.coupling to none"
            )
        if self.model.equilibrium and self.init_from:
            raise ValueError(
                f"init_from: expected none with model.equilibrium, got {self.init_from!r}; a dynamic term starts "
                "from fresh weights"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed: expected 0 to 2**63 - 1, got {self.seed}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for YAML and JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the config that ``values`` describe; missing settings take their defaults.

        Raises
        ------
        ValueError
            If a name is unknown, a value of a wrong type, or out of range.
        """
        config: Self = _build(cls, values, "")
        return config


def read_training_config(path: Path | str, *, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Return the config in the YAML file at ``path``, changed by ``overrides``.

    Parameters
    ----------
    path : Path or str
    overrides : sequence of str
        Such as ``model.n_features=32``; the value is read as YAML.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a mapping in YAML, or a name or value is not one of ours.
    """
    values = read_yaml_mapping(Path(path))
    for override in overrides:
        _apply(override, values)
    return TrainingConfig.from_dict(values)


def read_yaml_mapping(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; not YAML; not a mapping.
    """
    if not file.is_file():
        raise FileNotFoundError(f"config: expected an existing file, got {str(file)!r}")
    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"config: expected YAML in {file}, got {reason}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        got = type(values).__name__
        raise ValueError(f"config: expected a mapping of settings in {file}, got {got}")  # noqa: TRY004  the content of a file
    return values


def _apply(override: str, values: dict[str, Any]) -> None:
    """Put ``a.b=c`` into the tree of ``values``."""
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise ValueError(f"--set: expected name=value, got {override!r}")
    *parents, last = name.strip().split(".")
    inner = values
    for parent in parents:
        if inner.get(parent) is None:
            inner[parent] = {}
        inner = inner[parent]
        if not isinstance(inner, dict):
            raise ValueError(  # noqa: TRY004  a value of the user's, not a type of ours
                f"--set: expected settings under {parent}, got {inner!r} in {override!r}"
            )
    try:
        inner[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--set: expected a YAML value, got {text!r}") from error


def _build(cls: Any, values: Mapping[str, Any], prefix: str) -> Any:  # noqa: ANN401  any of our dataclasses
    hints = get_type_hints(cls)
    known = {entry.name for entry in fields(cls)}
    unknown = sorted(str(name) for name in set(values) - known)
    if unknown:
        raise ValueError(
            f"config: expected settings among {', '.join(sorted(known))}, got {prefix}{unknown[0]}"
        )
    built: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint):
            # A group whose lines are all commented out reads as None.
            inner = {} if value is None else value
            if not isinstance(inner, Mapping):
                raise ValueError(f"{prefix}{name}: expected a group of settings, got {value!r}")
            built[name] = _build(hint, inner, f"{prefix}{name}.")
        else:
            built[name] = _plain(value, hint, prefix + name)
    return cls(**built)


def _plain(value: object, hint: object, name: str) -> object:
    """Return ``value`` as ``hint`` wants it: YAML reads 1e-3 as text and 1 as an integer."""
    if value is None and type(None) in get_args(hint):
        return None
    if hint in (float, float | None, Decay):
        return _number(value, name, hint)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if hint in (int, int | None):
        if not is_integer:
            raise ValueError(f"{name}: expected an integer, got {value!r}")
    elif hint == int | Literal["auto"]:
        if not (is_integer or value == "auto"):
            raise ValueError(f"{name}: expected an integer or auto, got {value!r}")
    elif hint == bool | Literal["auto"]:
        if not (isinstance(value, bool) or value == "auto"):
            raise ValueError(f"{name}: expected true, false or auto, got {value!r}")
    elif hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected true or false, got {value!r}")
    elif not isinstance(value, str):
        raise ValueError(f"{name}: expected text, got {value!r}")
    return value


def _number(value: object, name: str, hint: object = float) -> float | str:
    wanted = "a number"
    if hint == Decay:
        if isinstance(value, str) and value in DECAY_CHOICES:
            return value
        wanted = "a number, fit or learn"
    try:
        # bool is an int to Python; nobody means 1.0 by true.
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return number


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name}: expected zero or more, got {value:g}")
