"""Ctrl-C and SIGTERM in a training run: noticed between steps, so that the state is always whole."""

import signal
import threading
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether the user or the scheduler asked to stop. A second Ctrl-C stops at once.

    Use it as a context manager. Outside the main thread Python delivers no signals, and nothing is
    changed there.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  signal passes both
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True
