"""A BoPITO model of molecules: a transition model whose long lags are its equilibrium model's samples.

| symbol in the paper | name here |
|---|---|
| s_eq, s_dyn (or v_eq, v_dyn) | `BopitoModel.equilibrium`, `BopitoModel.dynamic` |
| N | lag over ``frame_interval_ps`` |
| N_max | `TitoConfig.max_lag_ps` of the dynamic network |
| λ̂ | `BopitoModel.decay_per_step` = exp(−interval / `BopitoModel.relaxation_time_ps`) |
| λ̂^N | `BopitoNetwork.weight` |
| N_int | `BopitoModel.interpolated` |

References
----------
.. [1] BoPITO, arXiv:2410.10605.
"""

import copy
from typing import Any, Final, Self, cast

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.flows.bopito import separate
from tito_fast.models.bopito.network import BopitoNetwork
from tito_fast.models.bopito.one_pass import both_terms, shares_pairs
from tito_fast.models.bopito.prior import check_terms, equilibrium_prior, known_to_both
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import (
    Conditioning,
    Prepared,
    TitoModel,
)
from tito_fast.models.tito.step import StepNoise, StepSettings
from tito_fast.types import Backend
from tito_fast.validation import check_positive

KIND: Final = "bopito"
"""What the configuration in a model's file says of these models."""


class BopitoModel(TitoModel):
    """Two networks; the share of the dynamic one decays with the lag.

    ``field = equilibrium + decay_per_step ** N · dynamic`` with N the true lag in frames. The dynamic network is never
    told a lag above its longest.

    Parameters
    ----------
    config : TitoConfig
        Of the dynamic network.
    info : ModelInfo
    network : BopitoNetwork
    power_ps : float or None
        Time in the power of the decay instead of the lag (an interpolation), in ps.

    Raises
    ------
    TypeError
        If the network is another.

    Notes
    -----
    The field is a velocity or noise, as `TitoConfig.objective` says. Both networks are evaluated in one pass, with
    the graph, distances and encodings of times in common; the dynamic network's conditioning is computed once per
    rollout step, the equilibrium network's does not depend on the state.
    """

    network: BopitoNetwork  # type: ignore[assignment]  # two networks in its place

    def __init__(
        self,
        config: TitoConfig,
        info: ModelInfo,
        network: BopitoNetwork,
        *,
        power_ps: float | None = None,
    ) -> None:
        if not isinstance(network, BopitoNetwork):
            raise TypeError(f"network: expected a BopitoNetwork, got {type(network).__name__}")
        super().__init__(config, info, network.dynamic)
        self.network = network
        self.power_ps = power_ps
        self._dynamic = TitoModel(config, info, network.dynamic)
        self._equilibrium = TitoModel(network.equilibrium.config, info, network.equilibrium)

    @classmethod
    def from_equilibrium(
        cls,
        equilibrium: TitoModel,
        config: TitoConfig,
        info: ModelInfo,
        *,
        relaxation_time_ps: float,
        frame_interval_ps: float,
        is_decay_learned: bool = False,
        seed: int,
    ) -> Self:
        """Return a model with a copy of ``equilibrium``, frozen, and a dynamic network of fresh weights.

        Parameters
        ----------
        equilibrium : TitoModel
            See `equilibrium_prior`.
        config : TitoConfig
            Of the dynamic network.
        info : ModelInfo
            Facts of the dynamic network's training data; elements, bond types and charges become those that both
            models know.
        relaxation_time_ps, frame_interval_ps : float
            The decay per frame is exp(−interval / relaxation time).
        is_decay_learned : bool
        seed : int
            Of the fresh weights.

        Raises
        ------
        ValueError
            If ``equilibrium`` is no prior, or the two terms may not be added.
        """
        dynamic = TitoModel.create(config, info, seed=seed)
        return cls.from_terms(
            equilibrium,
            dynamic,
            relaxation_time_ps=relaxation_time_ps,
            frame_interval_ps=frame_interval_ps,
            is_decay_learned=is_decay_learned,
        )

    @classmethod
    def from_terms(
        cls,
        equilibrium: TitoModel,
        dynamic: TitoModel,
        *,
        relaxation_time_ps: float,
        frame_interval_ps: float,
        is_decay_learned: bool = False,
    ) -> Self:
        """Return the model of two networks that are there, such as those of a checkpoint of BoPITO's code.

        Parameters
        ----------
        equilibrium, dynamic : TitoModel
            Copied. The facts are those of the second, with the elements, bond types and charges that both know.
        relaxation_time_ps, frame_interval_ps : float
            The decay per frame is exp(−interval / relaxation time).
        is_decay_learned : bool

        Raises
        ------
        ValueError
            If ``equilibrium`` is no prior, or the two terms may not be added.
        """
        prior = equilibrium_prior(equilibrium)
        check_terms(prior.config, dynamic.config, prior.info, dynamic.info)
        network = BopitoNetwork(
            copy.deepcopy(dynamic.network),
            copy.deepcopy(prior.network),
            relaxation_time_ps=relaxation_time_ps,
            frame_interval_ps=frame_interval_ps,
            equilibrium_base_std=prior.info.base_std,
            is_decay_learned=is_decay_learned,
        )
        network.to(device=prior.device, dtype=prior.dtype)
        return cls(dynamic.config, known_to_both(dynamic.info, prior.info), network)

    @property
    def relaxation_time_ps(self) -> float:
        """Time of the slowest process, in ps."""
        return self.network.relaxation_time_ps

    @property
    def decay_per_step(self) -> float:
        """λ̂: what is left of the slowest process after one frame."""
        return self.network.decay_per_step

    def interpolated(self, power_ps: float | None) -> Self:
        """Return the model, with the same weights, whose decay has ``power_ps`` in its power in place of the lag.

        Parameters
        ----------
        power_ps : float or None
            N_int times the frame interval; infinite for equilibrium. None: the lag.

        Raises
        ------
        ValueError
            If it is negative or NaN.

        References
        ----------
        BoPITO, arXiv:2410.10605: s = s_eq + λ̂^N_int s_dyn.
        """
        if power_ps is not None and not power_ps >= 0:
            raise ValueError(f"power_ps: expected zero or more, got {power_ps:g}")
        return type(self)(self.config, self.info, self.network, power_ps=power_ps)

    def config_dict(self) -> dict[str, Any]:
        """Return all configuration there is as plain values, for the model's file and its hash."""
        network = self.network
        return {
            "kind": KIND,
            "dynamic": self.config.to_dict(),
            "equilibrium": network.equilibrium.config.to_dict(),
            "equilibrium_base_std": network.equilibrium_base_std,
            "frame_interval_ps": network.frame_interval_ps,
            "is_decay_learned": network.is_decay_learned,
        }

    def resolve_backend(self, backend: Backend) -> str:
        """Return the backend that runs both networks: a named one runs or raises.

        ``auto`` is ``eager`` where it would be another for each.
        """
        names = {self._dynamic.resolve_backend(backend), self._equilibrium.resolve_backend(backend)}
        return names.pop() if len(names) == 1 else "eager"

    def with_network(self, network: BopitoNetwork) -> Self:  # type: ignore[override]  # as above
        """Return the same model with other weights."""
        return type(self)(self.config, self.info, network, power_ps=self.power_ps)

    def prepare(self, batch: MoleculeBatch, *, backend: Backend = "auto") -> Prepared:
        """Return the tables of ``batch`` for ``backend``; both networks read the same where they can.

        Raises
        ------
        BackendUnavailableError
            If ``backend`` was named and cannot run both networks.
        """
        name = cast("Backend", self.resolve_backend(backend))
        dynamic = self._dynamic.prepare(batch, backend=name)
        equilibrium = dynamic
        if not shares_pairs(self.network):
            equilibrium = self._equilibrium.prepare(batch, backend=name)
        return Prepared(name, batch, (dynamic, equilibrium))

    def condition(
        self,
        prepared: Prepared,
        scaled_positions: Tensor | None,
        lag_time_ps: Tensor | None = None,
    ) -> Conditioning:
        """Return what the terms need to know of the current state, (n_atoms, 3): once per rollout step."""
        if lag_time_ps is not None:
            lag_time_ps = self._told(lag_time_ps)
        dynamic, equilibrium = prepared.tables
        return Conditioning(
            (
                self._dynamic.condition(dynamic, scaled_positions, lag_time_ps),
                self._equilibrium.condition(equilibrium, None),
            )
        )

    def _evaluate(
        self,
        prepared: Prepared,
        conditioning: Conditioning,
        x: Tensor,
        inputs: tuple[Tensor, Tensor | None, Tensor | None],
        vectors: Tensor | None,
    ) -> Tensor:
        batch, network = prepared.batch, self.network
        time, lag_time_ps, temperature_k = inputs
        if lag_time_ps is None:
            raise ValueError("lag_time_ps: expected a lag for this model, got None; give one in ps")
        self._check_inputs(batch, x, lag_time_ps, vectors)
        equilibrium, dynamic = both_terms(
            network,
            prepared.tables,
            conditioning.features,
            x,
            inputs=(time, self._told(lag_time_ps), temperature_k),
            vectors=vectors,
        )
        power = lag_time_ps
        if self.power_ps is not None:
            power = torch.full_like(lag_time_ps, self.power_ps)
        return separate(equilibrium, dynamic, network.weight(power)[batch.batch_idx])

    def rollout_step(
        self,
        prepared: Prepared,
        scaled_positions: Tensor,
        lag_time_ps: Tensor,
        *,
        noise: StepNoise,
        settings: StepSettings,
        temperature_k: Tensor | None = None,
    ) -> None:
        """Return None: no backend takes whole steps with two networks in this version."""
        del prepared, scaled_positions, lag_time_ps, noise, settings, temperature_k

    def check_lag(self, lag_time_ps: float) -> None:
        """Raise ``ValueError`` unless the lag is above zero; there is no longest one."""
        check_positive("lag", lag_time_ps, unit="ps")

    def _told(self, lag_time_ps: Tensor) -> Tensor:
        """Return the lags that the dynamic network is told."""
        return lag_time_ps.clamp(max=self.config.max_lag_ps)
