"""Samples of a Boltzmann generator: structures, their log density under the model, their weights."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.store import molecule_from_row, molecule_row
from tito_fast.data.writers.disk import replace_file

FORMAT: Final = "tito_fast samples"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class BgSamples:
    """Independent samples of one molecule.

    Parameters
    ----------
    molecule : Molecule
        Its positions are a reference structure, not a sample.
    positions : ndarray, shape (n_samples, n_atoms, 3), float32
        In nm, the geometric center of each at the origin.
    log_density : ndarray, shape (n_samples,), float64, optional
        Natural logarithm of the model's density of the centered positions, which have ``3 (n_atoms - 1)``
        dimensions, per nm to that power. None: not computed.
    log_weights : ndarray, shape (n_samples,), float64, optional
        Natural logarithm of importance weights, up to a constant; minus infinity for a weight of zero.
    seed : int
        All samples follow from it and the model.
    model_hash : str
        ``hash`` of the model; empty for samples that no model of ours drew.

    Raises
    ------
    ValueError
        If shapes do not fit, positions or densities are not finite, or no weight is above zero.
    """

    molecule: Molecule
    positions: NDArray[np.float32]
    log_density: FloatArray | None = None
    log_weights: FloatArray | None = None
    seed: int = 0
    model_hash: str = ""

    def __post_init__(self) -> None:
        """Check shapes and values."""
        positions = np.asarray(self.positions, dtype=np.float32)
        object.__setattr__(self, "positions", positions)
        n_atoms = self.molecule.n_atoms
        if positions.ndim != 3 or positions.shape[1:] != (n_atoms, 3):
            raise ValueError(
                f"positions: expected shape (n_samples, {n_atoms}, 3), got {positions.shape}"
            )
        if not np.isfinite(positions).all():
            raise ValueError("positions: expected finite coordinates, got NaN or infinity")
        for name in ("log_density", "log_weights"):
            if getattr(self, name) is None:
                continue
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
            if values.shape != positions.shape[:1]:
                raise ValueError(
                    f"{name}: expected shape ({self.n_samples},), got {tuple(values.shape)}"
                )
        if self.log_density is not None and not np.isfinite(self.log_density).all():
            raise ValueError("log_density: expected finite values, got NaN or infinity")
        weights = self.log_weights
        if weights is not None and len(weights):
            if np.isnan(weights).any() or np.isposinf(weights).any():
                raise ValueError("log_weights: expected finite values, got NaN or infinity")
            if np.isneginf(weights).all():
                raise ValueError("log_weights: expected a weight above zero, got none")

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.positions)


def write_bg_samples(path: str | Path, samples: BgSamples) -> None:
    """Write ``samples`` as npz; the file is there whole or not at all.

    Parameters
    ----------
    path : path
        Replaced if it is there. NumPy alone reads the file: ``positions``, ``log_density`` and
        ``log_weights`` (left out where None), and ``header``, JSON.
    samples : BgSamples

    Raises
    ------
    OSError
        The folder does not exist or the disk is full; an earlier file is then unchanged.
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "molecule": molecule_row(samples.molecule),
        "seed": samples.seed,
        "model_hash": samples.model_hash,
        "length_unit": "nm",
    }
    arrays: dict[str, NDArray[Any]] = {"positions": samples.positions}
    for name in ("log_density", "log_weights"):
        values = getattr(samples, name)
        if values is not None:
            arrays[name] = values
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)
    replace_file(Path(path), buffer.getvalue())


def read_bg_samples(path: str | Path) -> BgSamples:
    """Read samples that :func:`write_bg_samples` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, something else, or of a newer version.
    """
    content = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(
            f"{path}: expected samples of a Boltzmann generator (.npz), got other data ({error})"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{path}: expected samples of a Boltzmann generator, got another .npz")
    if header.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: expected format_version {FORMAT_VERSION}, got {header.get('format_version')!r}; "
            "the file comes from another version of tito_fast"
        )
    try:
        return BgSamples(
            molecule=molecule_from_row(header["molecule"]),
            positions=arrays["positions"],
            log_density=arrays.get("log_density"),
            log_weights=arrays.get("log_weights"),
            seed=int(header["seed"]),
            model_hash=str(header["model_hash"]),
        )
    # A value that is missing or of a wrong type.
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def systematic_resample(
    log_weights: FloatArray, n_drawn: int, *, rng: np.random.Generator
) -> IntArray:
    """Return which samples are drawn, by weight, with as little noise as can be.

    A sample of normalized weight ``w`` is drawn ``n_drawn w`` times, rounded up or down, on average exactly so often.

    Parameters
    ----------
    log_weights : ndarray, shape (n_samples,), float64
        Up to a constant; equal ones draw evenly spread samples, none twice while there are enough.
    n_drawn : int
    rng : numpy.random.Generator
        One uniform number is taken from it.

    Returns
    -------
    ndarray, shape (n_drawn,), int64
        In rising order.

    Raises
    ------
    ValueError
        If there are no samples, or no weight is above zero and finite.

    References
    ----------
    .. [1] Kitagawa, Monte Carlo filter and smoother, J. Comput. Graph. Stat. 5 (1996), doi:10.2307/1390750.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.log([0.5, 0.25, 0.0625, 0.1875])
    >>> np.bincount(systematic_resample(weights, 16, rng=np.random.default_rng(0))).tolist()
    [8, 4, 1, 3]
    """
    values = np.asarray(log_weights, dtype=np.float64)
    largest = values.max() if values.ndim == 1 and values.size else -np.inf
    if not np.isfinite(largest) or np.isnan(values).any():
        raise ValueError(
            f"log_weights: expected shape (n_samples,) with a finite value, got shape {values.shape} "
            f"with the maximum {largest}"
        )
    ends = np.cumsum(np.exp(values - largest))
    places = (np.arange(n_drawn) + rng.random()) * (ends[-1] / max(n_drawn, 1))
    found = np.searchsorted(ends, places, side="right")
    # Rounding may put the last place at the very end.
    last = int(np.flatnonzero(np.diff(ends, prepend=0.0) > 0)[-1])
    return np.asarray(np.minimum(found, last), dtype=np.int64)
