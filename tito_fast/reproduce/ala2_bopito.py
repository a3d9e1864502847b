"""Alanine dipeptide: the error of correlations of φ against the number of short trajectories, for ITO and BoPITO."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tito_fast.analysis.correlation import correlation_function, correlation_sums
from tito_fast.analysis.resampling import bootstrap
from tito_fast.data.molecule import FloatArray
from tito_fast.models.load import load_model
from tito_fast.models.tito.model import TitoModel
from tito_fast.reproduce.ala2_data import Ala2Data, phi_features
from tito_fast.reproduce.prinz import Say, seed_of
from tito_fast.reproduce.scales_ala2 import Ala2Scale
from tito_fast.rollout.chunk import Chunk, Row
from tito_fast.rollout.config import RolloutConfig
from tito_fast.training.config import TrainingConfig
from tito_fast.training.loop import train

SHORT_SHARE: Final = 0.05
"""Lags up to this share of N_max are short; those above N_max are long."""

_SAMPLES_PER_CHUNK: Final = 128
_KINDS: Final = ("ito", "bopito")
_Lists = dict[str, dict[str, list[list[float]]]]


def ranges_of(lags_ps: Sequence[float], max_lag_ps: float) -> dict[str, NDArray[np.bool_]]:
    """Return which lags are short, medium and long; ranges without lags are left out."""
    lags = np.asarray(lags_ps)
    ranges = {
        "short": lags <= SHORT_SHARE * max_lag_ps,
        "medium": (lags > SHORT_SHARE * max_lag_ps) & (lags <= max_lag_ps),
        "long": lags > max_lag_ps,
    }
    return {name: chosen for name, chosen in ranges.items() if chosen.any()}


def nested_lags(lag_ps: float, max_lag_ps: float) -> tuple[float, ...]:
    """Return the steps that a model with a longest lag takes: what is left over, then the longest."""
    # Rounded, for 1.1 / 0.1 is a little above 11.
    n_longest = math.ceil(round(lag_ps / max_lag_ps, 6)) - 1
    return (lag_ps - n_longest * max_lag_ps,) + n_longest * (max_lag_ps,)


def run_ala2_bopito(
    scale: Ala2Scale, seeds: Sequence[int], say: Say, data: Path | str
) -> dict[str, Any]:
    """Return the results of ``ala2-bopito``.

    Per seed one equilibrium model of all frames that are not held back, and for each number of windows, drawn at
    random, an ITO and a BoPITO model. Correlations are those of samples from held-back frames: one step of BoPITO
    at any lag, several of ITO beyond its longest lag.

    Parameters
    ----------
    scale : Ala2Scale
    seeds : sequence of int
        One model of each kind for each.
    say : callable
        Gets a sentence on what is being done.
    data : path
        Store with trajectories of alanine dipeptide.

    Returns
    -------
    dict
        For JSON.

    Raises
    ------
    ValueError
        As `Ala2Data.open`.
    """
    ala2 = Ala2Data.open(data, scale)
    lags = ala2.whole_lags(scale.lags_ps)
    reference = _reference(ala2, scale)
    md = np.asarray(reference["correlation"])
    found: _Lists = {kind: {str(number): [] for number in scale.n_windows} for kind in _KINDS}
    spread: _Lists = {kind: {str(number): [] for number in scale.n_windows} for kind in _KINDS}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            models = _Models(ala2, scale, seed, Path(folder))
            say(f"seed {seed}: equilibrium model")
            models.train_prior()
            for number in scale.n_windows:
                for kind in _KINDS:
                    say(f"seed {seed}: {kind}, {number} trajectories")
                    model = models.train(kind, number)
                    values, errors = _correlations(model, kind, ala2, scale, seed_of(seed, 9))
                    found[kind][str(number)].append(values)
                    spread[kind][str(number)].append(errors)
    ranges = ranges_of(lags, scale.max_lag_ps)
    mean_errors = {
        kind: {
            number: {
                name: np.abs(np.array(values) - md)[:, chosen].mean(axis=1).tolist()
                for name, chosen in ranges.items()
            }
            for number, values in of_kind.items()
        }
        for kind, of_kind in found.items()
    }
    return {
        "lags_ps": lags,
        "ranges": {name: np.asarray(lags)[c].tolist() for name, c in ranges.items()},
        "content_hash": ala2.store.content_hash,
        "n_windows_to_draw_from": len(ala2.windows),
        "n_held_back_parts": len(ala2.held_back),
        "md": reference,
        "correlations": found,
        "standard_errors": spread,
        "mean_errors": mean_errors,
        "mean_error_of_none": {
            name: float(np.abs(md[chosen]).mean()) for name, chosen in ranges.items()
        },
    }


def _reference(ala2: Ala2Data, scale: Ala2Scale) -> dict[str, Any]:
    """Return the correlations of the held-back parts with their intervals, of a bootstrap over the parts."""
    lags = [ala2.lag_frames(lag) for lag in scale.lags_ps]
    features = ala2.held_back_features()
    interval = bootstrap(correlation_function, correlation_sums(features, lags_frames=lags))
    above = np.concatenate([np.sin(np.arctan2(f[:, 0], f[:, 1])) > 0 for f in features])
    return {
        "correlation": interval.value.tolist(),
        "low": interval.low.tolist(),
        "high": interval.high.tolist(),
        "share_of_positive_phi": float(above.mean()),
    }


@dataclass(eq=False)
class _Models:
    """The models of one seed, trained in a folder."""

    ala2: Ala2Data
    scale: Ala2Scale
    seed: int
    folder: Path

    def train_prior(self) -> None:
        """Train the equilibrium model; all frames of the training parts."""
        store = self.ala2.write(self.folder / "all", self.ala2.training)
        network = {"is_conditional": False, "n_embedding_layers": 0}
        self._train("prior", store, network, n_steps=self.scale.n_prior_steps)

    def train(self, kind: str, n_windows: int) -> TitoModel:
        """Train a transition model on the first windows of a permutation that is the seed's."""
        order = np.random.default_rng(seed_of(self.seed, 6)).permutation(len(self.ala2.windows))
        store = self.folder / f"windows-{n_windows}"
        if not store.exists():
            self.ala2.write(store, [self.ala2.windows[idx] for idx in order[:n_windows]])
        network: dict[str, Any] = {"n_embedding_layers": self.scale.n_embedding_layers}
        if kind == "bopito":
            interval = self.ala2.frame_interval_ps
            network["equilibrium"] = str(self._model_path("prior"))
            network["decay"] = math.exp(-interval / self.scale.relaxation_time_ps)
        unit = load_model(self._model_path("prior")).info.length_unit_nm
        name = f"{kind}-{n_windows}"
        return self._train(
            name, str(store), network, n_steps=self.scale.n_steps, length_unit_nm=unit
        )

    def _model_path(self, name: str) -> Path:
        return self.folder / name / "last.safetensors"

    def _train(
        self,
        name: str,
        store: str,
        network: dict[str, Any],
        *,
        n_steps: int,
        length_unit_nm: float | None = None,
    ) -> TitoModel:
        scale = self.scale
        config = TrainingConfig.from_dict(
            {
                "out": str(self.folder / name),
                "n_steps": n_steps,
                "batch_size": scale.batch_size,
                "seed": seed_of(self.seed, 4),
                "log_every": n_steps,
                "checkpoint_every": n_steps,
                "n_validation_pairs": 0,
                "data": {
                    "store": store,
                    "validation_split": "",
                    "coupling": "none",
                    "lag_law": "log_uniform",
                    "length_unit_nm": length_unit_nm,
                },
                "model": {
                    "n_features": scale.n_features,
                    "n_model_layers": scale.n_model_layers,
                    "vector_start": "zeros",
                    "max_lag_ps": scale.max_lag_ps,
                    **network,
                },
                "optimizer": {
                    "learning_rate": scale.learning_rate,
                    "n_warmup_steps": min(100, n_steps // 4),
                    "ema_decay": scale.ema_decay,
                },
            }
        )
        return load_model(train(config).model_path)


def _correlations(
    model: TitoModel, kind: str, ala2: Ala2Data, scale: Ala2Scale, seed: int
) -> tuple[list[float], list[float]]:
    """Return C at every lag from held-back starts, and its standard errors."""
    values, errors = [], []
    for lag in ala2.whole_lags(scale.lags_ps):
        start = ala2.starts(lag, scale.n_starts)
        lags = nested_lags(lag, scale.max_lag_ps) if kind == "ito" else (lag,)
        end = _sample(model, ala2, start, lags, scale.n_ode_steps, seed)
        value, error = correlation_of_pairs(phi_features(start), phi_features(end))
        values.append(value)
        errors.append(error)
    return values, errors


def _sample(
    model: TitoModel,
    ala2: Ala2Data,
    start: NDArray[np.float32],
    lags_ps: tuple[float, ...],
    n_ode_steps: int,
    seed: int,
) -> NDArray[np.float32]:
    """Return a sample after all of the lags for every start, nm."""
    config = RolloutConfig(
        lag_times_ps=lags_ps, n_rollout_steps=len(lags_ps), n_ode_steps=n_ode_steps, seed=seed
    )
    sampled = []
    for first in range(0, len(start), _SAMPLES_PER_CHUNK):
        part = start[first : first + _SAMPLES_PER_CHUNK]
        rows = [Row(0, ala2.molecule, first + idx) for idx in range(len(part))]
        scaled = torch.from_numpy(part.reshape(-1, 3) / model.info.length_unit_nm).to(model.dtype)
        *_, end = Chunk(model, rows, config).run(scaled, first_step=0, last_step=len(lags_ps))
        sampled.append(end.view(part.shape).numpy() * model.info.length_unit_nm)
    return np.concatenate(sampled)


def correlation_of_pairs(start: FloatArray, end: FloatArray) -> tuple[float, float]:
    """Return ⟨(f(x_0) − f̄_0)·(f(x_N) − f̄_N)⟩ / ⟨‖f(x_0) − f̄_0‖²⟩ and its standard error.

    Parameters
    ----------
    start, end : ndarray, shape (n_pairs, n_features)
    """
    from_mean = start - start.mean(axis=0)
    products = (from_mean * (end - end.mean(axis=0))).sum(axis=1)
    variance = float(np.square(from_mean).sum(axis=1).mean())
    return float(products.mean()) / variance, float(
        products.std() / (variance * math.sqrt(len(start)))
    )
