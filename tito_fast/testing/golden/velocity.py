"""Replay of ``tito-golden-velocity-1``: one evaluation of the velocity, with everything inside it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.lightning_checkpoint import released_checkpoint
from tito_fast.models.load import load_model
from tito_fast.models.released_names import released_config_to_tito, state_dict_to_ours
from tito_fast.models.tito.model import TitoModel, resolve_model_backend
from tito_fast.testing.golden.comparison import (
    Line,
    Quantity,
    compare,
    compare_exactly,
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
    read_vectors,
    recorded_dtypes,
)
from tito_fast.testing.golden.trace import NetworkTrace

_EDGE_QUANTITIES = (
    "cond_edge_dist",
    "cond_edge_dir",
    "corr_edge_dist",
    "corr_edge_dir",
    "cond_invariant_edge_features",
)


def replay_velocity(
    recording: Section, settings: ReplaySettings, *, checkpoint: Path | None
) -> list[Line]:
    """Return the verdicts on a recording; ``checkpoint`` is the file that holds its weights, if any."""
    backend = resolve_model_backend(settings.backend)
    lines = _checkpoint_lines(recording, checkpoint)
    for dtype in recorded_dtypes(recording, settings.dtypes):
        if checkpoint is None:
            model = read_model(recording, dtype=dtype, device=settings.device)
        else:
            model = _load(recording, checkpoint).to(settings.device, DTYPES[dtype])
        # Other backends do not go through the modules, or in another order of atoms and edges.
        trace = NetworkTrace(model.network) if backend == "reference" else None
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

    temperature_k = None
    if "temperature" in inputs:
        temperature_k = cast(per_molecule(inputs, "temperature", batch.n_molecules))
    prepared = model.prepare(batch.to(settings.device), backend=settings.backend)
    conditioning = model.condition(prepared, cast(inputs.tensor("x_cond", batch.n_atoms, 3)))
    return model.velocity(
        prepared,
        conditioning,
        cast(interpolant(inputs, batch, flow_time)),
        cast(flow_time),
        cast(per_molecule(inputs, "lag", batch.n_molecules)),
        vectors=cast(vectors),
        temperature_k=temperature_k,
    )


def _lines(
    recording: Section, dtype: str, velocity: Tensor, trace: NetworkTrace | None
) -> list[Line]:
    section = recording.section(dtype)
    computed: dict[str, Tensor] = {"velocity": velocity}
    if trace is not None:
        computed |= trace.tensors
    order = None if trace is None else _edge_order(recording, dtype, trace)
    lines = []
    for name in section:
        if name == "layers":
            lines += _layer_lines(section.section(name), dtype, computed, order)
        elif name in ("edge_index", "edge_type"):
            lines.append(_edge_line(section, name, trace, dtype=dtype))
        else:
            lines.append(_line(section, name, name, computed, dtype=dtype, order=order))
    return lines


def _layer_lines(
    layers: Section, dtype: str, computed: dict[str, Tensor], order: Tensor | None
) -> list[Line]:
    return [
        _line(layers, name, f"layers.{name}", computed, dtype=dtype, order=order) for name in layers
    ]


def _line(
    section: Section,
    key: str,
    name: str,
    computed: dict[str, Tensor],
    *,
    dtype: str,
    order: Tensor | None,
) -> Line:
    values = computed.get(name)
    note = ""
    if values is not None and (key in _EDGE_QUANTITIES or key.endswith("edge_features")):
        if order is None:
            note, values = "the recorded edges are others", values.new_full((0,), torch.nan)
        else:
            values = values[order]
    quantity = Quantity.VELOCITY if name == "velocity" else Quantity.INTERMEDIATE
    line = compare(name, values, section.tensor(key), dtype=dtype, quantity=quantity)
    return Line(**{**vars(line), "note": note}) if note else line


def _edge_keys(edge_index: Tensor, n_atoms: int) -> Tensor:
    """Return one number for each directed edge; sorted, they are sorted by source, then receiver."""
    return edge_index[0] * n_atoms + edge_index[1]


def _recorded_edges(recording: Section, dtype: str) -> Tensor | None:
    for name in (dtype, *DTYPES):
        if name in recording and "edge_index" in recording.section(name):
            return recording.section(name).integers("edge_index", 2, "n_edges")
    return None


def _edge_order(recording: Section, dtype: str, trace: NetworkTrace) -> Tensor | None:
    """Return where the recorded edge rows stand among ours; None if the edges differ."""
    keys, ours = torch.sort(_edge_keys(trace.edge_index, trace.n_atoms))
    recorded = _recorded_edges(recording, dtype)
    order = ours
    if recorded is not None:
        wanted = _edge_keys(recorded, trace.n_atoms)
        if not torch.equal(torch.sort(wanted).values, keys):
            return None
        order = ours[torch.searchsorted(keys, wanted)]
    if "edge_rows" in recording:
        order = order[recording.integers("edge_rows", "n_rows", below=order.shape[0])]
    return order


def _edge_line(section: Section, name: str, trace: NetworkTrace | None, *, dtype: str) -> Line:
    if trace is None:
        return not_computed(name, dtype=dtype)
    edges = section.integers("edge_index", 2, "n_edges")
    recorded = {edge: index for index, edge in enumerate(map(tuple, edges.T.tolist()))}
    ours = {edge: index for index, edge in enumerate(map(tuple, trace.edge_index.T.tolist()))}
    if name == "edge_index":
        n_repeated = edges.shape[1] - len(recorded)
        n_different = len(recorded.keys() ^ ours.keys()) + n_repeated
        return compare_exactly(name, n_different, dtype=dtype, note="edges only on one side")
    types = section.integers("edge_type", edges.shape[1])
    n_different = sum(
        edge not in ours or int(types[index]) != int(trace.edge_type[ours[edge]])
        for edge, index in recorded.items()
    )
    return compare_exactly(name, n_different, dtype=dtype, note="edges of another type")


def _load(recording: Section, checkpoint: Path) -> TitoModel:
    return load_model(checkpoint, units=model_info(recording).length_unit_nm)


def _checkpoint_lines(recording: Section, checkpoint: Path | None) -> list[Line]:
    """Return verdicts on weights and options as checkpoints in or beside the recording have them."""
    lines = []
    if "checkpoint" in recording:
        found = released_checkpoint(recording.raw("checkpoint"))
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
