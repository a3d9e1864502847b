"""``tito-fast evaluate``: files on disk, a table, and one sentence for what cannot be."""

import json
import sys

import pytest

from tito_fast.cli import evaluate as module
from tito_fast.cli.main import run as run_command

KEYS = {
    *("jsd_tica", "jsd_torsions", "vamp2_gap", "timescale_error_top10", "coverage", "precision"),
}


@pytest.fixture(scope="module")
def folders(propanol, rotamer_walk, write_rollout, write_trajectory, tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    for name in ("a", "b"):
        replicas = [rotamer_walk(propanol, 21, seed=seed, every=10) for seed in range(10)]
        write_rollout(root / "runs" / name, propanol, replicas)
        write_trajectory(root / "md" / name, propanol, rotamer_walk(propanol, 1000, seed=9))
    return root


@pytest.fixture
def evaluate(folders, tmp_path, capsys):
    """Run the command; return status, standard output and standard error."""

    def call(*arguments, out=tmp_path / "out"):
        words = [str(word) for word in arguments]
        status = run_command(["evaluate", *words, "--out", str(out), "--resamples", "20"])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_one_run_with_a_reference(evaluate, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tito-fast", "evaluate", "a run"])
    status, out, err = evaluate(folders / "runs" / "a", "--reference", folders / "md" / "a")
    assert status == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content.keys() >= KEYS
    assert content["provenance"]["command"] == "tito-fast evaluate 'a run'"
    assert f"{content['jsd_tica']['value']:.3f}" in out
    assert "md_floor" in out
    for note in content["notes"]:
        assert f"a: {note}" in err


def test_many_molecules_in_one_call(evaluate, folders, tmp_path):
    status, out, _ = evaluate(
        folders / "runs", "--reference", folders / "md", "--jobs", "2", "--features", "rotatable"
    )
    assert status == 0
    assert "mean / median" in out
    assert {path.name for path in (tmp_path / "out").glob("*/metrics.json")} == {"metrics.json"}
    content = json.loads((tmp_path / "out" / "aggregate.json").read_text())
    assert content["metrics"]["jsd_tica"]["n"] == 2
    one = json.loads((tmp_path / "out" / "b" / "metrics.json").read_text())
    assert one["provenance"]["config"]["features"] == "rotatable"


def test_a_run_by_itself(evaluate, folders, tmp_path):
    status, out, _ = evaluate(folders / "runs" / "a")
    assert status == 0
    assert "split R-hat" in out
    assert "rhat_max" in json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_files_with_a_topology(evaluate, folders):
    files = sorted((folders / "runs" / "a").glob("rep_*.xtc"))
    status, out, _ = evaluate(
        *files,
        *("--topology", folders / "runs" / "a" / "topology.pdb"),
        *("--reference", folders / "md" / "a" / "trajectory.xtc"),
        *("--tica-lag", "5ps", "--states", "3", "--seed", "1", "--no-energies"),
    )
    assert status == 0
    assert "VAMP-2 gap" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tica-lag", "5"], "tica_lag: expected a time with a unit"),
        (["--features", "some"], "features: expected one of all, rotatable"),
        (["--reference", "nowhere"], "got no such file: nowhere"),
        (["--states", "1"], "n_states: expected at least 2"),
    ],
)
def test_bad_input_is_one_sentence_and_an_exit_status(evaluate, folders, arguments, message):
    status, out, err = evaluate(folders / "runs" / "a", *arguments)
    assert status == 1
    assert not out
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_an_out_that_holds_something_else(evaluate, folders):
    status, _, err = evaluate(folders / "runs" / "a", out=folders / "md")
    assert status == 1
    assert "choose another --out" in err


@pytest.fixture
def with_system(folders):
    """A reference with a file that says what its force field was."""
    system = folders / "md" / "a" / "system.xml"
    system.write_text("<System/>")
    yield folders / "md" / "a"
    system.unlink()


def test_without_openmm_energies_are_left_out_and_that_is_said(
    evaluate, folders, with_system, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    status, _, err = evaluate(folders / "runs" / "a", "--reference", with_system)
    assert status == 0
    assert "warning: no potential energies, OpenMM is not installed" in err
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "jsd_energy" not in content


def test_energies_that_were_asked_for_need_the_extra(evaluate, folders, with_system, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    status, _, err = evaluate(folders / "runs" / "a", "--reference", with_system, "--energies")
    assert status == 1
    assert err == "error: energies: OpenMM is not installed: pip install 'tito_fast[md]'\n"


def test_energies_that_were_asked_for_need_a_force_field(evaluate, folders):
    status, _, err = evaluate(
        folders / "runs" / "a", "--reference", folders / "md" / "a", "--energies"
    )
    assert status == 1
    assert "energies: expected a system.xml beside the run or the reference, got none" in err


def test_energies_are_those_of_openmm(evaluate, folders, propanol, tmp_path):
    openmm = pytest.importorskip("openmm", reason="needs tito_fast[md]")
    system = openmm.System()
    force = openmm.HarmonicBondForce()
    for number in propanol.atomic_numbers:
        system.addParticle(float(number))
    force.addBond(0, 1, 0.15, 1000.0)
    system.addForce(force)
    file = folders / "md" / "b" / "system.xml"
    file.write_text(openmm.XmlSerializer.serialize(system))
    status, _, _ = evaluate(
        folders / "runs" / "b", "--reference", folders / "md" / "b", "--energies"
    )
    file.unlink()
    assert status == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["jsd_energy"]["value"] < 0.1
    assert content["energy_shift_kj_per_mol"]["value"] == pytest.approx(0.0, abs=0.01)
