"""What each metric is, in words and with its unit."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Description:
    """One metric in words.

    Parameters
    ----------
    title : str
    meaning : str
        One sentence.
    best : str
        What a perfect run has.
    group : str
    """

    title: str
    meaning: str
    best: str
    group: str


_THERMO, _KINETIC, _SHAPE, _SOUND = (
    "Thermodynamics",
    "Kinetics",
    "Geometry and energy",
    "Soundness and convergence",
)

DESCRIPTIONS: Final[dict[str, Description]] = {
    "jsd_tica": Description(
        title="JSD, TIC 1–2",
        meaning="Jensen–Shannon divergence (natural logarithm) of the two slowest coordinates on 30 × 30 bins "
        "over the reference's range; frames outside of it are one bin of their own.",
        best="0; at most 0.693",
        group=_THERMO,
    ),
    "jsd_tica_bits": Description(
        title="JSD, TIC 1–2, in bits",
        meaning="jsd_tica divided by ln 2.",
        best="0; at most 1",
        group=_THERMO,
    ),
    "jsd_tica_authors": Description(
        title="JSD, TIC 1–2, as published",
        meaning="The same on 100 × 100 bins with frames outside dropped, as TITO's code has it; it grows as "
        "frames get fewer, so compare it only at equal numbers of frames.",
        best="0; at most 0.693",
        group=_THERMO,
    ),
    "jsd_torsions": Description(
        title="JSD, rotatable torsions",
        meaning="Mean over rotatable bonds of the divergence of the torsion's histogram, 36 bins of 10°.",
        best="0; at most 0.693",
        group=_THERMO,
    ),
    "jsd_bond_torsions": Description(
        title="JSD, all torsions",
        meaning="The same over one torsion of every bond with a neighbor on both sides.",
        best="0; at most 0.693",
        group=_THERMO,
    ),
    "coverage": Description(
        title="Coverage",
        meaning="Share of the reference on bins (30 × 30) that the run visits, too.",
        best="1",
        group=_THERMO,
    ),
    "precision": Description(
        title="Precision",
        meaning="Share of the run on bins that the reference visits, too.",
        best="1",
        group=_THERMO,
    ),
    "vamp2_gap": Description(
        title="VAMP-2 gap (reference − run)",
        meaning="Difference of the VAMP-2 scores of the reference's slow functions at the run's lag, the sign "
        "of TITO: negative where the run looks slower.",
        best="0",
        group=_KINETIC,
    ),
    "vamp2_gap_model_minus_reference": Description(
        title="VAMP-2 gap (run − reference)",
        meaning="The same with the sign of ITO: positive where the run looks slower.",
        best="0",
        group=_KINETIC,
    ),
    "vamp2_score_reference": Description(
        title="VAMP-2 score, reference",
        meaning="1 plus the sum of squared singular values of the reference at the lag.",
        best="–",
        group=_KINETIC,
    ),
    "vamp2_score_model": Description(
        title="VAMP-2 score, run",
        meaning="The score that the reference's slow functions get on the run.",
        best="that of the reference",
        group=_KINETIC,
    ),
    "timescale_error_top10": Description(
        title="Time scales, relative error",
        meaning="Mean |t_reference − t_run| / t_reference over the slowest processes, at most 10, that are "
        "slower than the lag; n_processes says how many, none where there is no such process.",
        best="0",
        group=_KINETIC,
    ),
    "transition_distance": Description(
        title="Transition probabilities",
        meaning="Total variation between the rows of both transition matrices at the lag, weighted by the "
        "reference's populations.",
        best="0; at most 1",
        group=_KINETIC,
    ),
    "chapman_kolmogorov_error": Description(
        title="Chapman–Kolmogorov error",
        meaning="Mean difference between the probability to be in a state again after 2 to 5 lags, counted, "
        "and that of T(lag)^k; md_floor is the reference's own at the same lag.",
        best="0",
        group=_KINETIC,
    ),
    "correlation_error": Description(
        title="Correlation function, TIC 1",
        meaning="Mean difference of the correlation functions over the first five lags.",
        best="0",
        group=_KINETIC,
    ),
    "jsd_bond_lengths": Description(
        title="JSD, bond lengths",
        meaning="Mean over bonds of the divergence of the length's histogram, bins of 1 pm.",
        best="0; at most 0.693",
        group=_SHAPE,
    ),
    "jsd_angles": Description(
        title="JSD, angles",
        meaning="Mean over angles of the divergence of the angle's histogram, bins of 1°.",
        best="0; at most 0.693",
        group=_SHAPE,
    ),
    "jsd_closest_contact": Description(
        title="JSD, closest contact",
        meaning="Divergence of the closest distance of atoms three or more bonds apart, over the sum of van "
        "der Waals radii.",
        best="0; at most 0.693",
        group=_SHAPE,
    ),
    "bond_length_shift_nm": Description(
        title="Shift of bond lengths / nm",
        meaning="Mean over bonds of the difference between the mean lengths.",
        best="0",
        group=_SHAPE,
    ),
    "bond_length_width_ratio": Description(
        title="Width of bond lengths, run / reference",
        meaning="Mean over bonds of the ratio of standard deviations: below 1 the run is too stiff.",
        best="1",
        group=_SHAPE,
    ),
    "angle_shift_deg": Description(
        title="Shift of angles / °",
        meaning="Mean over angles of the difference between the mean angles.",
        best="0",
        group=_SHAPE,
    ),
    "jsd_energy": Description(
        title="JSD, potential energy",
        meaning="Divergence of the distribution of potential energies in the force field of system.xml.",
        best="0; at most 0.693",
        group=_SHAPE,
    ),
    "energy_shift_kj_per_mol": Description(
        title="Shift of the potential energy / kJ/mol",
        meaning="Median of the run minus median of the reference.",
        best="0",
        group=_SHAPE,
    ),
    "energy_width_ratio": Description(
        title="Width of the potential energy, run / reference",
        meaning="Ratio of interquartile ranges.",
        best="1",
        group=_SHAPE,
    ),
    "share_bonds_near_covalent": Description(
        title="Sound bond lengths",
        meaning="Share of bond lengths within 0.7 to 1.3 of the sum of covalent radii; md_floor and ideal are "
        "the reference's share, here and in the next four rows.",
        best="1",
        group=_SOUND,
    ),
    "share_clash_frames": Description(
        title="Frames with a clash",
        meaning="Share of frames in which atoms three or more bonds apart overlap.",
        best="0",
        group=_SOUND,
    ),
    "share_inverted_frames": Description(
        title="Frames with an inverted stereocenter",
        meaning="Share of frames in which a stereocenter is not as in the start structure.",
        best="0",
        group=_SOUND,
    ),
    "share_flipped_frames": Description(
        title="Frames with a flipped double bond",
        meaning="Share of frames in which a double bond is not as in the start structure.",
        best="0",
        group=_SOUND,
    ),
    "share_nan_frames": Description(
        title="Frames that are not finite",
        meaning="Share of frames with NaN or infinity.",
        best="0",
        group=_SOUND,
    ),
    "jsd_replicas": Description(
        title="JSD between replicas",
        meaning="Mean divergence of torsion histograms of two replicas of the run, which falls as replicas "
        "get longer; md_floor is the reference's own, here and in the next two rows.",
        best="0; at most 0.693",
        group=_SOUND,
    ),
    "rhat_max": Description(
        title="Split R-hat, worst torsion",
        meaning="Rank-normalized: above 1.01 replicas have not converged to one distribution.",
        best="1",
        group=_SOUND,
    ),
    "effective_samples_min": Description(
        title="Effective samples, worst torsion",
        meaning="Independent frames that all frames of the run are worth.",
        best="as many as frames",
        group=_SOUND,
    ),
}
"""By the keys of ``metrics.json``, in the order of the report."""

HOW_TO_READ: Final = (
    "Brackets hold the 95 % interval of a bootstrap over replicas and blocks. md_floor is the same metric of "
    "one part of the reference against another: independent trajectories where there are several, first "
    "half against second half otherwise. A run is as good as this reference can tell where its value is "
    "near md_floor. ideal is what an exact sampler of the reference would score with as many frames, "
    "replicas and steps as the run: what the finite run adds by itself. A value far above both is an error "
    "of the model; md_floor far above ideal means that the reference is too short."
)
