"""A second thread that takes items from a short queue, so that writing does not hold up sampling."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar, cast

Item = TypeVar("Item")

DEFAULT_N_QUEUED: Final = 8
_STOP: Final = object()


class FrameSink(Generic[Item]):
    """Hands items, in order, to ``consume`` on a second thread.

    Memory stays bounded: :meth:`put` waits while ``n_queued`` items are waiting. After an error in
    ``consume`` later items are dropped, and :meth:`put`, :meth:`drain` and :meth:`close` raise that
    error.

    Parameters
    ----------
    consume : callable
        Called with each item, always on the same thread.
    n_queued : int
        Items that may wait.

    Examples
    --------
    >>> taken = []
    >>> with FrameSink(taken.append) as sink:
    ...     sink.put(1)
    ...     sink.put(2)
    >>> taken
    [1, 2]
    """

    def __init__(
        self, consume: Callable[[Item], None], *, n_queued: int = DEFAULT_N_QUEUED
    ) -> None:
        if n_queued < 1:
            raise ValueError(f"n_queued: expected at least 1, got {n_queued}")
        self._consume = consume
        self._queue: queue.Queue[Item | object] = queue.Queue(maxsize=n_queued)
        self._error: BaseException | None = None
        self._is_open = True
        # A daemon: an interpreter that dies of an error elsewhere does not wait for this thread.
        self._thread = threading.Thread(target=self._run, name="frame-sink", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue ``item``; wait while the queue is full.

        Raises
        ------
        ValueError
            If the sink is closed.
        Exception
            What ``consume`` raised for an earlier item.
        """
        if not self._is_open:
            raise ValueError("sink: expected an open one, got a closed one")
        self._raise_error()
        self._queue.put(item)

    def drain(self) -> None:
        """Wait until everything queued has been consumed; then the state can be recorded.

        Raises
        ------
        Exception
            What ``consume`` raised.
        """
        self._queue.join()
        self._raise_error()

    def close(self) -> None:
        """Consume what is queued and end the thread. A second call does nothing.

        Raises
        ------
        Exception
            What ``consume`` raised.
        """
        if self._is_open:
            self._is_open = False
            self._queue.put(_STOP)
            self._thread.join()
        self._raise_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as own:
            # The error that ended the block is the one to see; ours is told beside it.
            if error is None:
                raise
            if own is not error:
                error.add_note(f"and while writing: {own}")

    def _run(self) -> None:
        while (item := self._queue.get()) is not _STOP:
            try:
                if self._error is None:
                    self._consume(cast("Item", item))
            except BaseException as error:  # noqa: BLE001  raised again on the other thread
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
