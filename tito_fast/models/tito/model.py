"""A TITO model: configuration, facts and weights, and the one interface to every backend."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import Molecule
from tito_fast.errors import BackendUnavailableError
from tito_fast.models.tito import eager, native, native_network, reference, triton
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.network import TitoNetwork, initialize
from tito_fast.models.tito.step import StepNoise, StepSettings
from tito_fast.ops import center
from tito_fast.types import BACKENDS, Backend, Objective
from tito_fast.units import format_time
from tito_fast.validation import check_choice, check_shape

BACKEND_MODULES: dict[str, ModuleType] = {
    "reference": reference,
    "eager": eager,
    "native": native,
    "triton": triton,
}
"""What each backend computes the network with."""

# Backends that take a rollout step in one call.
_WHOLE_STEPS: dict[str, Callable[..., Tensor | None]] = {
    "native": native.rollout_step,
    "triton": triton.rollout_step,
}

MODEL_BACKENDS = tuple(BACKEND_MODULES)
"""Backends that run the network in this version."""


def check_model_backend(backend: Backend) -> None:
    """Raise ``BackendUnavailableError`` if the backend has no message passing in this version."""
    check_choice("backend", backend, BACKENDS)
    if backend != "auto" and backend not in BACKEND_MODULES:
        raise BackendUnavailableError(
            f"backend: {backend} has no message passing in this version; "
            f"use one of {', '.join(BACKEND_MODULES)} or auto"
        )


def resolve_model_backend(backend: Backend, network: TitoNetwork) -> str:
    """Return the backend that runs ``network``: a named one runs or raises.

    ``auto`` is ``native`` where the compiled kernels run on the weights as they are and in the precision in force (on
    a CPU, in float32 or float64; under autocast to bfloat16 without gradients, and with AVX512-BF16), ``triton`` on a
    CUDA device where its kernels do (float32 weights, 32, 64 or 128 features), else ``eager``.

    Raises
    ------
    BackendUnavailableError
        If the backend has no message passing in this version, or cannot run on these weights.
    """
    check_model_backend(backend)
    if backend == "auto":
        if not native_network.problem(network, with_gradients=torch.is_grad_enabled()):
            return "native"
        is_cuda = next(network.parameters()).device.type == "cuda"
        return "triton" if is_cuda and not triton.problem(network) else "eager"
    problems = {
        "native": lambda: native_network.problem(network, with_gradients=False),
        "triton": lambda: triton.problem(network),
    }
    if backend in problems and (problem := problems[backend]()):
        raise BackendUnavailableError(f"backend={backend!r}: {problem}; use backend='eager'")
    return backend


@dataclass(frozen=True)
class Prepared:
    """A batch of molecules as one backend wants it; valid until the molecules change."""

    backend: str
    batch: MoleculeBatch
    tables: Any


@dataclass(frozen=True)
class Conditioning:
    """What the velocity needs to know of the current state, as one backend wants it."""

    features: Any


class TitoModel:
    """A network with everything that is needed to use it safely.

    Parameters
    ----------
    config : TitoConfig
    info : ModelInfo
    network : TitoNetwork
        Built from ``config``.

    Notes
    -----
    Positions are in model units (``nm / info.length_unit_nm``) in all methods. Every method is
    differentiable in the network's parameters and in positions; nothing here draws random numbers.
    """

    def __init__(self, config: TitoConfig, info: ModelInfo, network: TitoNetwork) -> None:
        self.config = config
        self.info = info
        self.network = network
        self._times: dict[tuple[StepSettings, torch.dtype, torch.device], Tensor] = {}

    @classmethod
    def create(cls, config: TitoConfig, info: ModelInfo, *, seed: int) -> Self:
        """Return a model with freshly drawn weights."""
        return cls(config, info, initialize(config, seed=seed))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights."""
        return next(self.network.parameters()).dtype

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Move the weights, in place; return the model."""
        self.network.to(device=device, dtype=dtype)
        return self

    def config_dict(self) -> dict[str, Any]:
        """Return all configuration there is as plain values, for the model's file and its hash."""
        return self.config.to_dict()

    def resolve_backend(self, backend: Backend) -> str:
        """Return the backend that runs the model: a named one runs or raises; see `resolve_model_backend`."""
        return resolve_model_backend(backend, self.network)

    def with_network(self, network: TitoNetwork) -> Self:
        """Return the same model with other weights, of the same configuration."""
        return type(self)(self.config, self.info, network)

    def interpolated(self, power_ps: float | None) -> Self:
        """Return the model itself: one without an equilibrium term has nothing to interpolate.

        Raises
        ------
        ValueError
            If ``power_ps`` is not None.
        """
        if power_ps is not None:
            raise ValueError(
                f"interpolation: expected none for a model without an equilibrium term, got {power_ps:g} ps"
            )
        return self

    def prepare(self, batch: MoleculeBatch, *, backend: Backend = "auto") -> Prepared:
        """Return the tables of ``batch`` for ``backend``: once per set of molecules.

        Raises
        ------
        BackendUnavailableError
            If ``backend`` was named and cannot run.
        """
        name = self.resolve_backend(backend)
        return Prepared(name, batch, BACKEND_MODULES[name].prepare(self.network, batch))

    def condition(
        self,
        prepared: Prepared,
        scaled_positions: Tensor | None,
        lag_time_ps: Tensor | None = None,
    ) -> Conditioning:
        """Return what the velocity, or the noise, needs to know of the current state: once per rollout step.

        Parameters
        ----------
        prepared : Prepared
        scaled_positions : Tensor, shape (n_atoms, 3), or None
            State at t; not read without a condition (``config.is_conditional``), where None will do.
        lag_time_ps : Tensor, shape (n_molecules,), or None
            Read where the lag enters the conditioning network (``config.lag_in``).

        Raises
        ------
        ValueError
            If a shape is another, or what the network reads is None.
        """
        batch, config = prepared.batch, self.config
        lag_encoding = None
        if not config.is_conditional:
            scaled_positions = None
        elif scaled_positions is None:
            raise ValueError("scaled_positions: expected the state at t for this model, got None")
        else:
            check_shape("scaled_positions", scaled_positions, (batch.n_atoms, 3))
            scaled_positions = self._as_displaced_from(prepared, scaled_positions)
        if config.lag_in == "condition":
            if lag_time_ps is not None:
                check_shape("lag_time_ps", lag_time_ps, (batch.n_molecules,))
            lag_encoding = self.network.encode_lag(lag_time_ps)
        module = BACKEND_MODULES[prepared.backend]
        return Conditioning(
            module.condition(
                self.network, prepared.tables, scaled_positions, lag_encoding=lag_encoding
            )
        )

    def velocity(
        self,
        prepared: Prepared,
        conditioning: Conditioning,
        x_t: Tensor,
        flow_time: Tensor,
        lag_time_ps: Tensor | None,
        *,
        vectors: Tensor | None = None,
        temperature_k: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity field at ``x_t``, centred per molecule where the model is.

        Parameters
        ----------
        prepared, conditioning
            From ``prepare`` and ``condition``.
        x_t : Tensor, shape (n_atoms, 3)
        flow_time : Tensor, shape (n_molecules,)
            In [0, 1].
        lag_time_ps : Tensor, shape (n_molecules,), or None
            Read where the lag enters the velocity network; None will do where it enters the conditioning
            network (``config.lag_in``) or there is none (``config.is_conditional``).
        vectors : Tensor, shape (n_atoms, 3, n_features), or None
            Start of the vector features: normal, or zeros (``config.vector_start``). With the start
            "condition" they are the conditioning's own, and this must be None.
        temperature_k : Tensor, shape (n_molecules,), or None

        Returns
        -------
        Tensor, shape (n_atoms, 3)

        Raises
        ------
        ValueError
            If the model predicts noise, a shape is another, or what the network reads is None.

        References
        ----------
        TITO, arXiv:2510.07589, eq. for the flow-matching vector field; released code at 97949de.
        """
        self._check_objective("velocity")
        check_shape("flow_time", flow_time, (prepared.batch.n_molecules,))
        return self._evaluate(
            prepared, conditioning, x_t, (flow_time, lag_time_ps, temperature_k), vectors
        )

    def noise(
        self,
        prepared: Prepared,
        conditioning: Conditioning,
        x_d: Tensor,
        diffusion_step: Tensor,
        lag_time_ps: Tensor | None,
        *,
        vectors: Tensor | None = None,
        temperature_k: Tensor | None = None,
    ) -> Tensor:
        """Return the noise that a model of a diffusion predicts in ``x_d``: ``x_d + readout``.

        Parameters
        ----------
        prepared, conditioning
            From ``prepare`` and ``condition``.
        x_d : Tensor, shape (n_atoms, 3)
            State after ``diffusion_step`` steps of the diffusion.
        diffusion_step : Tensor, shape (n_molecules,)
            In [0, ``config.n_diffusion_steps``]; solvers take it between whole steps too.
        lag_time_ps, vectors, temperature_k
            As in ``velocity``.

        Returns
        -------
        Tensor, shape (n_atoms, 3)

        Raises
        ------
        ValueError
            If the model predicts a velocity, a shape is another, or what the network reads is None.

        References
        ----------
        ITO, arXiv:2305.18046; BoPITO, arXiv:2410.10605.
        """
        self._check_objective("noise")
        check_shape("diffusion_step", diffusion_step, (prepared.batch.n_molecules,))
        return self._evaluate(
            prepared, conditioning, x_d, (diffusion_step, lag_time_ps, temperature_k), vectors
        )

    def _evaluate(
        self,
        prepared: Prepared,
        conditioning: Conditioning,
        x: Tensor,
        inputs: tuple[Tensor, Tensor | None, Tensor | None],
        vectors: Tensor | None,
    ) -> Tensor:
        """Run the velocity network; ``inputs`` are time, lag and temperature of the molecules."""
        time, lag_time_ps, temperature_k = inputs
        self._check_inputs(prepared.batch, x, lag_time_ps, vectors)
        encodings = self.network.encode(time, lag_time_ps, temperature_k)
        module = BACKEND_MODULES[prepared.backend]
        result: Tensor = module.velocity(
            self.network,
            prepared.tables,
            conditioning.features,
            x,
            encodings=encodings,
            vectors=vectors,
        )
        return result

    def _check_inputs(
        self, batch: MoleculeBatch, x: Tensor, lag_time_ps: Tensor | None, vectors: Tensor | None
    ) -> None:
        check_shape("x_t", x, (batch.n_atoms, 3))
        if lag_time_ps is not None:
            check_shape("lag_time_ps", lag_time_ps, (batch.n_molecules,))
        if self.config.vector_start == "condition":
            if vectors is not None:
                raise ValueError(
                    "vectors: expected None for a model whose condition hands them over, got a value"
                )
        elif vectors is None:
            raise ValueError(
                f"vectors: expected a start ({self.config.vector_start}) for this model, got None"
            )
        else:
            check_shape("vectors", vectors, (batch.n_atoms, 3, self.config.n_features))

    def _check_objective(self, wanted: Objective) -> None:
        objective = self.config.objective
        if objective != wanted:
            raise ValueError(
                f"model: expected one that predicts a {wanted}, got one that predicts a {objective}; "
                f"use TitoModel.{objective}"
            )

    @torch.no_grad()
    def rollout_step(
        self,
        prepared: Prepared,
        scaled_positions: Tensor,
        lag_time_ps: Tensor,
        *,
        noise: StepNoise,
        settings: StepSettings,
        temperature_k: Tensor | None = None,
    ) -> Tensor | None:
        """Return the positions one lag later, or None if the backend does not take whole steps.

        Parameters
        ----------
        prepared : Prepared
        scaled_positions : Tensor, shape (n_atoms, 3)
        lag_time_ps : Tensor, shape (n_molecules,)
        noise : StepNoise
        settings : StepSettings
        temperature_k : Tensor, shape (n_molecules,), or None

        Returns
        -------
        Tensor, shape (n_atoms, 3), or None

        Raises
        ------
        ValueError
            If the model predicts noise, or its vectors do not start so.

        Notes
        -----
        Bit for bit what the solver's steps over :meth:`velocity` give, in one call without the interpreter's lock.
        """
        self._check_objective("velocity")
        hands_over, start = self.config.vector_start == "condition", settings.vector_start
        if (start == "condition") != hands_over:
            wanted = "condition" if hands_over else "zeros or noise"
            raise ValueError(f"vector_start: expected {wanted} for this model, got {start}")
        step = _WHOLE_STEPS.get(prepared.backend)
        if step is None:
            return None
        # The time of an evaluation is the same for all molecules; the rest the same for all evaluations.
        time_encodings = self._encoded_times(settings, scaled_positions)
        _, *molecule_encodings = self.network.encode(
            torch.zeros_like(lag_time_ps), lag_time_ps, temperature_k
        )
        has_lag = self.config.lag_in == "condition"
        lag_encoding = self.network.encode_lag(lag_time_ps) if has_lag else None
        return step(
            self.network,
            prepared.tables,
            self._as_displaced_from(prepared, scaled_positions),
            lag_encoding=lag_encoding,
            time_encodings=time_encodings,
            molecule_encodings=molecule_encodings,
            noise=noise,
            settings=settings,
        )

    def _as_displaced_from(self, prepared: Prepared, scaled_positions: Tensor) -> Tensor:
        """Return the state centered, as interpolants are, where the network reads its displacement from them."""
        if not self.config.has_displacement:
            return scaled_positions
        return center(scaled_positions, batch_ptr=prepared.batch.batch_ptr)

    def _encoded_times(self, settings: StepSettings, like: Tensor) -> Tensor:
        """Return the encodings of the flow times of a step, (n_evaluations, F); brought to the device once."""
        key = (settings, like.dtype, like.device)
        if key not in self._times:
            times = torch.tensor(settings.evaluation_times(), dtype=like.dtype, device=like.device)
            self._times[key] = self.network.encode_times(times)
        return self._times[key]

    def check_molecules(self, molecules: Iterable[Molecule]) -> None:
        """Raise ``ValueError`` if a molecule holds an element, bond or charge the model never saw."""
        for molecule in molecules:
            _check_known(
                molecule.name, "element", molecule.atomic_numbers.tolist(), self.info.elements
            )
            _check_known(
                molecule.name, "bond type", molecule.bond_type.tolist(), self.info.bond_types
            )
            if self.info.elements is not None:
                _check_known(
                    molecule.name,
                    "formal charge",
                    molecule.formal_charges,
                    self.info.formal_charges,
                )

    def check_lag(self, lag_time_ps: float) -> None:
        """Raise ``ValueError`` if the lag is above the model's maximum; say how to nest it."""
        maximum = self.config.max_lag_ps
        if lag_time_ps > maximum:
            n_steps = -int(-lag_time_ps // maximum)
            raise ValueError(
                f"lag: expected at most {format_time(maximum)} for this model, got {format_time(lag_time_ps)}; "
                f"nest it: {n_steps} steps of {format_time(lag_time_ps / n_steps)} each"
            )


def _check_known(name: str, what: str, values: Sequence[int], known: Sequence[int] | None) -> None:
    if known is None:
        return
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"molecule {name!r}: {what} {', '.join(map(str, unknown))} was never seen by this model, "
            f"which knows {', '.join(map(str, sorted(known)))}"
        )
