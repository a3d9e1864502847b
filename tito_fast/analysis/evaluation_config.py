"""What an evaluation may be told."""

from dataclasses import dataclass

from tito_fast.analysis.recording import FEATURE_SETS, FeatureSet
from tito_fast.analysis.resampling import N_RESAMPLES
from tito_fast.validation import check_at_least, check_choice, check_positive


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How to evaluate.

    Parameters
    ----------
    features : "all" | "rotatable"
        Torsions of TICA and VAMP: about all bonds, as TITO's authors take them, or the rotatable ones.
    tica_lag_ps : float or None
        None: one frame of the reference, as published.
    n_states : int
        Of transition probabilities and Chapman–Kolmogorov tests.
    frame_interval_ps : float or None
        Of references without time stamps.
    lag_ps : float or None
        Of run files without time stamps.
    n_resamples : int
        Of the bootstrap.
    seed : int
        Of all resampling and of the ideal sampler.
    chunk_frames : int or None
        Frames looked at together; changes nothing but memory.
    n_jobs : int
        Processes to share several runs among; a script that asks for more than one needs the guard
        ``if __name__ == "__main__":``.
    """

    features: FeatureSet = "all"
    tica_lag_ps: float | None = None
    n_states: int = 4
    frame_interval_ps: float | None = None
    lag_ps: float | None = None
    n_resamples: int = N_RESAMPLES
    seed: int = 0
    chunk_frames: int | None = None
    n_jobs: int = 1

    def __post_init__(self) -> None:
        """Check words and ranges."""
        check_choice("features", self.features, FEATURE_SETS)
        check_at_least("n_states", self.n_states, 2)
        check_at_least("n_resamples", self.n_resamples, 20)
        check_at_least("seed", self.seed, 0)
        check_at_least("jobs", self.n_jobs, 1)
        if self.chunk_frames is not None:
            check_at_least("chunk_frames", self.chunk_frames, 1)
        for name in ("tica_lag_ps", "frame_interval_ps", "lag_ps"):
            value = getattr(self, name)
            if value is not None:
                check_positive(name.removesuffix("_ps"), value, unit="ps")
