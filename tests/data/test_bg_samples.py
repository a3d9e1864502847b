"""Samples of a Boltzmann generator on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tito_fast import read_molecule
from tito_fast.data.bg_samples import BgSamples, read_bg_samples, write_bg_samples


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
