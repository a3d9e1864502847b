"""``tito-fast reweight``: from samples and energies to weights, numbers and a picture."""

import json

import numpy as np
import pytest

from tito_fast.analysis.reweighting import effective_sample_size, log_weights, reduced_energies
from tito_fast.cli.main import run
from tito_fast.data.bg_samples import BgSamples, read_bg_samples, write_bg_samples
from tito_fast.data.torsions import rotatable_torsions, torsion_angles

N = 400
MODEL, TARGET = (0.5, 0.3, 0.2), (0.1, 0.2, 0.7)
PER_KT = 2.4943387854  # kJ/mol at 300 K
STATES = np.radians([-60.0, 60.0, 180.0])


def rotamer(angle):
    return int(np.argmax(np.cos(angle - STATES)))


@pytest.fixture
def samples(propanol, rotamer_walk, tmp_path, monkeypatch):
    """Rotamers of propanol with the wrong populations; energies of the right ones."""
    monkeypatch.chdir(tmp_path)
    positions = rotamer_walk(propanol, N, populations=MODEL, rate=1.0)
    (torsion,) = rotatable_torsions(propanol)[-1:]
    states = [rotamer(angle) for angle in torsion_angles(positions, torsion[None])[:, 0]]
    positions -= positions.mean(axis=1, keepdims=True)
    log_density = np.log(np.array(MODEL))[states] + 5.0
    energies = -PER_KT * np.log(np.array(TARGET))[states] - 77.0
    energies[7], energies[8] = np.nan, np.inf
    write_bg_samples(
        "bg.npz", BgSamples(molecule=propanol, positions=positions, log_density=log_density)
    )
    np.save("energies.npy", energies)
    return log_density, energies, np.array(states)


def call(capsys, *arguments):
    capsys.readouterr()
    status = run(["reweight", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


GIVEN = ("bg.npz", "--energies", "energies.npy", "--temperature", "300", "--out", "done")


def test_samples_are_reweighted(samples, capsys, tmp_path):
    log_density, energies, states = samples
    status, out, err = call(capsys, *GIVEN, "--clip", "0.3", "--resamples", "40")
    assert status == 0
    assert "2 samples have no finite energy" in err
    expected = log_weights(
        log_density, reduced_energies(np.nan_to_num(energies, nan=np.inf, posinf=np.inf), 300.0)
    )
    with np.load("done/weights.npz") as file:
        np.testing.assert_allclose(file["log_weights"], expected)
        weights = file["weights"]
        assert len(set(file["clipped_log_weights"].round(9))) < len(set(expected.round(9)))
    assert weights[7] == weights[8] == 0.0
    counts = np.bincount(states, weights=weights)
    np.testing.assert_allclose(counts, TARGET, atol=0.08)
    summary = json.loads((tmp_path / "done" / "summary.json").read_text())
    assert summary["effective_sample_size"] == pytest.approx(effective_sample_size(expected))
    assert summary["effective_sample_size_clipped"] > summary["effective_sample_size"]
    assert summary["effective_sample_share"] == pytest.approx(summary["effective_sample_size"] / N)
    assert summary["n_impossible"] == 2
    assert f"{N} samples, effective sample size" in out
    finite = np.isfinite(energies)
    means = summary["mean_energy_kj_mol"]
    assert means["unweighted"]["value"] == pytest.approx(energies[finite].mean())
    assert means["reweighted"]["value"] == pytest.approx((weights[finite] * energies[finite]).sum())
    assert means["reweighted"]["low"] < means["reweighted"]["value"] < means["reweighted"]["high"]
    # The rotamer that the model has least of is the lowest.
    profile = summary["torsions"][-1]
    for name, lowest in (("unweighted", 0), ("reweighted", 2)):
        values = [np.inf if v is None else v for v in profile["free_energy_kt"][name]["value"]]
        assert rotamer(profile["centers_rad"][int(np.argmin(values))]) == lowest
    assert (tmp_path / "done" / "profiles.png").read_bytes()[:4] == b"\x89PNG"
    np.testing.assert_allclose(read_bg_samples("done/samples.npz").log_weights, expected)
    # The same directory takes the next one.
    assert call(capsys, *GIVEN, "--bandwidth", "0.2", "--resamples", "20")[0] == 0


def test_a_force_field_gives_the_energies(capsys, tmp_path, monkeypatch):
    pytest.importorskip("openmm", reason="OpenMM is not installed")
    from tito_fast.data.readers import read_molecule  # noqa: PLC0415  imports RDKit
    from tito_fast.md import openmm_system, potential_energies, preset_of  # noqa: PLC0415  OpenMM

    monkeypatch.chdir(tmp_path)
    molecule = read_molecule("ACE-A-NME")
    rng = np.random.default_rng(0)
    positions = molecule.positions + 0.002 * rng.standard_normal((4, molecule.n_atoms, 3))
    samples = BgSamples(molecule=molecule, positions=positions, log_density=np.zeros(4))
    write_bg_samples("bg.npz", samples)
    words = "bg.npz --force-field timewarp --resamples 20 --out done"
    status, _, err = call(capsys, *words.split())
    assert (status, err) == (0, "")
    system = openmm_system(molecule, preset_of("timewarp", constraints="none"))
    energies = potential_energies(system, samples.positions)
    with np.load("done/weights.npz") as file:
        np.testing.assert_allclose(file["reduced_energies"], reduced_energies(energies, 310.0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("bg.npz --out x", "energies, force_field: expected one of them"),
        (
            "bg.npz --energies energies.npy --force-field fast --out x",
            "energies, force_field: expected one of them",
        ),
        ("bg.npz --energies energies.npy --out x", "temperature: expected a temperature in K"),
        (
            "bg.npz --energies short.npy --temperature 300 --out x",
            r"energies_kj_mol: expected shape (400,), one for each sample, got (3,)",
        ),
        ("bg.npz --energies low.npy --temperature 300 --out x", "expected no minus infinity"),
        ("bg.npz --energies text.npy --temperature 300 --out x", "expected a NumPy file"),
        ("bg.npz --energies words.npy --temperature 300 --out x", "expected an array of numbers"),
        (
            "bg.npz --energies energies.npy --temperature 300 --clip 1 --out x",
            "clip_share: expected",
        ),
        ("bg.npz --energies energies.npy --temperature 300 --bins 1 --out x", "n_bins: expected"),
        ("bg.npz --energies energies.npy --temperature -3 --out x", "temperature_k: expected"),
        ("bare.npz --energies energies.npy --temperature 300 --out x", "with log densities"),
        ("bg.npz --energies energies.npy --temperature 300 --out full", "full with notes.txt"),
        ("bg.npz --energies energies.npy --temperature 300 --out bg.npz", "got the file bg.npz"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(samples, capsys, tmp_path, words, message):
    _, energies, _ = samples
    np.save("short.npy", energies[:3])
    np.save("low.npy", np.full(N, -np.inf))
    np.save("words.npy", np.array(["a"] * N))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    found = read_bg_samples("bg.npz")
    write_bg_samples("bare.npz", BgSamples(molecule=found.molecule, positions=found.positions))
    status, _, err = call(capsys, *words.split())
    assert status == 1
    assert message in err
    assert err.count("\n") == 1
