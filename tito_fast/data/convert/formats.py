"""Telling which of the known layouts a source has."""

from pathlib import Path
from typing import Final, Literal, get_args

from tito_fast.data.convert.mdtraj_files import (
    TOPOLOGY_FILE,
    has_run_directories,
    is_run_directory,
)
from tito_fast.data.convert.timewarp import ARRAYS_SUFFIX

SourceFormat = Literal["mdtraj", "mdqm9", "timewarp", "timewarp-h5"]
SOURCE_FORMATS: Final[tuple[SourceFormat, ...]] = get_args(SourceFormat)


def detect_format(source: Path | str) -> SourceFormat:
    """Return the format of ``source`` from the names in it; nothing is opened.

    Raises
    ------
    ValueError
        If nothing is there or no layout fits.
    """
    source = Path(source)
    if source.is_file():
        return "timewarp-h5" if source.suffix.lower() in {".h5", ".hdf5"} else "mdtraj"
    if not source.is_dir():
        raise ValueError(f"source: expected a file or directory, got {str(source)!r}")
    if is_run_directory(source) or has_run_directories(source):
        return "mdtraj"
    if any(source.glob(f"*{ARRAYS_SUFFIX}")) or any(source.glob(f"*/*{ARRAYS_SUFFIX}")):
        return "timewarp"
    if any(source.glob("*.sdf")) and (any(source.glob("*.hdf5")) or any(source.glob("*.h5"))):
        return "mdqm9"
    if any(source.glob(f"*/*/{TOPOLOGY_FILE}")):
        return "mdtraj"
    raise ValueError(
        f"source: expected <split>/<name>/{TOPOLOGY_FILE}, a run, an .hdf5 with an .sdf, or "
        f"*{ARRAYS_SUFFIX} in {str(source)!r}, got none of them; name the format"
    )
