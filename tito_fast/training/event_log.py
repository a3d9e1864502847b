"""The log of a run as TensorBoard events. Needs the extra ``[train]``."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tito_fast.training.run_files import LogRow


def check_tensorboard() -> None:
    """Raise ``ImportError`` unless tensorboard is installed; the message names the extra."""
    if find_spec("tensorboard") is None:
        raise ImportError(
            "tensorboard: it is not installed; install tito_fast[train], or set tensorboard: false"
        )


class EventLog:
    """Writes what ``log.csv`` holds for TensorBoard.

    Parameters
    ----------
    path : Path
        Directory of the run.
    first_step : int
        Events of this step and later ones, from a run that was killed, are dropped.
    """

    def __init__(self, path: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  optional

        self._writer: Any = SummaryWriter(str(path), purge_step=first_step)

    def log(self, row: LogRow) -> None:
        """Write the values of a line that are there."""
        for name, value in row._asdict().items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, row.step)

    def close(self) -> None:
        """Write what is still held."""
        self._writer.close()
