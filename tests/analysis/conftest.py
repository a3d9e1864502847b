"""A Markov chain of which everything is known, and other things that several tests need."""

from types import SimpleNamespace

import numpy as np
import pytest

from tito_fast.analysis.unit_sums import UnitSums


def _chain():
    """Three states, reversible: T = 1 + Λ-rates from symmetric flows over known populations."""
    populations = np.array([0.5, 0.3, 0.2])
    flows = np.array([[0.0, 0.02, 0.005], [0.02, 0.0, 0.03], [0.005, 0.03, 0.0]])
    matrix = flows / populations[:, None]
    matrix += np.diag(1 - matrix.sum(axis=1))
    values, vectors = np.linalg.eig(matrix)
    order = np.argsort(-values.real)
    return SimpleNamespace(
        populations=populations,
        matrix=matrix,
        eigenvalues=values.real[order],
        eigenvectors=vectors.real[:, order],
    )


@pytest.fixture(scope="session")
def chain():
    return _chain()


@pytest.fixture(scope="session")
def simulate_chain(chain):
    """Trajectories (n_replicas, n_frames) of the chain, from equilibrium unless starts are given."""

    def simulate(n_replicas, n_frames, *, seed, power=1):
        rng = np.random.default_rng(seed)
        cumulative = np.linalg.matrix_power(chain.matrix, power).cumsum(axis=1)
        states = np.empty((n_replicas, n_frames), dtype=np.int64)
        states[:, 0] = rng.choice(3, size=n_replicas, p=chain.populations)
        for frame in range(1, n_frames):
            draws = rng.random(n_replicas)[:, None]
            states[:, frame] = (draws > cumulative[states[:, frame - 1]]).sum(axis=1).clip(max=2)
        return states

    return simulate


@pytest.fixture(scope="session")
def exact_total(chain):
    """Lagged moments of one-hot features, from probabilities instead of counts."""

    def total(power=1, n_pairs=1e6):
        pairs = chain.populations[:, None] * np.linalg.matrix_power(chain.matrix, power)
        result = np.zeros((3, 4, 4))
        for product, joint in zip(
            result, (np.diag(chain.populations), pairs, np.diag(chain.populations)), strict=True
        ):
            product[0, 0] = 1.0
            product[0, 1:] = joint.sum(axis=0)
            product[1:, 0] = joint.sum(axis=1)
            product[1:, 1:] = joint
        return n_pairs * result

    return total


@pytest.fixture(scope="session")
def walks():
    """Correlated trajectories of different lengths, with one constant and one repeated feature."""

    def make(*lengths, seed=0, n_features=5):
        rng = np.random.default_rng(seed)
        rates = np.linspace(0.99, 0.7, n_features)
        mixing = rng.standard_normal((n_features, n_features))
        series = []
        for length in lengths:
            state, frames = rng.standard_normal(n_features), []
            for _ in range(length):
                noise = rng.standard_normal(n_features)
                state = rates * state + np.sqrt(1 - rates**2) * noise
                frames.append(state @ mixing)
            frames = np.array(frames)
            series.append(np.hstack([frames, np.full((length, 1), 3.0), frames[:, :1]]))
        return series

    return make


@pytest.fixture(scope="session")
def units_of_values():
    """Units of one number each, with a count of one before it."""

    def make(values, series_idx=None):
        sums = np.stack([np.ones(len(values)), values], axis=1)
        idx = np.arange(len(values)) if series_idx is None else series_idx
        return UnitSums(sums=sums, series_idx=idx)

    return make


@pytest.fixture(scope="session")
def mean_difference():
    """The statistic of two totals of such units: mean of the model minus mean of the reference."""
    return lambda reference, model: model[1] / model[0] - reference[1] / reference[0]
