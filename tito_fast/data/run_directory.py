"""The directory of one molecule's trajectories: what is in it, who may change it, how it is taken up again.

``topology.pdb``, ``rep_0000.xtc`` and so on, ``log.csv``, ``run.json`` (what was run), ``validity.json``,
and what each kind of run needs to go on.
"""

import csv
import fcntl
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, Self, cast

import numpy as np

from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.data.store import molecule_from_row, molecule_row
from tito_fast.data.writers import FORMATS, FrameWriter, TrajectoryFormat, open_writer
from tito_fast.data.writers.disk import PART_SUFFIX, disk_error, replace_file
from tito_fast.validation import check_at_least, check_choice

RunStatus = Literal["running", "finished", "interrupted", "failed"]

_FORMAT_VERSION = 1
RUN_FILE: Final = "run.json"
"""Says what the directory holds."""

_LOG = "log.csv"
_VALIDITY, _TOPOLOGY, _LOCK = "validity.json", "topology.pdb", ".lock"
ADVICE: Final = "pass --overwrite to start again, or choose another --out"


class RunDirectory:
    """A run on disk, held by one process at a time. Made by :meth:`open`.

    Attributes
    ----------
    path : Path
    molecule : Molecule
    settings : dict
        Those that were given, as JSON keeps them.
    n_steps, n_replicas : int
        What was asked for now; the directory may hold more.
    """

    KIND: ClassVar[str] = "rollout"
    """What made the trajectories; ``run.json`` says it."""

    CHANGEABLE_SETTINGS: ClassVar[frozenset[str]] = frozenset()
    """Settings that change no trajectory, so that a run may go on with others."""

    EARLIER_SETTINGS: ClassVar[Mapping[str, Any]] = {}
    """Settings that earlier versions do not record, with the value that one has where it is left out."""

    RECORDS_TIMES: ClassVar[bool] = True
    """Whether ``run.json`` lists the time of every frame; not where there may be millions."""

    OWN_FILES: ClassVar[tuple[str, ...]] = ()
    """Patterns of further files that a run of this kind writes; ``overwrite`` removes them."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("tito_fast", "torch", "numpy")
    """Those whose versions are recorded."""

    def __init__(self, path: Path, *, molecule: Molecule, settings: dict[str, Any]) -> None:
        self.path = path
        self.molecule = molecule
        self.settings = settings
        self.n_steps = self.n_replicas = 0
        self._record: dict[str, Any] = {}
        self._lock: int | None = None

    @classmethod
    def open(
        cls,
        path: Path | str,
        settings: Mapping[str, Any],
        *,
        molecule: Molecule,
        n_steps: int,
        n_replicas: int,
        overwrite: bool = False,
    ) -> Self:
        """Create the run, or take up the one that is there, and hold it until :meth:`close`.

        Parameters
        ----------
        path : path
        settings : mapping
            All that the trajectories follow from, as JSON keeps it; ``lag_times_ps`` (list of float) and
            ``format`` are needed. Those in ``CHANGEABLE_SETTINGS`` may differ from the first run's. The
            molecule with its start structure is added here.
        molecule : Molecule
        n_steps, n_replicas : int
            A run is extended by larger ones; nothing is removed for smaller ones.
        overwrite : bool
            Remove the run that is there, whatever its settings. Files of others stay.

        Raises
        ------
        ValueError
            If another setting differs from the run's, or the directory holds something else.
        RuntimeError
            If another process holds the run.
        OSError
            If the directory cannot be written.
        """
        path = Path(path)
        check_at_least("n_steps", n_steps, 1)
        check_at_least("replicas", n_replicas, 1)
        _check_settings(settings)
        normal = json.loads(json.dumps({**settings, "molecule": molecule_fingerprint(molecule)}))
        run = cls(path, molecule=molecule, settings=normal)
        run.n_steps, run.n_replicas = n_steps, n_replicas
        check_out(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error
        run._hold()
        try:
            run._take_up(overwrite=overwrite)
        except BaseException:
            run.close()
            raise
        return run

    def close(self) -> None:
        """Let other processes have the run. A second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def trajectory_path(self, replica: int) -> Path:
        """Return the file of ``replica``."""
        return self.path / f"rep_{replica:04d}.{self.settings['format']}"

    def open_writer(self, replica: int, *, token: int) -> FrameWriter:
        """Return the writer of ``replica``, whose file is cut to what ``token`` says.

        Parameters
        ----------
        replica : int
        token : int
            From the state; 0 for a replica that no state was recorded of: its file starts again.
        """
        return open_writer(
            self.trajectory_path(replica),
            format=cast("TrajectoryFormat", self.settings["format"]),
            molecule=self.molecule,
            token=token,
        )

    def save_validity(self, validity: Mapping[str, Any]) -> None:
        """Write ``validity.json``, whole or not at all."""
        replace_file(self.path / _VALIDITY, json_bytes(validity))

    def set_status(self, status: RunStatus) -> None:
        """Record how the run stands; one that is killed stays ``running``."""
        self._record["status"] = status
        self._record["history"][-1]["ended"] = _now()
        replace_file(self.path / RUN_FILE, json_bytes(self._record))

    def append_log(self, row: Mapping[str, object]) -> None:
        """Add a line to ``log.csv``; the first one fixes the columns.

        Raises
        ------
        ValueError
            If the columns are others than those of the file.
        """
        path = self.path / _LOG
        columns = list(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
        header = _header_of(path)
        if header is None:
            writer.writeheader()
        elif header != columns:
            raise ValueError(f"log: expected columns {', '.join(header)}, got {', '.join(columns)}")
        writer.writerow(row)
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise disk_error(error, path) from error

    def _hold(self) -> None:
        try:
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise disk_error(error, self.path / _LOCK) from error
        try:
            # The system lets go of it when the process ends, in whatever way.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise RuntimeError(
                f"out: expected {self.path} to be free, got one that another process is writing; "
                "wait for it, or choose another --out"
            ) from None
        self._lock = lock

    def _take_up(self, *, overwrite: bool) -> None:
        if overwrite:
            self._check_kind(_kind_of(self.path, default=self.KIND))
            self._remove_run()
        if (self.path / RUN_FILE).is_file():
            self._record = read_run(self.path)
            self._check_kind(self._record.get("kind", RunDirectory.KIND))
            self._check_unchanged(self._record["settings"])
        else:
            self._record = {
                "format_version": _FORMAT_VERSION,
                "kind": self.KIND,
                "molecule": molecule_row(self.molecule),
                "history": [],
                "n_steps": 0,
                "n_replicas": 0,
            }
        record = self._record
        record["settings"] = self.settings
        record["status"] = "running"
        record["n_steps"] = max(record["n_steps"], self.n_steps)
        record["n_replicas"] = max(record["n_replicas"], self.n_replicas)
        if self.RECORDS_TIMES:
            times_ps = cumulative_times_ps(self.settings["lag_times_ps"], record["n_steps"])
            record["times_ps"] = times_ps.tolist()
        record["history"].append(
            {
                "started": _now(),
                "n_steps": self.n_steps,
                "n_replicas": self.n_replicas,
                "versions": _versions(self.PACKAGES),
                **{k: v for k, v in self.settings.items() if k in self.CHANGEABLE_SETTINGS},
            }
        )
        replace_file(self.path / RUN_FILE, json_bytes(record))
        _cut_torn_line(self.path / _LOG)
        if not (self.path / _TOPOLOGY).is_file():
            from tito_fast.data.topology import write_pdb  # noqa: PLC0415  imports mdtraj

            write_pdb(self.molecule, self.path / _TOPOLOGY)

    def _check_kind(self, kind: str) -> None:
        if kind != self.KIND:
            raise ValueError(
                f"out: expected a {self.KIND} in {self.path}, got a {kind}; choose another --out"
            )

    def _remove_run(self) -> None:
        """Remove what a run wrote and nothing else; ``run.json`` last, so that a cut removal can go on."""
        names = [_VALIDITY, _LOG, _TOPOLOGY, *self.OWN_FILES]
        patterns = [pattern for name in names for pattern in (name, name + PART_SUFFIX)]
        for suffix in FORMATS:
            patterns += [f"rep_*.{suffix}", f"rep_*.{suffix}.journal"]
        files = [file for pattern in patterns for file in self.path.glob(pattern)]
        for file in [*files, self.path / (RUN_FILE + PART_SUFFIX), self.path / RUN_FILE]:
            file.unlink(missing_ok=True)

    def _check_unchanged(self, recorded: dict[str, Any]) -> None:
        recorded = {**self.EARLIER_SETTINGS, **recorded}
        given = {**self.EARLIER_SETTINGS, **self.settings}
        names = sorted((set(recorded) | set(given)) - self.CHANGEABLE_SETTINGS)
        changed = [
            f"{name}: expected {recorded.get(name)!r} as in {self.path / RUN_FILE}, got "
            f"{given.get(name)!r}"
            for name in names
            if recorded.get(name) != given.get(name)
        ]
        if changed:
            raise ValueError("; ".join([*changed, ADVICE]))


def read_run(path: Path | str) -> dict[str, Any]:
    """Return what ``run.json`` of the run in ``path`` says.

    Raises
    ------
    ValueError
        If there is none, or it is not one of a run.
    """
    file = Path(path) / RUN_FILE
    if not file.is_file():
        raise ValueError(f"run: expected a directory with {RUN_FILE}, got {str(path)!r}")
    try:
        record = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: expected JSON, got other text; {ADVICE}") from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if version != _FORMAT_VERSION or not isinstance(record.get("settings"), dict):
        raise ValueError(
            f"{file}: expected a run of format_version {_FORMAT_VERSION}, got {version!r}; {ADVICE}"
        )
    return cast("dict[str, Any]", record)


def molecule_of_run(path: Path | str) -> Molecule:
    """Return the molecule of the run in ``path``, with its bond orders and start structure."""
    return molecule_from_row(read_run(path)["molecule"])


def trajectory_files(path: Path | str) -> list[Path]:
    """Return the trajectory files of the run in ``path``, by replica."""
    suffix = read_run(path)["settings"]["format"]
    # By number: past rep_9999 names no longer sort as numbers do.
    return sorted(Path(path).glob(f"rep_*.{suffix}"), key=lambda file: int(file.stem[4:]))


def run_times_ps(path: Path | str) -> FloatArray:
    """Return the exact times of the frames of the run in ``path``, (n_steps + 1,), float64."""
    record = read_run(path)
    return cumulative_times_ps(record["settings"]["lag_times_ps"], int(record["n_steps"]))


def _kind_of(path: Path, *, default: str) -> str:
    """Return the kind of the run in ``path``; ``default`` where nothing says it."""
    try:
        return str(read_run(path).get("kind", RunDirectory.KIND))
    except ValueError:
        return default


def cumulative_times_ps(lag_times_ps: Sequence[float], n_steps: int) -> FloatArray:
    """Return the times of frames 0 to ``n_steps``: sums of lags, which are cycled over the steps.

    Returns
    -------
    ndarray, shape (n_steps + 1,), float64
        From whole cycles, not added up one by one, so that no error grows.

    Examples
    --------
    >>> cumulative_times_ps([1000.0, 10.0], 3)
    array([   0., 1000., 1010., 2010.])
    """
    within = np.concatenate([[0.0], np.cumsum(np.asarray(lag_times_ps, dtype=np.float64))])
    n_cycles, rest = np.divmod(np.arange(n_steps + 1), len(lag_times_ps))
    return np.asarray(n_cycles * within[-1] + within[rest], dtype=np.float64)


def molecule_fingerprint(molecule: Molecule) -> str:
    """Return name and hash of a molecule: elements, bonds, name and start structure."""
    digest = blake2b(molecule.noise_hash.to_bytes(8, "little"), digest_size=8)
    digest.update(np.ascontiguousarray(molecule.positions, dtype="<f8").tobytes())
    return f"{molecule.name} {digest.hexdigest()}"


def check_out(path: Path) -> None:
    """Raise ``ValueError`` if ``path`` is a file, or a directory with content that is not a run."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"out: expected a directory, got the file {path}")
    if not path.is_dir() or (path / RUN_FILE).is_file():
        return
    # A run that was killed at its very start has left no more than these.
    foreign = sorted(
        entry.name for entry in path.iterdir() if entry.name not in {_LOCK, RUN_FILE + PART_SUFFIX}
    )
    if foreign:
        raise ValueError(
            f"out: expected an empty directory or a run with {RUN_FILE}, got {path} with {foreign[0]}; "
            "choose another --out"
        )


def run_paths(out: Path, molecules: Sequence[Molecule]) -> list[Path]:
    """Return the directory of each molecule: ``out``, or one of its name below for several.

    Raises
    ------
    ValueError
        If two have one name.
    """
    if len(molecules) == 1:
        return [out]
    names = [folder_name(molecule.name) for molecule in molecules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"input: expected molecules of different names, got {twice[0]!r} twice")
    return [out / name for name in names]


def folder_name(name: str) -> str:
    """Return a molecule's name with the characters that a path cannot hold replaced.

    Examples
    --------
    >>> folder_name("C/C=C/C")
    'C_C=C_C'
    """
    return "".join(c if c.isalnum() or c in "-_.=#@+()[]" else "_" for c in name)


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return the content of a JSON file; NaN and infinity are refused."""
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in ("lag_times_ps", "format"):
        if name not in settings:
            raise ValueError(f"settings: expected {name} among them, got {', '.join(settings)}")
    if not settings["lag_times_ps"]:
        raise ValueError("lag_times_ps: expected at least one lag, got none")
    check_choice("format", settings["format"], FORMATS)
    try:
        json.dumps(dict(settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"settings: expected values that JSON keeps, got others: {error}"
        ) from error


def _header_of(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), None)


def _cut_torn_line(path: Path) -> None:
    """Cut a last line that a killed process did not finish."""
    if path.is_file():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return {**found, "python": platform.python_version()}
