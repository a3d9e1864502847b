"""``tito-fast simulate``: what users type, and what they are told."""

import builtins
import json
import signal
import subprocess
import sys
import time

import mdtraj as md
import pytest

from tito_fast.cli.main import run
from tito_fast.md import gaff as gaff_module

QUICK = {
    "time": "0.2ps",
    "save-every": "0.1ps",
    "equilibration": "0.1ps",
    "platform": "Reference",
    "jobs": "1",
    "out": "run",
}


@pytest.fixture
def simulate(tmp_path, capsys, monkeypatch):
    """Run the command in an empty folder; return status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, **changed):
        options = {name: value for name, value in (QUICK | changed).items() if value is not None}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        status = run(["simulate", *arguments, *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_a_sequence_becomes_trajectories(simulate, tmp_path):
    status, out, err = simulate("peptide:GG", replicas=2)
    assert status == 0
    assert out.startswith("run: 2 replicas of 3 frames, mean temperature ")
    assert out.strip().endswith("checks passed")
    assert "protonated as at pH 7" in err
    trajectory = md.load(tmp_path / "run" / "rep_0001.xtc", top=tmp_path / "run" / "topology.pdb")
    assert trajectory.time == pytest.approx([0.0, 0.1, 0.2])


def test_options_override_the_preset_and_are_recorded(simulate, tmp_path):
    status, _, _ = simulate(
        "peptide:GG",
        **{
            "temperature": 350,
            "friction": 2,
            "step": "4fs",
            "hydrogen_mass": 3,
            "constraints": "HBonds",
            "seed": 9,
            "time": "0.4ps",
            "save-every": "0.2ps",
            "equilibration": "0.04ps",
        },
    )
    assert status == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    given = ("preset", "temperature_k", "friction_per_ps", "step_fs", "hydrogen_mass_amu", "seed")
    assert [settings[name] for name in given] == ["fast", 350.0, 2.0, 4.0, 3.0, 9]
    assert settings["equilibration_ps"] == pytest.approx(0.04)
    system = json.loads((tmp_path / "run" / "system.json").read_text())
    assert (system["timestep_fs"], system["temperature_K"]) == (4.0, 350.0)


def test_without_out_the_folder_has_the_molecules_name(simulate, tmp_path):
    assert simulate("ACE-G-NME", out=None)[0] == 0
    assert (tmp_path / "simulation_ACE-G-NME" / "rep_0000.xtc").is_file()


def test_the_same_command_goes_on(simulate, tmp_path):
    assert simulate("peptide:GG")[0] == 0
    status, out, _ = simulate("peptide:GG", time="0.4ps")
    assert (status, "1 replicas of 5 frames" in out) == (0, True)
    status, _, err = simulate("peptide:GG", temperature=320)
    assert status == 1
    assert "error: temperature_k: expected 310.0 as in run/run.json, got 320.0; pass --o" in err
    assert simulate("peptide:GG", "--overwrite", temperature=320)[0] == 0


def test_the_output_is_converted(simulate, tmp_path, capsys):
    assert simulate("peptide:GG", "ACE-G-NME")[0] == 0
    assert run(["data", "convert", "run", "store"]) == 0
    assert "2 of 17 to 19 atoms" in capsys.readouterr().out
    assert run(["data", "check", "store"]) == 0


@pytest.mark.parametrize(
    ("text", "changed", "message"),
    [
        ("peptide:GG", {"preset": "slow"}, "preset: expected one of fast, timewarp, gaff-vacuum"),
        ("CCO", {}, "amber14-all has parameters of, got 'CCO' (No template found for residue 0"),
        ("CCO", {}, "use the preset gaff-vacuum"),
        ("peptide:GG", {"time": "0.05ps"}, "time: expected at least save_every, 0.1 ps, got 0.05"),
        ("peptide:GG", {"time": "0.25ps"}, "time: expected a multiple of save_every, 0.1 ps, got"),
        ("peptide:GG", {"time": "5"}, "time: expected a time with a unit"),
        ("peptide:GG", {"save-every": "0"}, "save_every: expected a time with a unit"),
        ("peptide:GG", {"step": "0.3fs", "time": "1ps"}, "save_every: expected a multiple of the"),
        ("peptide:GG", {"replicas": 0}, "replicas: expected at least 1, got 0"),
        ("peptide:GG", {"jobs": 0}, "jobs: expected at least 1, got 0"),
        ("peptide:GG", {"platform": "TPU"}, "platform: expected one of auto, Reference, CPU"),
        ("peptide:GG", {"constraints": "all"}, "constraints: expected one of none, HBonds, got"),
        ("peptide:GG", {"temperature": -3}, "temperature_k: expected a value above zero, got -3 K"),
        ("nothing.pdb", {}, "input: no such file, got 'nothing.pdb'"),
        ("peptide:GXG", {}, "sequence: expected one-letter codes of natural amino acids"),
    ],
)
def test_bad_input_ends_in_one_sentence(simulate, tmp_path, text, changed, message):
    status, _, err = simulate(text, **changed)
    assert status == 1
    assert message in err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_name_is_for_one_input(simulate):
    status, _, err = simulate("peptide:GG", "ACE-G-NME", name="both")
    assert (status, "name: expected one input to name, got 2 inputs" in err) == (1, True)


def test_missing_programs_are_said(simulate, monkeypatch):
    monkeypatch.setattr(gaff_module, "_program", lambda _name: None)
    status, _, err = simulate("CO", preset="gaff-vacuum")
    assert status == 1
    assert "error: gaff: expected the programs of AmberTools, got no antechamber and no" in err
    assert "pip install 'tito_fast[gaff]'" in err


def test_a_missing_openmm_is_said(simulate, monkeypatch):
    plain = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "openmm":
            raise ImportError(f"No module named {name!r}")
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    status, _, err = simulate("peptide:GG")
    assert status == 1
    assert "error: openmm: expected the package for molecular dynamics, got none" in err
    assert "pip install 'tito_fast[md]'" in err


def test_failed_checks_are_a_failure(simulate):
    status, out, err = simulate(
        "peptide:GG", step="20fs", constraints="none", time="20ps", **{"save-every": "0.1ps"}
    )
    assert status == 1
    assert "warning: run: replica 0 became NaN" in err
    assert "CHECKS FAILED" in out


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_was_simulated(tmp_path, jobs):
    # Python leaves SIGINT ignored where it was, as it is for what a shell runs in the background.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += "; from tito_fast.cli.main import main; main()"
    command = [sys.executable, "-c", code, "simulate"]
    options = {**QUICK, "time": "10ns", "jobs": jobs, "replicas": jobs}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(  # noqa: S603  our own command
        [*command, "peptide:GG", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    states = [tmp_path / "run" / f"state_{replica:04d}.npz" for replica in range(int(jobs))]
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not all(state.exists() for state in states):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "interrupted: what was simulated is in run; the same command goes on" in err
    assert "Traceback" not in err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted"
    frames = md.load(tmp_path / "run" / "rep_0000.xtc", top=tmp_path / "run" / "topology.pdb")
    assert frames.time == pytest.approx(0.1 * (frames.time / 0.1).round(), abs=1e-3)
