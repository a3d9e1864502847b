"""Equilibrium flows, whatever their network: reading one, and its velocity field."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.data.molecule import Molecule
from tito_fast.models.checkpoint import model_hash
from tito_fast.models.load import load_model
from tito_fast.models.tbg.checkpoint import is_tbg_checkpoint, read_tbg_checkpoint, tbg_model_hash
from tito_fast.models.tbg.model import TbgModel
from tito_fast.models.tito.model import TitoModel
from tito_fast.types import Backend

EquilibriumModel = TbgModel | TitoModel
"""A flow from a normal density to the equilibrium of a molecule; of TITO's network, one without a condition."""


def load_equilibrium_model(
    path: str | Path, *, device: torch.device | str = "cpu"
) -> EquilibriumModel:
    """Return the equilibrium flow in ``path``.

    Parameters
    ----------
    path : str or Path
        Model file of TBG's network, or of TITO's without a condition.
    device : torch.device or str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or the model is no equilibrium flow.
    """
    if Path(path).is_file() and is_tbg_checkpoint(path):
        return read_tbg_checkpoint(path, device=device)
    model = load_model(path, device=device)
    _check_is_equilibrium(model)
    return model


def equilibrium_model_hash(model: EquilibriumModel) -> str:
    """Return the SHA-256 of configuration, facts and weights, as 64 hexadecimal digits."""
    return tbg_model_hash(model) if isinstance(model, TbgModel) else model_hash(model)


def equilibrium_field(
    model: EquilibriumModel,
    molecules: Sequence[Molecule],
    *,
    backend: Backend = "auto",
    temperature_k: float | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the velocity field of the flow for ``molecules``.

    Parameters
    ----------
    model : EquilibriumModel
    molecules : sequence of Molecule
        One for each row of the batch; the same object many times for samples of one molecule.
    backend : Backend
        Of TITO's network.
    temperature_k : float, optional
        For models that take one.

    Returns
    -------
    callable of (x_t, flow_time)
        ``x_t`` (n_atoms, 3) in model units, ``flow_time`` (n_molecules,); returns velocities (n_atoms, 3). Of the
        model's type, on its device. Deterministic and differentiable.

    Raises
    ------
    ValueError
        If the model is no equilibrium flow, does not know a molecule, or wants a temperature.
    """
    if isinstance(model, TbgModel):
        _check_temperature(temperature_k, has_temperature=False)
        prepared = model.prepare_molecules(molecules)
        return lambda x_t, flow_time: model.velocity(prepared, x_t, flow_time)
    _check_is_equilibrium(model)
    _check_temperature(temperature_k, has_temperature=model.config.has_temperature)
    model.check_molecules(molecules)
    batch = MoleculeBatch.from_molecules(molecules, device=model.device)
    tables = model.prepare(batch, backend=backend)
    conditioning = model.condition(tables, None)
    like = torch.zeros(0, device=model.device, dtype=model.dtype)
    vectors = like.new_zeros((batch.n_atoms, 3, model.config.n_features))
    temperatures = None
    if temperature_k is not None:
        temperatures = like.new_full((batch.n_molecules,), temperature_k)

    def field(x_t: Tensor, flow_time: Tensor) -> Tensor:
        return model.velocity(
            tables,
            conditioning,
            x_t,
            flow_time,
            None,
            vectors=vectors,
            temperature_k=temperatures,
        )

    return field


def _check_is_equilibrium(model: TitoModel) -> None:
    config = model.config
    if config.is_conditional or config.objective != "velocity":
        raise ValueError(
            "model: expected an equilibrium flow, got one of "
            + ("transitions" if config.is_conditional else "a diffusion")
            + "; train one with model.is_conditional=false, or with TBG's network"
        )
    if config.vector_start != "zeros":
        raise ValueError(
            f"model: expected vectors that start as zeros, got {config.vector_start}: a field with noise has no "
            "density; train one with model.vector_start=zeros"
        )


def _check_temperature(temperature_k: float | None, *, has_temperature: bool) -> None:
    if has_temperature != (temperature_k is not None):
        wanted = "a temperature" if has_temperature else "none"
        got = "none" if temperature_k is None else f"{temperature_k:g} K"
        raise ValueError(f"temperature_k: expected {wanted} for this model, got {got}")
