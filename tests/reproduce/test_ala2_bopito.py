import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tito_fast.cli.main import run
from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.data.molecule import Molecule
from tito_fast.data.store import open_store
from tito_fast.reproduce.ala2_bopito import (
    correlation_of_pairs,
    nested_lags,
    ranges_of,
    run_ala2_bopito,
)
from tito_fast.reproduce.ala2_data import Ala2Data, phi_features
from tito_fast.reproduce.scales_ala2 import ALA2_SCALES

# ACE-ALA-NME, hydrogens in place.
NUMBERS = (1, 6, 1, 1, 6, 8, 7, 1, 6, 1, 6, 1, 1, 1, 6, 8, 7, 1, 6, 1, 1, 1)
BONDS = (
    (0, 1), (1, 2), (1, 3), (1, 4), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9), (8, 10), (8, 14),
    (10, 11), (10, 12), (10, 13), (14, 15), (14, 16), (16, 17), (16, 18), (18, 19), (18, 20), (18, 21),
)  # fmt: skip
QUICK = ALA2_SCALES["quick"]


def alanine_dipeptide(numbers=NUMBERS):
    bonds = np.array(BONDS + tuple((j, i) for i, j in BONDS)).T
    return Molecule(
        name="ala2",
        atomic_numbers=np.array(numbers),
        bond_index=bonds,
        bond_type=np.ones(bonds.shape[1], dtype=np.int64),
        positions=0.15 * np.random.default_rng(3).standard_normal((22, 3)),
        atom_names=("X",) * 22,
        residue_names=("ALA",) * 22,
        residue_numbers=(1,) * 22,
        chain_ids=("A",) * 22,
    )


@pytest.fixture
def make_ala2(tmp_path):
    def make(*, n_trajectories=2, n_frames=125, molecule=None):
        molecule = molecule or alanine_dipeptide()
        rng = np.random.default_rng(0)
        path = tmp_path / "ala2"
        with StoreWriter(path, converter="test", source_name="test") as writer:
            index = writer.add_molecule(molecule)
            for number in range(n_trajectories):
                wiggle = 0.05 * rng.standard_normal((n_frames, 22, 3))
                writer.add_trajectory(
                    index,
                    [Frames(positions=molecule.positions + wiggle)],
                    name=str(number),
                    split="train",
                    frame_interval_ps=1.0,
                )
        return path

    return make


def test_the_experiment_leaves_numbers_and_a_figure_and_finds_the_same_again(
    make_ala2, tmp_path, capsys
):
    data, out = make_ala2(), tmp_path / "numbers"
    arguments = ["reproduce", "ala2-bopito", "--scale", "quick", "--data", str(data)]
    assert run([*arguments, "--out", str(out)]) == 0
    assert "C = 0 in place of a model" in capsys.readouterr().out
    numbers = json.loads((out / "ala2-bopito.json").read_text())
    assert (out / "ala2-bopito.png").read_bytes().startswith(b"\x89PNG")
    results = numbers["results"]
    assert numbers["settings"]["n_windows"] == [1, 2]
    assert np.array(results["correlations"]["ito"]["2"]).shape == (1, 3)
    md = np.array(results["md"]["correlation"])
    assert (np.array(results["md"]["low"]) <= md).all()
    assert np.isclose(
        results["mean_errors"]["bopito"]["1"]["long"][0],
        abs(results["correlations"]["bopito"]["1"][0][2] - md[2]),
    )
    again = run_ala2_bopito(replace(QUICK, n_windows=(1,)), [0], lambda _: None, data)
    for kind, of_kind in again["correlations"].items():
        assert of_kind["1"] == results["correlations"][kind]["1"]


def test_windows_and_starts_share_no_frame_with_what_is_held_back(make_ala2, tmp_path):
    ala2 = Ala2Data.open(make_ala2(), QUICK)
    frames = [
        {(s.trajectory_idx, f) for s in group for f in range(s.start, s.stop)}
        for group in (ala2.training, ala2.held_back, ala2.windows)
    ]
    assert not frames[0] & frames[1]
    assert frames[2] <= frames[0]
    assert len(ala2.training) == len(ala2.held_back) == 2
    starts = ala2.starts(40.0, 40)
    # A lag of 40 leaves 20 of 60 frames of each part, so all of them are taken, once.
    expected = np.concatenate([ala2.positions(part)[:20] for part in ala2.held_back])
    np.testing.assert_array_equal(starts, expected)
    written = open_store(ala2.write(tmp_path / "windows", ala2.windows[:2]))
    np.testing.assert_allclose(
        phi_features(written.trajectory_positions(1)),
        phi_features(ala2.positions(ala2.windows[1])),
        atol=1e-5,
    )


def test_the_correlation_of_pairs_is_that_of_the_process():
    rng = np.random.default_rng(0)
    start, noise = rng.standard_normal((2, 20_000, 2)) + 5.0
    value, error = correlation_of_pairs(start, 0.6 * start + noise)
    assert abs(value - 0.6) < 3 * error
    assert math.isclose(correlation_of_pairs(start, start)[0], 1.0)


def test_lags_above_the_longest_are_nested_and_long():
    assert nested_lags(10.0, 10.0) == (10.0,)
    assert nested_lags(25.0, 10.0) == (5.0, 10.0, 10.0)
    assert nested_lags(1.1, 0.1) == pytest.approx(11 * (0.1,))
    ranges = ranges_of((50.0, 51.0, 1000.0, 1001.0), 1000.0)
    assert [np.flatnonzero(chosen).tolist() for chosen in ranges.values()] == [[0], [1, 2], [3]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_trajectories": 1}, "data: expected several trajectories of alanine dipeptide .*, got 1"),
        (
            {"molecule": alanine_dipeptide((*NUMBERS[:4], 8, 6, *NUMBERS[6:]))},
            "data: expected several trajectories of alanine dipeptide .*, got 0",
        ),
        ({"n_frames": 65}, "data: expected 2 windows of 30 ps and two held-back parts .* 2 and 1"),
    ],
)  # fmt: skip
def test_a_store_that_holds_too_little_is_refused(options, message, make_ala2):
    with pytest.raises(ValueError, match=message):
        Ala2Data.open(make_ala2(**options), QUICK)


def test_data_must_be_given(tmp_path, capsys):
    assert run(["reproduce", "ala2-bopito", "--out", str(tmp_path)]) == 1
    message = "data: expected a store of alanine dipeptide for ala2-bopito, got None"
    assert message in capsys.readouterr().err
