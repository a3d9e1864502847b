"""What cannot be evaluated is refused in one sentence that says what to do."""

from dataclasses import replace

import numpy as np
import pytest

from tito_fast import EvaluationConfig, evaluate
from tito_fast.data.readers import from_smiles

QUICK = EvaluationConfig(n_resamples=20)


@pytest.fixture(scope="module")
def run(propanol, rotamer_walk, write_rollout, tmp_path_factory):
    replicas = [rotamer_walk(propanol, 9, seed=seed, every=10) for seed in range(3)]
    return write_rollout(tmp_path_factory.mktemp("run") / "CCCO", propanol, replicas)


@pytest.fixture
def reference_of(rotamer_walk, write_trajectory, tmp_path):
    """Write a reference of a molecule, ``n_frames`` frames of 1 ps."""

    def make(molecule, n_frames=60, **options):
        frames = rotamer_walk(molecule, n_frames, seed=5)
        return write_trajectory(tmp_path / "md", molecule, frames, **options)

    return make


def reordered(molecule, order):
    """Return the molecule with its atoms in another order."""
    place = np.argsort(order)
    return replace(
        molecule,
        atomic_numbers=molecule.atomic_numbers[order],
        bond_index=place[molecule.bond_index],
        positions=molecule.positions[order],
        atom_names=tuple(molecule.atom_names[atom] for atom in order),
    )


def test_another_number_of_atoms(run, reference_of):
    with pytest.raises(
        ValueError, match=r"^reference: expected the 12 atoms of the run, got 15 in "
    ):
        evaluate(run, reference=reference_of(from_smiles("CCCCO")))


def test_other_elements(run, reference_of):
    other = from_smiles("CCCS")
    with pytest.raises(
        ValueError, match=r"expected the run's elements, got element 16 in place of 8 at atom 3"
    ):
        evaluate(run, reference=reference_of(other))


def test_another_order_of_elements(run, reference_of, propanol):
    other = reordered(propanol, [3, 0, 1, 2, *range(4, 12)])
    with pytest.raises(
        ValueError,
        match=r"the same elements in another order in .* \(the first difference is atom 0\)",
    ):
        evaluate(run, reference=reference_of(other))


def test_another_order_within_an_element(run, reference_of, propanol):
    # The hydrogen of the oxygen changes places with one of a carbon.
    other = reordered(propanol, [0, 1, 2, 3, 11, *range(5, 11), 4])
    with pytest.raises(ValueError, match=r"the same elements bonded otherwise .* another order"):
        evaluate(run, reference=reference_of(other))


def test_another_stereoisomer(rotamer_walk, write_rollout, write_trajectory, tmp_path):
    one = from_smiles("C[C@H](F)CO")
    other = one.with_positions(one.positions * [1, 1, -1])
    run = write_rollout(tmp_path / "run", one, [rotamer_walk(one, 9, seed=s) for s in range(3)])
    reference = write_trajectory(tmp_path / "md", other, rotamer_walk(other, 60))
    with pytest.raises(
        ValueError, match=r"^reference: expected the stereocenters of the run's .*100%"
    ):
        evaluate(run, reference=reference)


def test_a_reference_shorter_than_the_lag(run, reference_of, propanol):
    with pytest.raises(
        ValueError,
        match=r"a trajectory longer than the run's lag of 10 ps, got 7 ps; simulate longer",
    ):
        evaluate(run, reference=reference_of(propanol, n_frames=8))


def test_a_reference_with_coarser_frames_than_the_lag(run, reference_of, propanol):
    with pytest.raises(
        ValueError, match=r"frames the run's lag of 10 ps apart, got one every 25 ps; sample with"
    ):
        evaluate(run, reference=reference_of(propanol, interval_ps=25.0))


def test_too_few_frames_of_the_run(propanol, rotamer_walk, write_rollout, reference_of, tmp_path):
    short = write_rollout(
        tmp_path / "short", propanol, [rotamer_walk(propanol, 2, seed=seed) for seed in range(4)]
    )
    with pytest.raises(
        ValueError,
        match=r"^run: expected at least two frames after the start, .*; sample more steps",
    ):
        evaluate(short, reference=reference_of(propanol))


def test_a_run_of_starts_only(propanol, rotamer_walk, write_rollout, reference_of, tmp_path):
    start = write_rollout(tmp_path / "start", propanol, [rotamer_walk(propanol, 1)] * 3)
    with pytest.raises(ValueError, match=r"^run: expected frames after the start, got none in "):
        evaluate(start, reference=reference_of(propanol))


def test_too_few_pairs_for_vamp_are_said(
    propanol, rotamer_walk, write_rollout, reference_of, tmp_path
):
    few = write_rollout(tmp_path / "few", propanol, [rotamer_walk(propanol, 5, seed=2)])
    (evaluation,) = evaluate(few, reference=reference_of(propanol, n_frames=300), config=QUICK)
    assert evaluation.metrics["vamp2_gap"].value is None
    assert evaluation.metrics["jsd_tica"].value is not None
    assert any("no VAMP-2 score and no time scales: pairs: expected" in n for n in evaluation.notes)


def test_a_lag_of_tica_beyond_the_reference(run, reference_of, propanol):
    with pytest.raises(ValueError, match=r"tica_lag: expected less than the reference, 59 ps"):
        evaluate(run, reference=reference_of(propanol), config=EvaluationConfig(tica_lag_ps=100.0))


def test_files_without_time_stamps_need_an_interval(run, reference_of, propanol):
    folder = reference_of(propanol, n_frames=300, suffix=".dcd")
    with pytest.raises(ValueError, match=r"^reference: expected time stamps .*--frame-interval"):
        evaluate(run, reference=folder)
    config = EvaluationConfig(frame_interval_ps=1.0, n_resamples=20)
    (evaluation,) = evaluate(run, reference=folder, config=config)
    assert evaluation.summary["reference"]["interval_ps"] == 1.0


def test_uneven_times(run, propanol, rotamer_walk, write_trajectory, tmp_path):
    times = np.cumsum(np.where(np.arange(60) % 7, 1.0, 3.0))
    folder = write_trajectory(tmp_path / "md", propanol, rotamer_walk(propanol, 60), times=times)
    with pytest.raises(
        ValueError, match=r"frames evenly spaced in time in trajectory, got 1 to 3 ps"
    ):
        evaluate(run, reference=folder)


@pytest.mark.parametrize("argument", ["run", "reference", "topology"])
def test_what_is_not_there(argument, run, reference_of, propanol, tmp_path):
    given = {"run": run, "reference": reference_of(propanol), "topology": run / "topology.pdb"}
    given[argument] = tmp_path / "nothing"
    with pytest.raises(ValueError, match=rf"^{argument}: expected .* got no such file: .*nothing"):
        evaluate(given["run"], reference=given["reference"], topology=given["topology"])


def test_a_folder_of_nothing(run, tmp_path):
    with pytest.raises(ValueError, match=r"^run: expected a directory of tito-fast sample"):
        evaluate(tmp_path)
    with pytest.raises(ValueError, match=r"^reference: expected a folder 'CCCO' as the run's in "):
        evaluate(run, reference=tmp_path)


def test_files_without_a_topology(run, tmp_path):
    (tmp_path / "a.xtc").write_bytes((run / "rep_0000.xtc").read_bytes())
    with pytest.raises(ValueError, match=r"^run: expected a topology .* pass --topology"):
        evaluate(tmp_path / "a.xtc")


def test_files_of_another_kind(run, tmp_path):
    (tmp_path / "a.txt").write_text("no frames")
    with pytest.raises(ValueError, match=r"^run: expected a trajectory \(\.xtc, .*got .*a\.txt"):
        evaluate(tmp_path / "a.txt")


def test_a_torn_trajectory(run, tmp_path):
    (tmp_path / "a.xtc").write_bytes(b"no frames")
    with pytest.raises(ValueError, match=r"expected frames of 12 atoms in .*a\.xtc"):
        evaluate(run, reference=tmp_path / "a.xtc", topology=run / "topology.pdb")


@pytest.mark.parametrize("kind", ["foreign", "file", "run"])
def test_an_out_that_holds_something_else(kind, run, tmp_path):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("a file")
    elif kind == "foreign":
        out.mkdir()
        (out / "metrics.json").write_text('{"kind": "another"}')
    else:
        out = run
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(ValueError, match=r"^out: expected .*; choose another --out"):
        evaluate(run, out=out)
    assert sorted(path.name for path in run.iterdir()) == before


def test_an_earlier_evaluation_is_replaced(run, tmp_path):
    for n_resamples in (20, 30):
        (evaluation,) = evaluate(
            run, out=tmp_path / "out", config=EvaluationConfig(n_resamples=n_resamples)
        )
        assert f'"n_resamples": {n_resamples}' in (tmp_path / "out" / "metrics.json").read_text()
    assert evaluation.path == tmp_path / "out"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": "some"}, "features: expected one of all, rotatable"),
        ({"n_states": 1}, "n_states: expected at least 2"),
        ({"n_resamples": 3}, "n_resamples: expected at least 20"),
        ({"tica_lag_ps": -1.0}, "tica_lag: expected a value above zero"),
        ({"chunk_frames": 0}, "chunk_frames: expected at least 1"),
        ({"n_jobs": 0}, "jobs: expected at least 1"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**changes)


def test_a_store_of_other_molecules(run, reference_of, propanol, tmp_path):
    from tito_fast.data.convert.mdtraj_files import (  # noqa: PLC0415  beside its test
        convert_trajectories,
    )

    other = replace(from_smiles("CCCCO"), name="other")
    folder = reference_of(other)
    store = convert_trajectories(
        other, folder / "topology.pdb", [folder / "trajectory.xtc"], tmp_path / "store"
    )
    with pytest.raises(ValueError, match=r"the molecule 'CCCO' in the store .*, got other"):
        evaluate(run, reference=store)
