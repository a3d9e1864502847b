"""Bytes on disk: all of them appended or none, a file replaced whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Final

PART_SUFFIX: Final = ".part"
"""Of the file beside another that is to replace it."""


class AppendFile:
    """A file whose good part has a known length; whatever follows it is cut off.

    Parameters
    ----------
    path : Path
    token : int or None
        Length of the good part in bytes. None: a new file, which must not exist.

    Raises
    ------
    FileExistsError
        If ``token`` is None and the file exists.
    ValueError
        If the file is shorter than ``token``.
    """

    def __init__(self, path: Path, *, token: int | None) -> None:
        self.path = path
        if token is None or (token == 0 and not path.exists()):
            create_empty(path)
            token = 0
        check_token(token)
        size = path.stat().st_size if path.is_file() else 0
        if size < token:
            raise ValueError(
                f"{path}: expected the {token} bytes that the run recorded, got {size}; it was changed "
                "from outside: put it back, or start again with --overwrite"
            )
        if size > token:
            os.truncate(path, token)
        self.size = token

    def append(self, data: bytes, *, sync: bool) -> None:
        """Write ``data`` at the end.

        Raises
        ------
        OSError
            If it cannot be written whole; the file is then as before.
        """
        try:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(self.size)
                write_all(file.fileno(), data)
                if sync:
                    os.fsync(file.fileno())
        except BaseException as error:
            self._cut()
            if isinstance(error, OSError):
                raise disk_error(error, self.path) from error
            raise
        self.size += len(data)

    def patch(self, data: bytes, *, offset: int) -> None:
        """Overwrite bytes inside the good part."""
        try:
            with self.path.open("r+b", buffering=0) as file:
                file.seek(offset)
                write_all(file.fileno(), data)
        except OSError as error:
            raise disk_error(error, self.path) from error

    def tail(self, n_bytes: int) -> bytes:
        """Return the last ``n_bytes`` of the good part, or all of it."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.size - n_bytes))
            return file.read(self.size)

    def _cut(self) -> None:
        if self.path.is_file() and self.path.stat().st_size > self.size:
            os.truncate(self.path, self.size)


def replace_file(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all, through a file beside it.

    Raises
    ------
    OSError
        If it cannot be written; what was there stays.
    """
    part = path.with_name(path.name + PART_SUFFIX)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def create_empty(path: Path) -> None:
    """Create ``path``; raise ``FileExistsError`` if it exists, never overwrite."""
    try:
        path.open("xb").close()
    except FileExistsError:
        raise FileExistsError(
            f"{path}: expected no file of this name, got one; choose another output folder"
        ) from None
    except OSError as error:
        raise disk_error(error, path) from error


def check_token(token: int) -> None:
    """Raise ``ValueError`` unless ``token`` can be one."""
    if token < 0:
        raise ValueError(f"token: expected at least 0, got {token}")


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """Write all of ``data``: one ``write`` may take only a part of it, as on a disk almost full."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def disk_error(error: OSError, path: Path) -> OSError:
    """Return ``error`` as one sentence that names the file and says what to do."""
    reason = os.strerror(error.errno) if error.errno is not None else str(error)
    advice = {
        errno.ENOSPC: "free some space and run the same command again",
        errno.EDQUOT: "free some of your quota and run the same command again",
        errno.EFBIG: "raise the limit on file sizes and run the same command again",
    }.get(error.errno or 0, "mend that and run the same command again")
    clear = OSError(
        f"{path}: expected to write, got {reason!r}; what was written is kept: {advice}"
    )
    clear.errno = error.errno
    return clear
