"""Changes to a file that are gathered in memory and then made all or not at all.

An HDF5 file that is being changed is unreadable if the process dies, for the library overwrites its
tables in place. Here the library writes into memory. Committing saves the bytes about to be
overwritten to a journal beside the file, then changes the file, then removes the journal. A journal
found later is of a commit that was cut short: its bytes are put back.
"""

import os
import struct
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tito_fast.data.writers.disk import disk_error, write_all

_PAGE: Final = 4096
_DIGEST_BYTES: Final = 16


class OverlayFile:
    """A file object over ``path`` whose writes stay in memory until :meth:`commit`.

    Parameters
    ----------
    path : Path
        Made by the commit where it does not exist. A commit cut short before is undone first.
    """

    def __init__(self, path: Path) -> None:
        undo_cut_commit(path)
        self._path = path
        self._old_size = path.stat().st_size if path.is_file() else 0
        self._size = self._old_size
        self._position = 0
        self._pages: dict[int, bytearray] = {}
        self._dirty: set[int] = set()
        self._source = path.open("rb") if path.is_file() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` from the start, the position or the end; return the new position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, n_bytes: int = -1) -> bytes:
        """Return ``n_bytes`` from the position on, or all that is left."""
        left = max(0, self._size - self._position)
        buffer = bytearray(left if n_bytes < 0 else min(n_bytes, left))
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` from the position on; return the number of bytes."""
        target = memoryview(buffer).cast("B")
        n_bytes = max(0, min(len(target), self._size - self._position))
        done = 0
        while done < n_bytes:
            number, start = divmod(self._position + done, _PAGE)
            n_here = min(_PAGE - start, n_bytes - done)
            target[done : done + n_here] = self._page(number)[start : start + n_here]
            done += n_here
        self._position += n_bytes
        return n_bytes

    def write(self, data: memoryview) -> int:
        """Put ``data`` at the position, in memory; return the number of bytes."""
        source = memoryview(data).cast("B")
        done = 0
        while done < len(source):
            number, start = divmod(self._position + done, _PAGE)
            n_here = min(_PAGE - start, len(source) - done)
            self._page(number)[start : start + n_here] = source[done : done + n_here]
            self._dirty.add(number)
            done += n_here
        self._position += done
        self._size = max(self._size, self._position)
        return done

    def truncate(self, size: int | None = None) -> int:
        """Set the size, the position by default; bytes that this adds are zero."""
        size = self._position if size is None else size
        for number in range(size // _PAGE, -(-self._size // _PAGE)):
            start = max(0, size - number * _PAGE)
            self._page(number)[start:] = bytes(_PAGE - start)
            self._dirty.add(number)
        self._size = size
        return size

    def flush(self) -> None:
        """Do nothing: only :meth:`commit` writes."""

    def commit(self, *, sync: bool) -> None:
        """Make the changes to the file on disk: all of them or none.

        Raises
        ------
        OSError
            If the disk is full; the file is then as before.
        """
        journal = journal_path(self._path)
        try:
            self._save_overwritten(journal, sync=sync)
            with self._path.open("ab", buffering=0):
                pass  # made where it does not exist
            with self._path.open("r+b", buffering=0) as file:
                # The new end first: only this needs space. What is overwritten has its place.
                for is_end in (True, False):
                    self._write_pages(file.fileno(), is_end=is_end)
                if self._size < self._old_size:
                    file.truncate(self._size)
                if sync:
                    os.fsync(file.fileno())
        except BaseException as error:
            self.close()
            undo_cut_commit(self._path)
            if isinstance(error, OSError):
                raise disk_error(error, self._path) from error
            raise
        journal.unlink()
        self.close()

    def close(self) -> None:
        """Forget the changes that were not committed."""
        if self._source is not None:
            self._source.close()
        self._pages.clear()

    def _page(self, number: int) -> bytearray:
        page = self._pages.get(number)
        if page is None:
            page = bytearray(_PAGE)
            if self._source is not None and number * _PAGE < self._old_size:
                self._source.seek(number * _PAGE)
                content = self._source.read(_PAGE)
                page[: len(content)] = content
            self._pages[number] = page
        return page

    def _write_pages(self, descriptor: int, *, is_end: bool) -> None:
        for number in sorted(self._dirty):
            begin, end = number * _PAGE, min((number + 1) * _PAGE, self._size)
            border = min(max(begin, self._old_size), max(begin, end))
            low, high = (border, end) if is_end else (begin, border)
            if low < high:
                os.lseek(descriptor, low, os.SEEK_SET)
                write_all(descriptor, self._pages[number][low - begin : high - begin])

    def _save_overwritten(self, journal: Path, *, sync: bool) -> None:
        starts = {number * _PAGE for number in self._dirty if number * _PAGE < self._old_size}
        starts |= set(range(self._size // _PAGE * _PAGE, self._old_size, _PAGE))
        pieces = [struct.pack("<2q", self._old_size, len(starts))]
        for start in sorted(starts):
            content = b""
            if self._source is not None:
                self._source.seek(start)
                content = self._source.read(min(_PAGE, self._old_size - start))
            pieces += [struct.pack("<2q", start, len(content)), content]
        body = b"".join(pieces)
        with journal.open("wb", buffering=0) as file:
            write_all(file.fileno(), blake2b(body, digest_size=_DIGEST_BYTES).digest() + body)
            if sync:
                os.fsync(file.fileno())


def undo_cut_commit(path: Path) -> None:
    """Put ``path`` back as it was before a commit that was cut short; do nothing if none was."""
    journal = journal_path(path)
    if not journal.is_file():
        return
    content = journal.read_bytes()
    digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    # A torn journal was being written when the process died: the file itself was not yet touched.
    if path.is_file() and digest == blake2b(body, digest_size=_DIGEST_BYTES).digest():
        old_size, n_pieces = struct.unpack_from("<2q", body)
        position = 16
        with path.open("r+b", buffering=0) as file:
            for _ in range(n_pieces):
                start, n_bytes = struct.unpack_from("<2q", body, position)
                position += 16
                file.seek(start)
                write_all(file.fileno(), body[position : position + n_bytes])
                position += n_bytes
            file.truncate(old_size)
            os.fsync(file.fileno())
    journal.unlink()


def journal_path(path: Path) -> Path:
    """Return where the journal of ``path`` lies while a commit is under way."""
    return path.with_name(path.name + ".journal")
