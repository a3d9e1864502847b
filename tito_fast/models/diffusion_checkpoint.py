"""Reads the Lightning checkpoints that the code of ITO and of BoPITO writes.

Neither has released weights; what is read is what their code saves. Nothing in a file is executed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from tito_fast.models.restricted_pickle import StandIn, TensorRecord, TorchZip
from tito_fast.models.tito.config import TitoConfig
from tito_fast.models.tito.layers import N_BOND_TYPES
from tito_fast.types import NOISE_SCHEDULES, NoiseScheduleName
from tito_fast.validation import check_choice

Part = Literal["dynamic", "equilibrium"]
"""Networks of a BoPITO checkpoint."""
PARTS: tuple[Part, ...] = ("dynamic", "equilibrium")

Weights = Literal["average", "last"]
"""The moving average of the weights, or those of the last step."""
WEIGHTS: tuple[Weights, ...] = ("average", "last")

_PREFIX: Final = "score_model."
_AVERAGE: Final = "ema.shadow_params."
# A buffer that modules hold to know their device; it takes part in nothing.
_DEVICE_TRACKER: Final = "device_tracker"
_PART_PREFIX: Final[dict[Part, str]] = {
    "dynamic": "tl_score_model.",
    "equilibrium": "eq_score_model.",
}
_BOND: Final = "condition.bond_embedding.weight"
# RDKit's code of an aromatic bond, 12. The released code cuts its order, 1.5, to that of a single bond.
_AROMATIC, _SINGLE = 12, 1


@dataclass(frozen=True)
class _Naming:
    """What a network's modules are called."""

    leaves: Mapping[str, str]  # their module → ours
    stacks: Mapping[str, str]  # their list of layers → our network
    blocks: tuple[int, ...]  # their blocks of a message's last linears, in our order


# Blocks: theirs are gate, cross, direction, then the scalars' (and the edges'); ours gate, direction, scalars'
# (and edges'), cross.
_ITO: Final = _Naming(
    leaves={
        "embed.2.embedding": "condition.atom_embedding",
        "embed.4.mlp.mlp": "condition.combine",
        "net.2.mlp.mlp": "velocity.combine",
    },
    stacks={"embed.5.layers": "condition", "net.3.layers": "velocity"},
    blocks=(0, 2, 3, 1),
)
_DYNAMIC: Final = _Naming(
    leaves={
        "embed.1.embedding": "condition.bond_embedding",
        "embed.2.embedding": "condition.atom_embedding",
        "net.3.mlp.mlp": "velocity.combine",
    },
    stacks={"embed.4.layers": "condition", "net.4.layers": "velocity"},
    blocks=(0, 2, 3, 4, 1),
)
_EQUILIBRIUM: Final = _Naming(
    leaves={
        "net.1.embedding": "condition.bond_embedding",
        "net.2.embedding": "condition.atom_embedding",
        "net.5.mlp.mlp": "velocity.combine",
    },
    stacks={"net.6.layers": "velocity"},
    blocks=(0, 2, 3, 4, 1),
)
_MESSAGE: Final = {"phi.mlp": "message.phi", "w.mlp": "message.filter", "W.mlp": "message.filter"}
_UPDATE: Final = {
    "u.linear": "update.u",
    "U.linear": "update.u",
    "v.linear": "update.v",
    "V.linear": "update.v",
    "mlp.mlp": "update.mlp",
}
_READOUT: Final = {"mlp.mlp": "readout.mlp", "V.linear": "readout.v"}


@dataclass(frozen=True, kw_only=True)
class DiffusionCheckpoint:
    """A network of ITO or BoPITO as its file has it.

    Parameters
    ----------
    config : TitoConfig
    state : dict of str to Tensor
        On the CPU, under our names, gates in our order.
    """

    config: TitoConfig
    state: dict[str, Tensor]


def is_diffusion_checkpoint(archive: TorchZip) -> bool:
    """Return whether a checkpoint is one of ITO or BoPITO."""
    content = archive.content
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    return isinstance(state, Mapping) and any(str(name).startswith(_PREFIX) for name in state)


def read_diffusion_checkpoint(
    archive: TorchZip,
    *,
    part: Part | None = None,
    weights: Weights = "average",
    frame_interval_ps: float = 1.0,
) -> DiffusionCheckpoint:
    """Read a network that the code of ITO or BoPITO saved.

    Parameters
    ----------
    archive : TorchZip
    part : "dynamic" | "equilibrium" | None
        Which network of a BoPITO checkpoint with both; None for a file with one.
    weights : "average" | "last"
        The moving average that training kept, or the weights of the last step, with which the released code
        samples.
    frame_interval_ps : float
        Time between two frames of the training data, in which the files count lags; 1 ps as published.

    Returns
    -------
    DiffusionCheckpoint

    Raises
    ------
    ValueError
        If the file holds another network, lacks what is needed, or contradicts itself; if ``part`` does not
        fit it, or there is no average.
    """
    check_choice("weights", weights, WEIGHTS)
    if part is not None:
        check_choice("part", part, PARTS)
    content: Any = archive.content
    records = {
        str(name): record
        for name, record in content["state_dict"].items()
        if isinstance(record, TensorRecord)
    }
    tensors = archive.tensors(_chosen(records, weights))
    hyper = content.get("hyper_parameters")
    if not isinstance(hyper, Mapping):
        raise ValueError("hyper_parameters: expected those of a DDPM of ITO or BoPITO, got none")  # noqa: TRY004
    module = hyper.get("score_model")
    tensors, chosen = _part_of(tensors, part)
    if isinstance(module, StandIn) and chosen is not None:
        module = module.child(_PART_PREFIX[chosen].removesuffix("."))
    naming = _naming(tensors)
    state = _to_ours(tensors, naming)
    _expand_bonds(state)
    config = _config(state, hyper, module, naming, frame_interval_ps)
    return DiffusionCheckpoint(config=config, state=state)


def _chosen(records: Mapping[str, TensorRecord], weights: Weights) -> dict[str, TensorRecord]:
    """Return the records of the networks' parameters by name, without the prefix."""
    last = {
        name.removeprefix(_PREFIX): record
        for name, record in records.items()
        if name.startswith(_PREFIX) and not name.endswith(_DEVICE_TRACKER)
    }
    if weights == "last":
        return last
    # The average has no names: it has the order of the parameters, which is that of the state.
    average = [records.get(f"{_AVERAGE}{k}") for k in range(len(last))]
    found = [record for record in average if record is not None]
    if len(found) != len(last) or f"{_AVERAGE}{len(last)}" in records:
        n_found = sum(name.startswith(_AVERAGE) for name in records)
        raise ValueError(
            f"weights: expected an average of {len(last)} parameters, got one of {n_found}; "
            "use weights='last'"
        )
    named = dict(zip(last, found, strict=True))
    for name, record in named.items():
        if record.shape != last[name].shape:
            raise ValueError(
                f"{name}: expected an average of shape {last[name].shape}, got {record.shape}"
            )
    return named


def _part_of(
    tensors: dict[str, Tensor], part: Part | None
) -> tuple[dict[str, Tensor], Part | None]:
    has_parts = any(name.startswith(tuple(_PART_PREFIX.values())) for name in tensors)
    if not has_parts:
        if part is not None:
            raise ValueError(f"part: expected None for a checkpoint of one network, got {part!r}")
        return tensors, None
    if part is None:
        raise ValueError(
            "part: expected dynamic or equilibrium for a BoPITO checkpoint of both, got None"
        )
    prefix = _PART_PREFIX[part]
    own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return own, part


def _naming(tensors: Mapping[str, Tensor]) -> _Naming:
    for naming in (_ITO, _DYNAMIC, _EQUILIBRIUM):
        if all(
            f"{leaf}.weight" in tensors or f"{leaf}.0.weight" in tensors for leaf in naming.leaves
        ):
            return naming
    raise ValueError("state_dict: expected the network of ITO or BoPITO, got another")


def _to_ours(tensors: Mapping[str, Tensor], naming: _Naming) -> dict[str, Tensor]:
    ends = {stack: _end(tensors, stack) for stack in naming.stacks}
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = _our_name(name, naming, ends)
        if ours is None:
            raise ValueError(f"state_dict: expected parameters of ITO or BoPITO, got {name[:80]!r}")
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        state[ours] = tensor.float() if half else tensor
    for name, tensor in state.items():
        if _is_last_linear(name, state):
            rows = tensor.shape[0] // len(naming.blocks)
            blocks: list[Tensor] = list(torch.split(tensor, rows)) if rows else []
            if len(blocks) != len(naming.blocks):
                raise ValueError(
                    f"{name}: expected {len(naming.blocks)} blocks, got {tensor.shape[0]} rows"
                )
            state[name] = torch.cat([blocks[block] for block in naming.blocks])
    return state


def _our_name(name: str, naming: _Naming, ends: Mapping[str, int]) -> str | None:
    for leaf, ours in naming.leaves.items():
        if name.startswith(leaf + "."):
            return ours + name.removeprefix(leaf)
    for stack, network in naming.stacks.items():
        number, _, rest = name.removeprefix(stack + ".").partition(".")
        if not name.startswith(stack + ".") or not number.isascii() or not number.isdigit():
            continue
        layer, is_update = divmod(int(number), 2)
        is_readout = int(number) == ends[stack]
        table = _READOUT if is_readout else _UPDATE if is_update else _MESSAGE
        for theirs, ours in table.items():
            if rest.startswith(theirs + "."):
                place = network if is_readout else f"{network}.layers.{layer}"
                return f"{place}.{ours}{rest.removeprefix(theirs)}"
    return None


def _end(tensors: Mapping[str, Tensor], stack: str) -> int:
    """Return the number of the readout: messages are even, updates odd, it comes after them."""
    numbers = {
        name.removeprefix(stack + ".").partition(".")[0]
        for name in tensors
        if name.startswith(stack + ".")
    }
    if not numbers or not all(each.isascii() and each.isdigit() for each in numbers):
        raise ValueError(f"state_dict: expected layers {stack}.<number>, got none")
    end = max(int(each) for each in numbers)
    if end % 2:
        raise ValueError(f"state_dict: expected a readout after {stack}, got none")
    return end


def _is_last_linear(name: str, state: Mapping[str, Tensor]) -> bool:
    """Return whether a parameter belongs to the last linear of a message's φ or filter."""
    for mlp in ("message.phi.", "message.filter."):
        start, found, rest = name.partition(mlp)
        if found:
            last = "6" if f"{start}{mlp}6.weight" in state else "4"
            return rest.partition(".")[0] == last
    return False


def _expand_bonds(state: dict[str, Tensor]) -> None:
    """Give the embedding of bond orders 0 to 3 the rows of RDKit's codes."""
    orders = state.get(_BOND)
    if orders is None or orders.ndim != 2 or not _SINGLE < orders.shape[0] < N_BOND_TYPES:
        return
    rows = orders.new_zeros((N_BOND_TYPES, orders.shape[1]))
    rows[: orders.shape[0]] = orders
    rows[_AROMATIC] = orders[_SINGLE]
    state[_BOND] = rows


def _config(
    state: Mapping[str, Tensor],
    hyper: Mapping[Any, Any],
    module: object,
    naming: _Naming,
    frame_interval_ps: float,
) -> TitoConfig:
    n_features = int(state["condition.atom_embedding.weight"].shape[-1])
    n_steps = _whole("diffusion_steps", hyper.get("diffusion_steps", 1000))
    n_model = _n_layers(state, "velocity")
    if naming is _ITO:
        arguments = hyper.get("score_model_kwargs")
        arguments = arguments if isinstance(arguments, Mapping) else {}
        _check_steps(arguments.get("diff_steps", 1000), n_steps)
        _check_encoding(arguments.get("dist_encoding"))
        max_lag = _whole("max_lag", arguments.get("max_lag", 1000))
        return TitoConfig.ito(
            n_features=n_features,
            max_lag_ps=max_lag * frame_interval_ps,
            n_embedding_layers=_n_layers(state, "condition"),
            n_model_layers=n_model,
            n_diffusion_steps=n_steps,
        )
    schedule = _schedule(hyper.get("noise_schedule", "sigmoid"))
    if not isinstance(module, StandIn):
        raise ValueError(  # noqa: TRY004
            "hyper_parameters: expected the network under 'score_model', got none; what its encodings "
            "were is recorded nowhere else"
        )
    place = "1" if naming is _DYNAMIC else "3"
    encoder = module.child("net", place, "embedding")
    _check_steps(None if encoder is None else encoder.attributes.get("length"), n_steps)
    if naming is _EQUILIBRIUM:
        return TitoConfig.bopito_equilibrium(
            n_features=n_features,
            n_model_layers=n_model,
            n_diffusion_steps=n_steps,
            noise_schedule=schedule,
        )
    max_lag = _whole("max_lag", module.attributes.get("max_lag"))
    return TitoConfig.bopito_dynamic(
        n_features=n_features,
        max_lag_ps=max_lag * frame_interval_ps,
        n_embedding_layers=_n_layers(state, "condition"),
        n_model_layers=n_model,
        n_diffusion_steps=n_steps,
        noise_schedule=schedule,
    )


def _n_layers(state: Mapping[str, Tensor], network: str) -> int:
    start = f"{network}.layers."
    return len({n.removeprefix(start).partition(".")[0] for n in state if n.startswith(start)})


def _schedule(stated: object) -> NoiseScheduleName:
    # polynomial_2 is polynomial; other powers exist in the released code only.
    name = "polynomial" if stated in ("polynomial_2", "polynomial_2.0") else stated
    if name not in NOISE_SCHEDULES:
        shown = repr(stated)[:40] if isinstance(stated, str) else type(stated).__name__
        raise ValueError(
            f"noise_schedule: expected one of {', '.join(NOISE_SCHEDULES)}, got {shown}"
        )
    return name


def _check_steps(length: object, n_steps: int) -> None:
    if type(length) not in (int, float) or length != n_steps:
        shown = length if type(length) in (int, float) else type(length).__name__
        raise ValueError(
            f"diffusion_steps: expected the length of their encoding, {shown}, got {n_steps}"
        )


def _check_encoding(stated: object) -> None:
    if stated not in (None, "positional_encoding"):
        raise ValueError("dist_encoding: expected positional_encoding, got another")


def _whole(name: str, value: object) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        shown = repr(value)[:40] if isinstance(value, int | float) else type(value).__name__
        raise ValueError(f"{name}: expected a whole number above zero, got {shown}")
    return value
