"""What to simulate and to relax, checked as a whole."""

from dataclasses import dataclass
from pathlib import Path

from tito_fast.md.presets import Preset, preset_of
from tito_fast.validation import check_at_least, check_positive


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """What to simulate.

    Parameters
    ----------
    time_ps : float
        Of each replica, after its equilibration.
    save_every_ps : float
        Time between frames; a trajectory has one frame more than ``time_ps / save_every_ps``.
    preset : Preset or str
    n_replicas : int
        Independent trajectories from one start structure.
    seed : int
        All velocities and noise follow from it, the molecule and the replica.
    platform : str
        OpenMM's name; ``auto``: the faster of Reference and CPU, by a short measurement.
    n_jobs : int or None
        Replicas simulated at once, in a process of one thread each; None: one for every core.
    init_from : path or None
        Samples that replicas start from, each from its own (:mod:`tito_fast.md.starts`); None: all from the
        minimum near the molecule's structure.
    n_minimization_steps : int
        Of the minimizer on each of these samples; 0 for none. Without ``init_from`` it has no meaning.
    """

    time_ps: float
    save_every_ps: float
    preset: Preset | str = "fast"
    n_replicas: int = 1
    seed: int = 0
    platform: str = "auto"
    n_jobs: int | None = None
    init_from: Path | str | None = None
    n_minimization_steps: int = 50

    def __post_init__(self) -> None:
        """Check ranges, and that frames fall on steps."""
        if isinstance(self.preset, str):
            object.__setattr__(self, "preset", preset_of(self.preset))
        check_positive("time", self.time_ps, unit="ps")
        check_positive("save_every", self.save_every_ps, unit="ps")
        check_at_least("replicas", self.n_replicas, 1)
        check_at_least("minimize", self.n_minimization_steps, 0)
        if self.n_jobs is not None:
            check_at_least("jobs", self.n_jobs, 1)
        if self.time_ps < self.save_every_ps:
            raise ValueError(
                f"time: expected at least save_every, {self.save_every_ps:g} ps, got {self.time_ps:g} ps"
            )
        ratio = self.time_ps / self.save_every_ps
        if abs(ratio - round(ratio)) > 1e-9 * ratio:
            raise ValueError(
                f"time: expected a multiple of save_every, {self.save_every_ps:g} ps, got {self.time_ps:g} ps"
            )
        self.resolved_preset.n_steps(self.save_every_ps, name="save_every")
        equilibration_ps = self.resolved_preset.equilibration_ps
        self.resolved_preset.n_steps(equilibration_ps, name="equilibration")

    @property
    def resolved_preset(self) -> Preset:
        """The preset, also where its name was given."""
        if isinstance(self.preset, str):  # pragma: no cover - replaced when it was checked
            return preset_of(self.preset)
        return self.preset

    @property
    def n_frames(self) -> int:
        """Frames after the first."""
        return round(self.time_ps / self.save_every_ps)

    @property
    def steps_per_frame(self) -> int:
        """Integration steps between frames."""
        return self.resolved_preset.n_steps(self.save_every_ps, name="save_every")


@dataclass(frozen=True, kw_only=True)
class RelaxConfig:
    """How to relax samples.

    Parameters
    ----------
    time_ps : float
        Simulated from each sample.
    preset : Preset or str
        Its equilibration does not count here.
    system : path or None
        A ``system.xml`` to take instead of the preset's force field; the preset then says how it is
        integrated.
    every : int
        Take every ``every``-th frame of a trajectory, from the first.
    n_minimization_steps : int
        Of the minimizer before the dynamics; 0 for none.
    seed : int
        All velocities and noise follow from it, the molecule, the replica and the frame.
    platform : str
        OpenMM's name; ``auto``: the faster of Reference and CPU, by a short measurement.
    n_jobs : int or None
        Processes, each with one thread; None: one for every core.
    """

    time_ps: float
    preset: Preset | str = "fast"
    system: Path | str | None = None
    every: int = 1
    n_minimization_steps: int = 50
    seed: int = 0
    platform: str = "auto"
    n_jobs: int | None = None

    def __post_init__(self) -> None:
        """Check ranges, and that the time is a multiple of the step."""
        if isinstance(self.preset, str):
            object.__setattr__(self, "preset", preset_of(self.preset))
        check_positive("time", self.time_ps, unit="ps")
        check_at_least("every", self.every, 1)
        check_at_least("minimize", self.n_minimization_steps, 0)
        if self.n_jobs is not None:
            check_at_least("jobs", self.n_jobs, 1)
        self.resolved_preset.n_steps(self.time_ps, name="time")

    @property
    def resolved_preset(self) -> Preset:
        """The preset, also where its name was given."""
        if isinstance(self.preset, str):  # pragma: no cover - replaced when it was checked
            return preset_of(self.preset)
        return self.preset
