"""Opening HDF5 sources with one clear sentence where they are not what they should be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tito_fast.data.convert.writer import Frames

_BLOCK_ROWS: Final = 1 << 18


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading.

    Raises
    ------
    ValueError
        If it is missing, truncated, or not HDF5.
    """
    import h5py  # noqa: PLC0415  slow to import

    if not path.is_file():
        raise ValueError(f"source: expected an HDF5 file, got {str(path)!r}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"source: expected a complete HDF5 file, got {path}: {error}") from error
    with file:
        yield file


def dataset(group: Any, name: str, *, path: Path) -> Any:  # noqa: ANN401  h5py has no types
    """Return the dataset ``name`` of ``group``; ``ValueError`` names what is missing."""
    import h5py  # noqa: PLC0415  slow to import

    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(  # noqa: TRY004  what a file holds is a value
            f"source: expected a dataset {group.name}/{name} in {path}, got none"
        )
    return found


def dataset_frames(positions: Any, *, times: Any = None) -> Iterator[Frames]:  # noqa: ANN401  h5py has no types
    """Yield the frames of a dataset (n_frames, n_atoms, 3) in nm, in blocks, with time stamps.

    Raises
    ------
    ValueError
        If the shapes are not of that form.
    """
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise ValueError(
            f"source: expected shape (n_frames, n_atoms, 3) in {positions.name}, "
            f"got {positions.shape}"
        )
    if times is not None and times.shape != positions.shape[:1]:
        raise ValueError(
            f"source: expected {positions.shape[0]} time stamps in {times.name}, got {times.shape}"
        )
    n_block = max(_BLOCK_ROWS // max(positions.shape[1], 1), 1)
    for start in range(0, positions.shape[0], n_block):
        stop = start + n_block
        yield Frames(
            positions=positions[start:stop],
            times_ps=None if times is None else times[start:stop],
        )
