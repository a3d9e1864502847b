"""Replay of ``tito-golden-velocity-1``: one evaluation of the velocity, with everything inside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.lightning_checkpoint import released_checkpoint
from tito_fast.models.load import load_model
from tito_fast.models.released_names import released_config_to_tito, state_dict_to_ours
from tito_fast.models.tito.model import TitoModel, check_model_backend
from tito_fast.testing.golden.comparison import (
    Line,
    Quantity,
    compare,
    compare_exactly,
    failed,
    not_computed,
)
from tito_fast.testing.golden.recording import (
    DTYPES,
    ReplaySettings,
    Section,
    model_info,
    per_molecule,
    read_batch,
    read_model,
    read_temperature,
    read_vectors,
    recorded_dtypes,
)
from tito_fast.testing.golden.trace import NetworkTrace


def replay_velocity(
    recording: Section, settings: ReplaySettings, *, checkpoint: Path | None
) -> list[Line]:
    """Return the verdicts on a recording; ``checkpoint`` is the file that holds its weights, if any."""
    check_model_backend(settings.backend)
    lines = _checkpoint_lines(recording, checkpoint)
    for dtype in recorded_dtypes(recording, settings.dtypes):
        if checkpoint is None:
            model = read_model(recording, dtype=dtype, device=settings.device)
        else:
            model = _load(recording, checkpoint).to(settings.device, DTYPES[dtype])
        # Other backends do not go through the modules, or in another order of atoms and edges.
        trace = NetworkTrace(model.network) if settings.backend == "reference" else None
        velocity = _evaluate(recording, model, dtype=dtype, settings=settings)
        lines += _lines(recording, dtype, velocity, trace)
    return lines


def interpolant(inputs: Section, batch: MoleculeBatch, flow_time: Tensor) -> Tensor:
    """Return ``x_corr``, or where it is absent what it was made from."""
    if "x_corr" in inputs:
        return inputs.tensor("x_corr", batch.n_atoms, 3)
    t = flow_time[batch.batch_idx].unsqueeze(-1)
    x_0 = inputs.tensor("x_base", batch.n_atoms, 3)
    return t * inputs.tensor("x_target", batch.n_atoms, 3) + (1 - t) * x_0


@torch.no_grad()
def _evaluate(
    recording: Section, model: TitoModel, *, dtype: str, settings: ReplaySettings
) -> Tensor:
    inputs = recording.section("inputs")
    batch = read_batch(inputs)
    flow_time = per_molecule(inputs, "t", batch.n_molecules)
    vectors = read_vectors(recording, batch.n_atoms, model.config.n_features, 3)

    def cast(values: Tensor) -> Tensor:
        return values.to(settings.device, DTYPES[dtype])

    temperature_k = read_temperature(inputs, model, batch.n_molecules)
    prepared = model.prepare(batch.to(settings.device), backend=settings.backend)
    conditioning = model.condition(prepared, cast(inputs.tensor("x_cond", batch.n_atoms, 3)))
    return model.velocity(
        prepared,
        conditioning,
        cast(interpolant(inputs, batch, flow_time)),
        cast(flow_time),
        cast(per_molecule(inputs, "lag", batch.n_molecules)),
        vectors=cast(vectors),
        temperature_k=None if temperature_k is None else cast(temperature_k),
    )


def _lines(
    recording: Section, dtype: str, velocity: Tensor, trace: NetworkTrace | None
) -> list[Line]:
    section = recording.section(dtype)
    edges = None if trace is None else _Edges(recording, dtype, trace)
    comparison = _Comparison(
        dtype, {"velocity": velocity} | (trace.tensors if trace else {}), edges
    )
    lines = []
    for name in section:
        if name == "layers":
            layers = section.section(name)
            lines += [comparison.line(layers, key, f"layers.{key}") for key in layers]
        elif name == "edge_index" and edges is not None:
            lines.append(
                compare_exactly(name, edges.n_different(), dtype=dtype, note="edges differ")
            )
        elif name == "edge_type" and edges is not None:
            n_different = edges.n_other_types(section.integers(name, "n_edges"))
            lines.append(compare_exactly(name, n_different, dtype=dtype, note="types differ"))
        else:
            lines.append(comparison.line(section, name, name))
    return lines


@dataclass(frozen=True)
class _Comparison:
    """What was computed, by recorded name, and how its edges are ordered."""

    dtype: str
    computed: dict[str, Tensor]
    edges: "_Edges | None"

    def line(self, section: Section, key: str, name: str) -> Line:
        """Return the verdict on ``section[key]``, which is called ``name`` in full."""
        values = self.computed.get(name)
        if values is None:
            return not_computed(name, dtype=self.dtype)
        recorded = section.tensor(key)
        quantity = Quantity.VELOCITY if name == "velocity" else Quantity.INTERMEDIATE
        if self.edges is not None and "_edge_" in f"_{key}":
            rows = self.edges.rows
            if rows is None:
                return failed(name, dtype=self.dtype, quantity=quantity, note="edges differ")
            values = values[rows.to(values.device)]
        return compare(name, values, recorded, dtype=self.dtype, quantity=quantity)


class _Edges:
    """Our edges, and where the recorded ones stand among them.

    Attributes
    ----------
    rows : Tensor, shape (n_rows,), or None
        Our edge of each recorded row; None if the edges are not the same.
    """

    def __init__(self, recording: Section, dtype: str, trace: NetworkTrace) -> None:
        n_atoms = trace.n_atoms
        self._keys, order = torch.sort(_edge_keys(trace.edge_index, n_atoms))
        self._types = trace.edge_type[order]
        # Without recorded edges: all of them, by source and then receiver, as the released code has them.
        self._wanted = self._keys
        recorded = _recorded_edges(recording, dtype, n_atoms)
        if recorded is not None:
            self._wanted = _edge_keys(recorded, n_atoms)
        self.rows: Tensor | None = None
        if torch.equal(torch.sort(self._wanted).values, self._keys):
            self.rows = order[torch.searchsorted(self._keys, self._wanted)]
            if "edge_rows" in recording:
                n_edges = order.shape[0]
                self.rows = self.rows[recording.integers("edge_rows", "n_rows", below=n_edges)]

    def n_different(self) -> int:
        """Return how many edges are on one side only; repeated ones count."""
        wanted = self._wanted.tolist()
        return len(set(wanted) ^ set(self._keys.tolist())) + len(wanted) - len(set(wanted))

    def n_other_types(self, recorded: Tensor) -> int:
        """Return how many recorded edges have another type here, or are not here."""
        if recorded.shape != self._wanted.shape:
            return max(recorded.shape[0], 1)
        ours = dict(zip(self._keys.tolist(), self._types.tolist(), strict=True))
        theirs = zip(self._wanted.tolist(), recorded.tolist(), strict=True)
        return sum(ours.get(edge) != edge_type for edge, edge_type in theirs)


def _edge_keys(edge_index: Tensor, n_atoms: int) -> Tensor:
    """Return one number for each directed edge; sorted, they are sorted by source, then receiver."""
    return edge_index[0] * n_atoms + edge_index[1]


def _recorded_edges(recording: Section, dtype: str, n_atoms: int) -> Tensor | None:
    for name in (dtype, *DTYPES):
        if name in recording and "edge_index" in recording.section(name):
            return recording.section(name).integers("edge_index", 2, "n_edges", below=n_atoms)
    return None


def _load(recording: Section, checkpoint: Path) -> TitoModel:
    return load_model(checkpoint, units=model_info(recording).length_unit_nm)


def _checkpoint_lines(recording: Section, checkpoint: Path | None) -> list[Line]:
    """Return verdicts on weights and options as checkpoints in or beside the recording have them."""
    lines = []
    if "checkpoint" in recording:
        found = released_checkpoint(recording.section("checkpoint").as_mapping())
        weights: dict[str, Tensor] = found.state_dict
        lines += _same_model(recording, "checkpoint", weights, found.config, is_released=True)
    if checkpoint is not None:
        model = _load(recording, checkpoint)
        weights = dict(model.network.state_dict())
        lines += _same_model(recording, checkpoint.name, weights, model.config, is_released=False)
    return lines


def _same_model(
    recording: Section,
    name: str,
    weights: dict[str, Tensor],
    config: Any,  # noqa: ANN401  the released constructor arguments, or ours
    *,
    is_released: bool,
) -> list[Line]:
    lines = []
    if "state_dict" in recording:
        recorded = recording.tensors("state_dict")
        if not is_released:
            recorded = state_dict_to_ours(recorded)
        n_different = len(recorded.keys() ^ weights.keys()) + sum(
            not torch.equal(recorded[key], weights[key]) for key in recorded.keys() & weights.keys()
        )
        lines.append(compare_exactly(f"{name}: state_dict", n_different, note="tensors differ"))
    if "config" in recording:
        expected = released_config_to_tito(recording.raw("config"))
        found = released_config_to_tito(config) if is_released else config
        n_different = sum(
            value != getattr(found, field) for field, value in expected.to_dict().items()
        )
        lines.append(compare_exactly(f"{name}: config", n_different, note="options differ"))
    return lines
