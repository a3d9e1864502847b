"""The model that a run starts from: fresh weights or another model's, with the facts of the data."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import Store
from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.load import load_model
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.model import TitoModel
from tito_fast.training.batches import VALIDATION_USE, step_generator
from tito_fast.training.config import TrainingConfig

_LENGTH_UNIT_FRAMES = 1000
# A step that no validation has.
_LENGTH_UNIT_STEP = 2**32


def warn_about(config: TrainingConfig) -> None:
    """Warn of settings that train a model with a known defect."""
    if config.data.coupling in ("p", "pr", "rp"):
        warnings.warn(
            f"data.coupling: {config.data.coupling} permutes base atoms by their targets, which "
            "changes the law of x_0 for labeled atoms, and sampling cannot reproduce that; use r, "
            "unless you mean to compare",
            stacklevel=3,
        )
    if config.model.vector_start == "condition" and config.data.coupling == "r":
        warnings.warn(
            "data.coupling: r turns base samples onto their targets, and with the condition's vectors "
            "(model.vector_start: condition) the network sees how these are turned to the state, which "
            "sampling cannot reproduce; use none",
            stacklevel=3,
        )
    if config.model.n_embedding_layers == 1:
        warnings.warn(
            "model.n_embedding_layers: with 1 the condition cannot tell mirror images apart, since "
            "its only message starts from zero vectors; use 2 or more",
            stacklevel=3,
        )


def starting_model(config: TrainingConfig, store: Store, sampler: PairSampler) -> TitoModel:
    """Return the model to train, on the CPU.

    Parameters
    ----------
    config : TrainingConfig
    store : Store
    sampler : PairSampler
        Of the training split.

    Raises
    ------
    FileNotFoundError, ValueError
        If ``init_from`` is no model, or has another configuration or length unit than ``config``.
    """
    if config.model.equilibrium:
        return _dynamic_start(config, store)
    if not config.init_from:
        unit = config.data.length_unit_nm or _length_unit_nm(config, sampler)
        info = _data_info(config, store, length_unit_nm=unit)
        return TitoModel.create(config.model.network, info, seed=config.seed)
    start = _load_start(config)
    data = _data_info(config, store, length_unit_nm=start.info.length_unit_nm)
    known = start.info
    info = replace(
        data,
        base_std=known.base_std,
        elements=None if known.elements is None else _union(known.elements, data.elements),
        bond_types=None if known.bond_types is None else _union(known.bond_types, data.bond_types),
        formal_charges=_union(known.formal_charges, data.formal_charges),
        description=f"fine-tuned from {Path(config.init_from).name}",
    )
    return TitoModel(config.model.network, info, start.network)


def _dynamic_start(config: TrainingConfig, store: Store) -> BopitoModel:
    """Return the equilibrium model that the settings name with a fresh dynamic network."""
    model = config.model
    try:
        prior = load_model(model.equilibrium)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"model.equilibrium: {error}") from error
    unit = prior.info.length_unit_nm
    if config.data.length_unit_nm not in (None, unit):
        raise ValueError(
            f"data.length_unit_nm: expected {unit:g} nm, as {model.equilibrium} has it, "
            f"got {config.data.length_unit_nm:g} nm; leave it out"
        )
    is_turned = prior.config.objective != model.objective
    info = replace(
        _data_info(config, store, length_unit_nm=unit),
        # The noise of a diffusion has a standard deviation of 1.
        base_std=1.0 if is_turned else prior.info.base_std,
        description=f"dynamics on {Path(model.equilibrium).name}",
    )
    interval_ps = info.min_lag_ps
    if interval_ps is None:
        raise ValueError("data.store: expected an interval between frames, got none")
    if model.decay == "fit":
        raise ValueError(
            "model.decay: expected a number or learn, got fit, which tito-fast train turns into a number first"
        )
    relaxation_time_ps = model.max_lag_ps
    if not isinstance(model.decay, str):
        relaxation_time_ps = -interval_ps / math.log(model.decay)
    return BopitoModel.from_equilibrium(
        prior,
        model.network,
        info,
        relaxation_time_ps=relaxation_time_ps,
        frame_interval_ps=interval_ps,
        is_decay_learned=model.decay == "learn",
        seed=config.seed,
    )


def _load_start(config: TrainingConfig) -> TitoModel:
    try:
        start = load_model(config.init_from)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(
            f"init_from: {error}; a released checkpoint is first made a model with tito-fast convert"
        ) from error
    wanted, found = asdict(config.model.network), asdict(start.config)
    for name, value in wanted.items():
        if found[name] != value:
            raise ValueError(
                f"model.{name}: expected {found[name]!r}, as {config.init_from} has it, "
                f"got {value!r}; set it in the config"
            )
    unit = config.data.length_unit_nm
    if unit is not None and unit != start.info.length_unit_nm:
        raise ValueError(
            f"data.length_unit_nm: expected {start.info.length_unit_nm:g} nm, as "
            f"{config.init_from} has it, got {unit:g} nm; leave it out"
        )
    return start


def _data_info(config: TrainingConfig, store: Store, *, length_unit_nm: float) -> ModelInfo:
    """Return the facts that follow from the settings and the training split."""
    rows = [store.trajectories[index] for index in store.split_indices(config.data.train_split)]
    molecules = [store.molecules[index] for index in sorted({row.molecule_idx for row in rows})]
    temperatures = {row.temperature_k for row in rows}
    return ModelInfo(
        length_unit_nm=length_unit_nm,
        elements=_union((), *(m.atomic_numbers.tolist() for m in molecules)),
        # Pairs of atoms without a bond are edges of type 0.
        bond_types=_union((0,), *(m.bond_type.tolist() for m in molecules)),
        formal_charges=_union((0,), *(m.formal_charges for m in molecules)),
        min_lag_ps=min(row.frame_interval_ps for row in rows),
        coupling=config.data.coupling,
        is_superposed=config.data.superpose,
        flow_sigma=0.0 if config.model.objective == "noise" else config.flow_sigma,
        temperature_k=temperatures.pop() if len(temperatures) == 1 else None,
        training_set=Path(config.data.store).name,
        training_set_hash=store.content_hash,
    )


def _union(*groups: Iterable[int] | None) -> tuple[int, ...]:
    return tuple(sorted({int(value) for group in groups for value in group or ()}))


def _length_unit_nm(config: TrainingConfig, sampler: PairSampler) -> float:
    """Return the standard deviation of centered training positions, from 1,000 fixed frames."""
    rng = step_generator(config.seed, VALIDATION_USE, _LENGTH_UNIT_STEP)
    drawn = sampler.draw(_LENGTH_UNIT_FRAMES, rng)
    return float(np.round(drawn.next_positions.double().std().item(), 4))
