"""The picture shows what the files hold, for any molecule."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from tito_fast.data.readers import from_sequence, from_smiles
from tito_fast.data.torsions import rotatable_torsions, torsion_angles, torsion_histograms
from tito_fast.data.validity import ValidityCounter
from tito_fast.rollout.figure import RolloutData, draw_rollout, read_rollout, rollout_figure
from tito_fast.rollout.rollout_directory import RolloutDirectory

LAGS_PS = (1000.0, 10.0)


def trembling(molecule, n_frames, *, seed=0):
    rng = np.random.default_rng(seed)
    noise = 0.02 * rng.standard_normal((n_frames, molecule.n_atoms, 3))
    return (molecule.positions + noise).astype(np.float32)


def rollout_of(molecule, *, n_frames=7, n_replicas=2, validity=True):
    positions = [trembling(molecule, n_frames, seed=replica) for replica in range(n_replicas)]
    counter = ValidityCounter(molecule)
    for replica, frames in enumerate(positions):
        counter.update(np.full(n_frames, replica), frames)
    return RolloutData(
        molecule=molecule,
        lag_times_ps=LAGS_PS,
        positions=positions,
        times_ps=[100.0 * np.arange(n_frames)] * n_replicas,
        n_frames=n_frames * n_replicas,
        validity=counter.result() if validity else None,
    )


def axes_of(figure):
    return [axes for part in figure.subfigs for axes in (*_deep(part),)]


def _deep(part):
    for inner in part.subfigs:
        yield from _deep(inner)
    yield from part.axes if not part.subfigs else ()


def write_run(path, molecule, *, kind="xtc", n_frames=7):
    settings = {"lag_times_ps": LAGS_PS, "format": kind}
    with RolloutDirectory.open(
        path, settings, molecule=molecule, n_steps=n_frames - 1, n_replicas=2
    ) as run:
        for replica in range(2):
            writer = run.open_writer(replica, token=0)
            writer.append(trembling(molecule, n_frames, seed=replica), np.arange(n_frames))
            writer.close()


@pytest.mark.parametrize("kind", ["xtc", "dcd", "h5"])
def test_a_run_becomes_a_picture(tmp_path, kind):
    molecule = from_smiles("CCCCO")
    write_run(tmp_path / "run", molecule, kind=kind)
    rollout_figure(tmp_path / "run", tmp_path / "picture.png")
    picture = imread(tmp_path / "picture.png")
    assert picture.shape[:2] == (1275, 1650)
    assert picture[..., :3].std() > 0.02
    data = read_rollout(tmp_path / "run")
    assert (data.n_frames, len(data.positions)) == (14, 2)
    np.testing.assert_allclose(data.positions[1], trembling(molecule, 7, seed=1), atol=6e-4)
    np.testing.assert_array_equal(data.times_ps[0][:4], [0, 1000, 1010, 2010])
    assert data.validity is None
    (tmp_path / "run" / "validity.json").write_text(json.dumps({"all": {}}))
    assert read_rollout(tmp_path / "run").validity == {"all": {}}


def test_marginals_are_the_histograms_of_all_replicas():
    data = rollout_of(from_smiles("CCCCO"))
    torsions = rotatable_torsions(data.molecule)
    angles = torsion_angles(np.concatenate(data.positions), torsions)
    drawn = axes_of(draw_rollout(data))[1:3]
    for axes, share in zip(drawn, torsion_histograms(angles), strict=True):
        values, edges, _ = axes.patches[0].get_data()
        np.testing.assert_allclose(values * np.diff(edges), share)
    assert [axes.get_title() for axes in drawn] == ["C1-C2-C3-C4", "C2-C3-C4-O1"]


def test_series_show_the_first_replica_in_a_fitting_unit():
    data = rollout_of(from_smiles("CCCCO"))
    series = axes_of(draw_rollout(data))[3:5]
    torsions = rotatable_torsions(data.molecule)
    expected = np.degrees(torsion_angles(data.positions[0], torsions))
    for row, axes in enumerate(series):
        times, angles = axes.lines[0].get_data()
        np.testing.assert_allclose(angles, expected[:, row])
        np.testing.assert_allclose(times, 100.0 * np.arange(7))
    assert series[-1].get_xlabel() == "time / ps"


def test_the_title_names_molecule_lag_and_steps():
    title = draw_rollout(rollout_of(from_smiles("CCCCO")))._suptitle.get_text()
    assert title.startswith("CCCCO ")
    assert "lag 1 ns, 10 ps" in title
    assert "2 replicas, 12 steps, 1.2 ns in all" in title


def test_bars_say_what_is_sound_and_leave_out_what_there_is_not():
    data = rollout_of(from_smiles("CCCCO"))
    bars = axes_of(draw_rollout(data))[-1]
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names == [
        "frames without NaN",
        "frames without clash",
        "bonds near covalent radii",
        "bonds 0.08 to 0.2 nm",
    ]
    share = data.validity["all"]["share_bonds_in_range"]
    assert bars.patches[-1].get_width() == pytest.approx(share)
    nothing = axes_of(draw_rollout(rollout_of(from_smiles("CCCCO"), validity=False)))[-1]
    assert "not written yet" in nothing.texts[0].get_text()


@pytest.mark.parametrize("smiles", ["C", "c1ccccc1", "[H][H]", "C#N", "F/C=C/F", "C[N+](=O)[O-]"])
def test_molecules_without_rotatable_bonds_are_drawn(tmp_path, smiles):
    figure = draw_rollout(rollout_of(from_smiles(smiles)))
    drawn = axes_of(figure)
    assert "no rotatable bonds" in drawn[1].texts[0].get_text()
    assert drawn[2].get_ylabel() == "radius of gyration / nm"
    figure.savefig(tmp_path / "picture.png")


def test_many_torsions_one_frame_and_repeated_names(tmp_path):
    molecule = from_sequence("AK")
    assert len(rotatable_torsions(molecule)) > 6
    figure = draw_rollout(rollout_of(molecule, n_frames=1, n_replicas=1))
    drawn = axes_of(figure)
    assert len(drawn) == 1 + 6 + 3 + 2
    assert "1 replica, 0 steps" in figure._suptitle.get_text()
    assert len({axes.get_title() for axes in drawn[1:7]}) == 6
    figure.savefig(tmp_path / "picture.png")


@pytest.mark.parametrize("n_atoms", [1, 2, 12])
def test_odd_chemistry_is_drawn(tmp_path, make_molecule, n_atoms):
    draw_rollout(rollout_of(make_molecule(n_atoms, name="cost $1$"))).savefig(tmp_path / "a.png")


def test_of_many_frames_some_are_drawn(tmp_path):
    write_run(tmp_path, from_smiles("CCO"), n_frames=50)
    data = read_rollout(tmp_path, max_frames=30)
    assert data.n_frames == 100
    assert [len(frames) for frames in data.positions] == [13, 13]
    assert [len(times) for times in data.times_ps] == [13, 13]


def test_a_run_without_frames_is_refused(tmp_path):
    settings = {"lag_times_ps": LAGS_PS, "format": "xtc"}
    molecule = from_smiles("CCO")
    RolloutDirectory.open(tmp_path, settings, molecule=molecule, n_steps=1, n_replicas=1).close()
    with pytest.raises(ValueError, match="run: expected a rollout with frames, got none"):
        rollout_figure(tmp_path, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()
    with pytest.raises(ValueError, match=r"run: expected a directory with run\.json"):
        rollout_figure(tmp_path / "elsewhere", tmp_path / "picture.png")


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, tito_fast.rollout.figure; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)  # noqa: S603  our own code
