"""Positions on their way from the device to the host."""

from collections.abc import Iterator

import torch
from torch import Tensor

_N_BUFFERS = 2


def host_frames(steps: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield each of ``steps`` on the host, one step late where that hides the copy.

    Parameters
    ----------
    steps
        Tensors of one shape, each new. On CUDA a tensor is copied through pinned memory while the next one is
        computed, so that the device never waits for the host's work on a frame; two buffers take turns.

    Yields
    ------
    Tensor
        On the CPU, one that is not written again.
    """
    copies: list[_PinnedCopy] = []
    waiting: _PinnedCopy | None = None
    for index, scaled in enumerate(steps):
        if scaled.device.type != "cuda":
            yield scaled
            continue
        if len(copies) <= index % _N_BUFFERS:
            copies.append(_PinnedCopy(scaled))
        copy = copies[index % _N_BUFFERS]
        copy.start(scaled)
        if waiting is not None:
            yield waiting.finish()
        waiting = copy
    if waiting is not None:
        yield waiting.finish()


class _PinnedCopy:
    """One buffer of pinned memory, and the stream that fills it."""

    def __init__(self, like: Tensor) -> None:
        self._host = torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
        self._stream = torch.cuda.Stream(like.device)  # type: ignore[no-untyped-call]
        self._is_done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def start(self, scaled: Tensor) -> None:
        """Copy when all that the current stream has to do so far is done."""
        self._stream.wait_stream(torch.cuda.current_stream(scaled.device))
        with torch.cuda.stream(self._stream):
            self._host.copy_(scaled, non_blocking=True)
            self._is_done.record()
        # Its memory is not given to another tensor before the copy has read it.
        scaled.record_stream(self._stream)

    def finish(self) -> Tensor:
        """Wait for the copy and return it."""
        self._is_done.synchronize()
        return self._host.clone()
