"""Which run is compared with which reference."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tito_fast.analysis.sources import is_source


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run with its reference.

    Parameters
    ----------
    name : str
        Unique in a call; a sub-directory of the output has it.
    run, reference : tuple of Path
        One directory, or files; no reference is an empty one.
    topology : Path or None
    """

    name: str
    run: tuple[Path, ...]
    reference: tuple[Path, ...]
    topology: Path | None


def jobs_of(
    runs: Sequence[Path], *, reference: Sequence[Path], topology: Path | str | None
) -> list[Job]:
    """Return one job for each run, with its reference.

    A folder of several runs stands for its sub-folders; files are together one run. One reference serves
    all runs; of a folder of references each run takes the one of its name. Several reference folders are
    taken by name, otherwise in the order of the runs; several files are one reference.

    Raises
    ------
    ValueError
        If something does not exist, a folder holds no run, or a run has no reference.
    """
    if not runs:
        raise ValueError("run: expected at least one, got none")
    for path in runs:
        if not path.exists():
            raise ValueError(f"run: expected a run or a trajectory file, got no such file: {path}")
    for path in reference:
        if not path.exists():
            raise ValueError(f"reference: expected a trajectory, got no such file: {path}")
    file = None if topology is None else Path(topology)
    if file is not None and not file.is_file():
        raise ValueError(f"topology: expected a PDB file, got no such file: {file}")
    groups = _groups(runs)
    names = _unique_names(groups)
    found = [
        Job(name=name, run=group, reference=(), topology=file)
        for name, group in zip(names, groups, strict=True)
    ]
    if not reference:
        return found
    return [
        replace(job, reference=_reference_of(index, job, reference, n_runs=len(found)))
        for index, job in enumerate(found)
    ]


def _groups(runs: Sequence[Path]) -> list[tuple[Path, ...]]:
    files = tuple(path for path in runs if path.is_file())
    groups: list[tuple[Path, ...]] = [files] if files else []
    for path in runs:
        if path.is_file():
            continue
        if is_source(path):
            groups.append((path,))
            continue
        inside = [
            folder for folder in sorted(path.iterdir()) if folder.is_dir() and is_source(folder)
        ]
        if not inside:
            raise ValueError(
                "run: expected a directory of tito-fast sample, simulate or relax, a folder of such, or "
                f"trajectory files, got {path}"
            )
        groups += [(folder,) for folder in inside]
    return groups


def _unique_names(groups: Sequence[tuple[Path, ...]]) -> list[str]:
    names = [group[0].stem if group[0].is_file() else group[0].resolve().name for group in groups]
    counts = Counter(names)
    longer = [
        name if counts[name] == 1 else f"{group[0].resolve().parent.name}_{name}"
        for name, group in zip(names, groups, strict=True)
    ]
    seen: Counter[str] = Counter()
    unique = []
    for name in longer:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique


def _reference_of(
    index: int, job: Job, reference: Sequence[Path], *, n_runs: int
) -> tuple[Path, ...]:
    if all(path.is_file() for path in reference):
        return tuple(reference)
    label = job.run[0].stem if job.run[0].is_file() else job.run[0].resolve().name
    named = [path for path in reference if path.resolve().name == label and is_source(path)]
    named += [path / label for path in reference if not is_source(path) and (path / label).is_dir()]
    if len(named) == 1:
        return (named[0],)
    if len(named) > 1:
        raise ValueError(
            f"reference: expected one of the name {label!r}, got {', '.join(map(str, named))}"
        )
    if len(reference) == 1 and is_source(reference[0]):
        return (reference[0],)
    if len(reference) == n_runs and is_source(reference[index]):
        return (reference[index],)
    given = ", ".join(map(str, reference))
    raise ValueError(
        f"reference: expected a folder {label!r} as the run's in {given}, got none; name folders as the "
        "runs, or repeat --reference in the order of the runs"
    )
