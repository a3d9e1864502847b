"""From a name or a file of either format to a model that is ready to use, and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import torch

from tito_fast.models.checkpoint import network_from_state, read_checkpoint, write_checkpoint
from tito_fast.models.diffusion_checkpoint import (
    Part,
    Weights,
    is_diffusion_checkpoint,
    read_diffusion_checkpoint,
)
from tito_fast.models.lightning_checkpoint import read_lightning_checkpoint
from tito_fast.models.released_names import released_config_to_tito, state_dict_to_ours
from tito_fast.models.restricted_pickle import TorchZip
from tito_fast.models.tito.config import ModelInfo
from tito_fast.models.tito.model import TitoModel
from tito_fast.units import LENGTH_UNITS_NM

# What the released code trained with, whatever its options (compat: Loss, OT plan).
_RELEASED_FLOW_SIGMA: Final = 0.001
# Larger or smaller is no unit of molecules: most likely angstrom or metres.
_LENGTH_UNIT_RANGE_NM: Final = (0.001, 100.0)

# fmt: off
_ELEMENT_SYMBOLS: Final = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar",
    "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br",
    "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te",
    "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm",
    "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn",
    "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr",
    "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class _Vocabulary:
    """What a published data set holds."""

    elements: tuple[int, ...]
    bond_types: tuple[int, ...]
    formal_charges: tuple[int, ...]


_VOCABULARIES: Final = {
    "mdqm9": _Vocabulary(elements=(1, 6, 7, 8, 9), bond_types=(0, 1, 2, 3), formal_charges=(0,)),
    "timewarp": _Vocabulary(
        elements=(1, 6, 7, 8, 16), bond_types=(0, 1, 2, 12), formal_charges=(-1, 0, 1)
    ),
}


def load_model(
    path: str | Path,
    *,
    units: str | float | None = None,
    elements: Sequence[str | int] | None = None,
    device: torch.device | str = "cpu",
    part: Part | None = None,
    weights: Weights = "average",
) -> TitoModel:
    """Load a model: ours by file or name, or a Lightning checkpoint of TITO's, ITO's or BoPITO's code.

    Parameters
    ----------
    path : str or Path
        A file, or the name of a shipped model such as ``smallmol``.
    units : str, float or None
        For a released checkpoint only, which does not record it: ``mdqm9`` or ``timewarp``, which
        bring length unit and vocabulary, or the nanometres in one model unit.
    elements : sequence of str or int, or None
        With ``units`` in nm: symbols or atomic numbers that the model was trained on. None: any.
    device : torch.device or str
        Where the weights go.
    part : "dynamic" | "equilibrium" | None
        Which network of a BoPITO checkpoint that holds both.
    weights : "average" | "last"
        Of a checkpoint of ITO or BoPITO: the moving average that training kept, or the last ones, with
        which the released code samples.

    Returns
    -------
    TitoModel

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If no shipped model has this name; the file is damaged, of another format or holds anything
        but a model; a released checkpoint comes without ``units``; or ``units`` or ``elements``
        contradict the file.

    Notes
    -----
    Nothing in a file is executed. A released checkpoint in half precision becomes float32.
    """
    found = _resolved(path)
    is_released = is_released_format(found)
    if is_released and is_diffusion_checkpoint(archive := TorchZip(found)):
        model = _load_diffusion(archive, units=units, elements=elements, part=part, weights=weights)
        return model.to(device=device)
    if part is not None:
        raise ValueError(f"part: expected None for a model that is not BoPITO's, got {part!r}")
    if is_released:
        return _load_released(found, units=units, elements=elements).to(device=device)
    model = read_checkpoint(found, device=device)
    _check_unneeded(found, model.info, units=units, elements=elements)
    return model


def save_model(model: TitoModel, path: str | Path) -> None:
    """Write ``model`` to ``path`` as safetensors, whole or not at all; replaces an earlier file.

    Raises
    ------
    OSError
        If the folder does not exist or the file cannot be written; an earlier file is unchanged.
    """
    write_checkpoint(model, path)


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    folder = resources.files("tito_fast") / "pretrained"
    if not folder.is_dir():
        return ()
    files = (entry.name for entry in folder.iterdir())
    return tuple(
        sorted(n.removesuffix(".safetensors") for n in files if n.endswith(".safetensors"))
    )


def parse_elements(elements: Sequence[str | int]) -> tuple[int, ...]:
    """Return the sorted atomic numbers of symbols or numbers.

    Raises
    ------
    ValueError
        If one is no element, or there are none.

    Examples
    --------
    >>> parse_elements(["C", "H", 8])
    (1, 6, 8)
    """
    numbers = set()
    for element in elements:
        if element in _ELEMENT_SYMBOLS:
            numbers.add(_ELEMENT_SYMBOLS.index(str(element)) + 1)
        elif type(element) is int and 1 <= element <= len(_ELEMENT_SYMBOLS):
            numbers.add(element)
        else:
            raise ValueError(
                f"elements: expected symbols such as H, C, Cl or atomic numbers, got {element!r}"
            )
    if not numbers:
        raise ValueError("elements: expected at least one, got none; leave it out to allow any")
    return tuple(sorted(numbers))


def is_released_format(path: Path) -> bool:
    """Return whether the file is a checkpoint of torch (released models), not safetensors (ours).

    Looks at the first bytes only; the suffix says nothing.

    Raises
    ------
    ValueError
        If the file is neither.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError(f"{path}: expected a model, got an empty file")
    # safetensors: the length of the header in eight bytes, then JSON.
    if start[8:] == b"{":
        return False
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return True
    raise ValueError(
        f"{path}: expected a model as safetensors or a released .ckpt, got a file that starts with "
        f"{start[:8]!r}"
    )


def _resolved(path: str | Path) -> Path:
    found = Path(path)
    if found.is_file():
        return found
    if found.exists():
        raise ValueError(f"model: expected a file, got {path}, which is a folder")
    # A name has neither folder nor suffix; anything else was meant as a file.
    if found.suffix or len(found.parts) != 1:
        raise FileNotFoundError(f"model: expected an existing file, got {path}")
    names = shipped_models()
    if found.name not in names:
        raise ValueError(
            f"model: expected a file or a shipped model ({', '.join(names) or 'none here'}), "
            f"got {str(path)!r}"
        )
    # A wheel is unpacked when it is installed, so that the resource is a file.
    return Path(str(resources.files("tito_fast") / "pretrained" / f"{found.name}.safetensors"))


def _load_released(
    path: Path, *, units: str | float | None, elements: Sequence[str | int] | None
) -> TitoModel:
    released = read_lightning_checkpoint(path)
    if units is None:
        raise ValueError(
            f"units: expected {', '.join(LENGTH_UNITS_NM)} or the nm in one model unit for the "
            f"released checkpoint {path}, which does not record it, got none; give units"
        )
    info = _released_info(path, units=units, elements=elements)
    try:
        config = released_config_to_tito(released.config)
        state = state_dict_to_ours(released.state_dict)
        half = (torch.float16, torch.bfloat16)
        state = {n: t.float() if t.dtype in half else t for n, t in state.items()}
        return TitoModel(config, info, network_from_state(config, state))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _load_diffusion(
    archive: TorchZip,
    *,
    units: str | float | None,
    elements: Sequence[str | int] | None,
    part: Part | None,
    weights: Weights,
) -> TitoModel:
    path = archive.path
    if units is None:
        raise ValueError(
            f"units: expected the nm in one model unit for {path}, which does not record it, got none; "
            "give units (0.1661689 for the published alanine dipeptide)"
        )
    info = ModelInfo(
        length_unit_nm=_length_unit_nm(units),
        elements=None if elements is None else parse_elements(elements),
        coupling="none",
        flow_sigma=0.0,
        description=f"diffusion checkpoint {path.name}",
    )
    try:
        read = read_diffusion_checkpoint(archive, part=part, weights=weights)
        return TitoModel(read.config, info, network_from_state(read.config, read.state))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _released_info(
    path: Path, *, units: str | float, elements: Sequence[str | int] | None
) -> ModelInfo:
    if units in _VOCABULARIES:
        name = str(units)
        if elements is not None:
            raise ValueError(
                f"elements: expected none with units {name}, which brings its own, got {elements}"
            )
        known = _VOCABULARIES[name]
        return ModelInfo(
            length_unit_nm=LENGTH_UNITS_NM[name],
            elements=known.elements,
            bond_types=known.bond_types,
            formal_charges=known.formal_charges,
            coupling="released",
            flow_sigma=_RELEASED_FLOW_SIGMA,
            training_set=name,
            description=f"released TITO checkpoint {path.name}",
        )
    return ModelInfo(
        length_unit_nm=_length_unit_nm(units),
        elements=None if elements is None else parse_elements(elements),
        coupling="released",
        flow_sigma=_RELEASED_FLOW_SIGMA,
        description=f"released TITO checkpoint {path.name}",
    )


def _length_unit_nm(units: str | float) -> float:
    if isinstance(units, str) and units in LENGTH_UNITS_NM:
        return LENGTH_UNITS_NM[units]
    low, high = _LENGTH_UNIT_RANGE_NM
    try:
        value = float(units.strip().removesuffix("nm") if isinstance(units, str) else units)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(
            f"units: expected {', '.join(LENGTH_UNITS_NM)} or a number of nm from {low:g} to {high:g}, "
            f"got {units!r}"
        )
    return value


def _check_unneeded(
    path: Path,
    info: ModelInfo,
    *,
    units: str | float | None,
    elements: Sequence[str | int] | None,
) -> None:
    if units is not None and _length_unit_nm(units) != info.length_unit_nm:
        raise ValueError(
            f"units: expected none for {path}, which records {info.length_unit_nm:g} nm, "
            f"got {units!r}; leave it out"
        )
    if elements is not None and parse_elements(elements) != tuple(sorted(info.elements or ())):
        raise ValueError(
            f"elements: expected none for {path}, which records its own, got {elements}; "
            "leave it out"
        )
