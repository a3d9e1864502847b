"""Samples of a Boltzmann generator on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tito_fast import read_molecule
from tito_fast.data.bg_samples import (
    BgSamples,
    read_bg_samples,
    systematic_resample,
    write_bg_samples,
)


def _samples(*, is_weighted: bool = True) -> BgSamples:
    molecule = read_molecule("CCO")
    rng = np.random.default_rng(3)
    return BgSamples(
        molecule=molecule,
        positions=rng.normal(size=(5, molecule.n_atoms, 3)).astype(np.float32),
        log_density=rng.normal(size=5) if is_weighted else None,
        log_weights=np.array([0.0, -1.5, -np.inf, 2.0, 0.25]) if is_weighted else None,
        seed=11,
        model_hash="ab" * 32,
    )


@pytest.mark.parametrize("is_weighted", [True, False])
def test_samples_are_read_back_as_they_were_written(tmp_path: Path, *, is_weighted: bool) -> None:
    samples = _samples(is_weighted=is_weighted)
    write_bg_samples(tmp_path / "samples.npz", samples)
    found = read_bg_samples(tmp_path / "samples.npz")
    assert np.array_equal(found.positions, samples.positions)
    assert found.positions.dtype == np.float32
    for name in ("log_density", "log_weights"):
        expected = getattr(samples, name)
        if expected is None:
            assert getattr(found, name) is None
        else:
            assert np.array_equal(getattr(found, name), expected)
    assert (found.seed, found.model_hash, found.n_samples) == (11, "ab" * 32, 5)
    assert found.molecule.noise_hash == samples.molecule.noise_hash
    assert found.molecule.atom_names == samples.molecule.atom_names


def test_values_that_do_not_fit_are_refused() -> None:
    samples = _samples()
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_samples, 9, 3\), got"):
        replace(samples, positions=samples.positions[:, :-1])
    with pytest.raises(ValueError, match="positions: expected finite coordinates"):
        replace(samples, positions=samples.positions * np.float32(np.nan))
    with pytest.raises(ValueError, match=r"log_density: expected shape \(5,\), got \(4,\)"):
        replace(samples, log_density=np.zeros(4))
    with pytest.raises(ValueError, match="log_density: expected finite values"):
        replace(samples, log_density=np.full(5, np.inf))
    with pytest.raises(ValueError, match="log_weights: expected finite values"):
        replace(samples, log_weights=np.full(5, np.nan))
    with pytest.raises(ValueError, match="log_weights: expected a weight above zero, got none"):
        replace(samples, log_weights=np.full(5, -np.inf))


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="expected samples of a Boltzmann generator"):
        read_bg_samples(path)
    np.savez(path, positions=np.zeros((2, 9, 3)))
    with pytest.raises(ValueError, match="expected samples of a Boltzmann generator"):
        read_bg_samples(path)
    np.savez(path, header=np.array('{"format": "other"}'))
    with pytest.raises(ValueError, match=r"got another \.npz"):
        read_bg_samples(path)
    np.savez(path, header=np.array('{"format": "tito_fast samples", "format_version": 9}'))
    with pytest.raises(ValueError, match="expected format_version 1, got 9"):
        read_bg_samples(path)
    np.savez(path, header=np.array('{"format": "tito_fast samples", "format_version": 1}'))
    with pytest.raises(ValueError, match="molecule"):
        read_bg_samples(path)
    with pytest.raises(FileNotFoundError):
        read_bg_samples(tmp_path / "none.npz")


def test_samples_are_drawn_as_often_as_their_weights_say() -> None:
    rng = np.random.default_rng(0)
    log_weights = np.log(rng.random(9)) + 700.0
    log_weights[4] = -np.inf
    shares = np.exp(log_weights - 700.0)
    expected = 20 * shares / shares.sum()
    counts = np.array(
        [
            np.bincount(systematic_resample(log_weights, 20, rng=rng), minlength=9)
            for _ in range(2000)
        ]
    )
    assert (counts.sum(axis=1) == 20).all()
    assert (np.abs(counts - expected) < 1.0).all()
    # A count is one of two neighbors, so its variance is below 1/4.
    assert np.abs(counts.mean(axis=0) - expected).max() < 5 * 0.5 / np.sqrt(2000)
    assert (counts[:, 4] == 0).all()


def test_equal_weights_draw_none_twice_while_there_are_enough() -> None:
    rng = np.random.default_rng(1)
    for n_drawn in (1, 3, 7):
        drawn = systematic_resample(np.zeros(7), n_drawn, rng=rng)
        assert len(set(drawn.tolist())) == len(drawn) == n_drawn
    assert np.bincount(systematic_resample(np.zeros(3), 9, rng=rng)).tolist() == [3, 3, 3]


@pytest.mark.parametrize("weights", [np.zeros(0), np.full(2, -np.inf), np.array([0.0, np.nan])])
def test_weights_that_draw_nothing_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"log_weights: expected shape .* with a finite value"):
        systematic_resample(weights, 3, rng=np.random.default_rng(0))
