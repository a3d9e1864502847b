"""Presets: everything that a simulation follows from, under one name."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from tito_fast.validation import check_choice, check_positive

FORCE_FIELDS: Final = ("amber14-all", "gaff2")
SOLVENTS: Final = ("obc2-native", "obc1", "vacuum")
CONSTRAINTS: Final = ("none", "HBonds")

# What OpenMM's force fields and GROMACS' practice take for hydrogen mass repartitioning at 4 fs.
_MIN_HYDROGEN_MASS_AMU: Final = 1.0
_MAX_HYDROGEN_MASS_AMU: Final = 4.0


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A force field with its surroundings, and how it is integrated (LangevinMiddle).

    Parameters
    ----------
    name : str
    force_field : "amber14-all" | "gaff2"
        ff14SB for peptides; GAFF2 with AM1-BCC charges for small molecules.
    solvent : "obc2-native" | "obc1" | "vacuum"
        OBC2 as OpenMM's own ``GBSAOBCForce``; OBC1 as the custom force of ``implicit/obc1.xml``.
        Solvent dielectric 78.5, solute dielectric 1, with the surface term.
    temperature_k, friction_per_ps, step_fs : float
    constraints : "none" | "HBonds"
        HBonds: lengths of bonds to hydrogen are fixed.
    hydrogen_mass_amu : float or None
        Mass of hydrogen, taken from its partner (HMR); None: as it is.
    cutoff_nm : float or None
        Of all non-bonded forces, without periodicity; None: every pair counts.
    equilibration_ps : float
        Simulated after minimization and not stored.
    """

    name: str
    force_field: str
    solvent: str
    temperature_k: float
    friction_per_ps: float
    step_fs: float
    constraints: str = "none"
    hydrogen_mass_amu: float | None = None
    cutoff_nm: float | None = None
    equilibration_ps: float = 20.0

    def __post_init__(self) -> None:
        """Check words and ranges."""
        check_choice("force_field", self.force_field, FORCE_FIELDS)
        check_choice("solvent", self.solvent, SOLVENTS)
        check_choice("constraints", self.constraints, CONSTRAINTS)
        check_positive("temperature_k", self.temperature_k, unit="K")
        check_positive("friction_per_ps", self.friction_per_ps, unit="/ps")
        check_positive("step_fs", self.step_fs, unit="fs")
        if self.cutoff_nm is not None:
            check_positive("cutoff_nm", self.cutoff_nm, unit="nm")
        mass = self.hydrogen_mass_amu
        if mass is not None and not _MIN_HYDROGEN_MASS_AMU <= mass <= _MAX_HYDROGEN_MASS_AMU:
            raise ValueError(
                f"hydrogen_mass_amu: expected {_MIN_HYDROGEN_MASS_AMU:g} to "
                f"{_MAX_HYDROGEN_MASS_AMU:g}, got {mass:g}"
            )
        if not self.equilibration_ps >= 0:
            raise ValueError(
                f"equilibration_ps: expected at least 0, got {self.equilibration_ps:g}"
            )
        if self.force_field == "gaff2" and self.solvent != "vacuum":
            raise ValueError(f"solvent: expected vacuum with gaff2, got {self.solvent!r}")

    def settings(self) -> dict[str, Any]:
        """Return all fields; the name under ``preset``."""
        fields = asdict(self)
        return {"preset": fields.pop("name"), **fields}

    def n_steps(self, time_ps: float, *, name: str) -> int:
        """Return the integration steps that ``time_ps`` takes.

        Raises
        ------
        ValueError
            If it is no multiple of the step; ``name`` is what the message calls it.
        """
        ratio = 1e3 * time_ps / self.step_fs
        n_steps = round(ratio)
        # A time of 1 ms in steps of 1 fs is still told from its neighbours.
        if abs(ratio - n_steps) > 1e-6 * max(1.0, 1e-6 * ratio):
            raise ValueError(
                f"{name}: expected a multiple of the step of {self.step_fs:g} fs, got {time_ps:g} ps"
            )
        return n_steps


PRESETS: Final = {
    preset.name: preset
    for preset in (
        Preset(
            name="fast",
            force_field="amber14-all",
            solvent="obc2-native",
            temperature_k=310.0,
            friction_per_ps=1.0,
            step_fs=2.0,
            constraints="HBonds",
        ),
        # As the Timewarp data sets were made (simulation/md.py of their code).
        Preset(
            name="timewarp",
            force_field="amber14-all",
            solvent="obc1",
            temperature_k=310.0,
            friction_per_ps=0.3,
            step_fs=0.5,
            cutoff_nm=2.0,
        ),
        # The kind of MDQM9-nc: GAFF in vacuum at room temperature.
        Preset(
            name="gaff-vacuum",
            force_field="gaff2",
            solvent="vacuum",
            temperature_k=300.0,
            friction_per_ps=1.0,
            step_fs=1.0,
            equilibration_ps=100.0,
        ),
    )
}
"""The presets, by name."""

ALIASES: Final = {"mdqm9": "gaff-vacuum"}
"""Other names of presets."""


def preset_of(name: str, **changes: Any) -> Preset:  # noqa: ANN401  values of fields
    """Return the preset ``name`` with the fields in ``changes`` that are not None.

    Raises
    ------
    ValueError
        If there is no such preset, or a value is out of range.

    Examples
    --------
    >>> preset_of("fast", step_fs=4.0, hydrogen_mass_amu=3.0).step_fs
    4.0
    """
    check_choice("preset", name, (*PRESETS, *ALIASES))
    given = {field: value for field, value in changes.items() if value is not None}
    return replace(PRESETS[ALIASES.get(name, name)], **given)
