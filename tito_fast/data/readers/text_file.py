"""Reads a text file, or says in one sentence why it is not one."""

import os
from pathlib import Path


def read_text(path: str | os.PathLike[str], *, expected: str) -> str:
    """Return the text of the file at ``path``.

    Parameters
    ----------
    path : path
    expected : str
        What the file should be, for the error message: ``a PDB file``.

    Raises
    ------
    FileNotFoundError
        If there is no file at ``path``.
    ValueError
        If it is a folder, empty, or not text.
    """
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"path: expected {expected}, got the folder {str(file)!r}")
    if not file.exists():
        raise FileNotFoundError(f"path: expected {expected}, got {str(file)!r}: no such file")
    content = file.read_bytes()
    if not content.strip():
        raise ValueError(f"path: expected {expected}, got {str(file)!r}, which is empty")
    if content.startswith(b"%PDF"):
        raise ValueError(f"path: expected {expected}, got {str(file)!r}, which is a PDF document")
    if b"\0" in content or content.startswith(b"\x1f\x8b"):
        raise ValueError(
            f"path: expected {expected}, got {str(file)!r}, which is a binary or compressed file"
        )
    # Titles and remarks may hold any 8-bit character; atom records are ASCII.
    return content.decode("latin-1")
