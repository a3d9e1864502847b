"""Trajectory files that grow: whole frames are appended, a torn end is cut when a run resumes."""

from pathlib import Path

from tito_fast.data.molecule import Molecule
from tito_fast.data.writers.background import FrameSink
from tito_fast.data.writers.base import FORMATS, Frames, FrameWriter, TrajectoryFormat
from tito_fast.validation import check_choice

__all__ = [
    "FORMATS",
    "FrameSink",
    "FrameWriter",
    "Frames",
    "TrajectoryFormat",
    "open_writer",
    "read_frames",
]


def open_writer(
    path: Path | str,
    *,
    format: TrajectoryFormat,  # noqa: A002  the word of the command line
    molecule: Molecule,
    token: int | None = None,
) -> FrameWriter:
    """Open a trajectory file to append frames to.

    Parameters
    ----------
    path : path
        The file; its folder must exist.
    format : "xtc" | "dcd" | "h5"
    molecule : Molecule
        What the frames are of; ``h5`` stores its topology.
    token : int, optional
        What :meth:`FrameWriter.flush` returned when the run's state was last recorded: all that was
        written later is cut off. 0 starts the file again. None: a new file, which must not exist.

    Returns
    -------
    FrameWriter
        Holds no open file between writes, so thousands may be open at once.

    Raises
    ------
    FileExistsError
        If ``token`` is None and the file exists.
    ValueError
        If the file is shorter than ``token`` says, or is not a trajectory of this molecule.
    OSError
        If the file cannot be written.
    """
    check_choice("format", format, FORMATS)
    if format == "xtc":
        from tito_fast.data.writers.xtc import XtcWriter  # noqa: PLC0415  imports mdtraj

        return XtcWriter(Path(path), molecule=molecule, token=token)
    if format == "dcd":
        from tito_fast.data.writers.dcd import DcdWriter  # noqa: PLC0415  imported where used

        return DcdWriter(Path(path), molecule=molecule, token=token)
    from tito_fast.data.writers.hdf5 import Hdf5Writer  # noqa: PLC0415  imports h5py

    return Hdf5Writer(Path(path), molecule=molecule, token=token)


def read_frames(path: Path | str) -> Frames:
    """Return all frames of a file that a writer of this package wrote; its suffix tells the format.

    A DCD file holds one interval only, so its times are multiples of that.

    Raises
    ------
    ValueError
        If the suffix is none of the formats.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.removeprefix(".")
    check_choice("path suffix", suffix, FORMATS)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a trajectory file, got none there")
    if suffix == "xtc":
        from tito_fast.data.writers.xtc import read_xtc  # noqa: PLC0415  imports mdtraj

        return read_xtc(path)
    if suffix == "dcd":
        from tito_fast.data.writers.dcd import read_dcd  # noqa: PLC0415  imported where used

        return read_dcd(path)
    from tito_fast.data.writers.hdf5 import read_hdf5  # noqa: PLC0415  imports h5py

    return read_hdf5(path)
