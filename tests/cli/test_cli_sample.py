"""``tito-fast sample`` and the command's frame: what users type, and what they are told."""

import json
import subprocess
import sys
from dataclasses import replace

import mdtraj as md
import pytest

from tito_fast.cli.main import run
from tito_fast.models.load import save_model
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

NETWORK = TitoConfig(n_features=8, n_embedding_layers=2, n_model_layers=1, max_lag_ps=100.0)
INFO = ModelInfo(
    length_unit_nm=0.2, elements=(1, 6, 7, 8, 9), bond_types=(0, 1, 2, 3), min_lag_ps=1.0
)


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(TitoModel.create(NETWORK, INFO, seed=0), path)
    return str(path)


@pytest.fixture
def sample(model_file, tmp_path, capsys, monkeypatch):
    """Run the command in an empty folder; return status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, model=model_file, **changed):
        options = {"lag": "100ps", "n-steps": 2, "ode-steps": 2, "out": "run"} | changed
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        status = run(["sample", *arguments, "--model", model, *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_a_smiles_becomes_trajectories_and_a_picture(sample, tmp_path):
    status, out, err = sample("CCO", replicas=2)
    assert status == 0
    assert "2 replicas of 3 frames" in out
    assert "start structure" in err
    trajectory = md.load(tmp_path / "run" / "rep_0001.xtc", top=tmp_path / "run" / "topology.pdb")
    assert trajectory.time.tolist() == [0, 100, 200]
    assert trajectory.n_atoms == 9
    assert (tmp_path / "run" / "rollout.png").read_bytes().startswith(b"\x89PNG")


def test_underscores_and_hyphens_are_both_accepted(sample, tmp_path):
    assert sample("CO", **{"batch_size": 1, "base-std": 0.9})[0] == 0
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["batch_size"] == 1
    assert settings["base_std"] == 0.9


def test_several_molecules_get_a_folder_each(sample, tmp_path):
    status, out, _ = sample("CO", "C/C=C/C", "--no-figure")
    assert status == 0
    assert out.count("1 replicas of 3 frames") == 2
    assert (tmp_path / "run" / "C_C=C_C" / "rep_0000.xtc").is_file()


def test_without_out_the_folder_has_the_molecules_name(sample, model_file, tmp_path):
    arguments = ["sample", "CO", "--model", model_file, "--lag", "10ps", "--n-steps", "1"]
    assert run([*arguments, "--ode-steps", "1", "--no-figure"]) == 0
    assert (tmp_path / "rollout_CO" / "rep_0000.xtc").is_file()


def test_lags_are_cycled_and_a_short_one_warns(sample, tmp_path):
    status, _, err = sample("CO", lag="100ps,0.5ps", **{"n-steps": 3})
    assert status == 0
    assert "warning: lag 0.5 ps is below the shortest" in err
    times = json.loads((tmp_path / "run" / "run.json").read_text())["times_ps"]
    assert times == [0, 100, 100.5, 200.5]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lag": "-5ps"}, "lag: expected a time above zero, got '-5ps'"),
        ({"lag": "100"}, "lag: expected a time with a unit"),
        ({"lag": "1ns"}, "nest it: 10 steps of 100 ps each"),
        ({"replicas": 0}, "replicas: expected at least 1, got 0"),
        ({"n-steps": 0}, "n_steps: expected at least 1, got 0"),
        (
            {"solver": "dopri5"},
            "solver: expected one of euler, midpoint, heun, rk4, ab2, ddpm, dpm-solver++, got 'dopri5'",
        ),
        ({"backend": "triton"}, "backend='triton': expected 32, 64, 128 features, got"),
        ({"device": "cuda:99"}, "device: expected one of"),
        ({"batch-size": "many"}, "batch_size: expected auto or a number of replicas, got 'many'"),
        ({"format": "pdb"}, "format: expected one of xtc, dcd, h5, got 'pdb'"),
        ({"check": "mend"}, "check: expected one of off, mark, drop, got 'mend'"),
        (
            {"check": "drop", "format": "dcd"},
            "check: expected off or mark with the format dcd, which has no times of single frames",
        ),
        (
            {"check": "mark", "check-criteria": "bonds,energy"},
            "check_criteria: expected one of bonds, clashes, stereo, got 'energy'",
        ),
        (
            {"check-criteria": "bonds"},
            "check_criteria: expected none while check is off, got bonds; set check to mark or drop",
        ),
        (
            {"model": "nothing.safetensors"},
            "model: expected an existing file, got nothing.safetensors",
        ),
        ({"model": "bigmol"}, "model: expected a file or a shipped model (smallmol), got 'bigmol'"),
        ({"start": "nothing.xtc"}, "start: no such file: nothing.xtc"),
        ({"temperature": 300}, "temperature_k: expected None, for this model has no temperature"),
        ({"units": "mdqm9"}, "units"),
    ],
)
def test_bad_options_end_in_one_sentence(sample, tmp_path, changed, message):
    status, _, err = sample("CO", **changed)
    assert status == 1
    assert message in err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert not list(tmp_path.glob("run/rep_*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing.pdb", "no such file"),
        ("C1CC", "C1CC"),
        ("CCl", "element 17 was never seen by this model, which knows 1, 6, 7, 8, 9"),
        ("CC.CC", "fragments"),
        ("C[NH3+]", "formal charge 1 was never seen"),
        ("[CH3]", "radical"),
        ("c1ccccc1", "bond type 12 was never seen"),
    ],
)
def test_bad_molecules_end_in_one_sentence(sample, text, message):
    status, _, err = sample(text)
    assert status == 1
    assert message in err
    assert "Traceback" not in err


def test_one_name_does_not_fit_several_molecules(sample):
    status, _, err = sample("CO", "CCO", name="a")
    assert status == 1
    assert "name: expected one input to name, got 2 inputs" in err


def test_elements_restrict_a_released_checkpoint(sample, ckpt):
    status, _, err = sample("CO", model=str(ckpt), units="0.2", elements="H,C")
    assert status == 1
    assert "element 8 was never seen by this model, which knows 1, 6" in err
    assert sample("CO", "--no-figure", model=str(ckpt), units="0.2", elements="H,C,O")[0] == 0


def test_a_changed_seed_is_refused_with_both_values(sample):
    assert sample("CO")[0] == 0
    status, _, err = sample("CO", seed=7)
    assert status == 1
    assert "seed: expected 0 as in" in err
    assert "got 7" in err
    assert sample("CO", "--overwrite", seed=7)[0] == 0


def test_unsound_frames_are_dropped_and_counted_in_the_last_line(sample, tmp_path):
    options = {"check": "drop", "check-criteria": "clashes,stereo", "n-steps": 4}
    status, out, _ = sample("C[C@H](N)C(=O)O", **options)
    assert status == 0
    check = json.loads((tmp_path / "run" / "validity.json").read_text())["check"]
    assert check["flag_bits"] == {"clashes": 2, "stereo": 4}
    counts = check["all"]
    n_left = 5 - counts["unsound_frames"]
    assert (
        f"1 replicas of {n_left} frames, {counts['unsound_frames']} of 4 frames dropped as unsound "
        f"(clashes {counts['clashes']}, stereo {counts['stereo']})"
    ) in out
    status, _, err = sample("C[C@H](N)C(=O)O", check="mark")
    assert status == 1
    assert "check: expected 'drop' as in" in err
    assert "got 'mark'" in err


def test_a_truncated_model_file_is_refused(sample, model_file, tmp_path):
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    status, _, err = sample("CO", model=str(tmp_path / "cut.safetensors"))
    assert status == 1
    assert "cut.safetensors" in err


def test_a_lost_replica_ends_in_a_non_zero_status(sample, tmp_path):
    wild = TitoModel.create(replace(NETWORK), INFO, seed=0)
    wild.network.velocity.readout.v.weight.data.fill_(float("inf"))
    for parameter in wild.network.velocity.readout.mlp.parameters():
        parameter.data.fill_(1e30)
    wild.network.velocity.readout.v.weight.data.fill_(1e30)
    save_model(wild, tmp_path / "wild.safetensors")
    status, _, err = sample("CO", "--no-figure", model=str(tmp_path / "wild.safetensors"))
    assert status == 1
    assert "replica 0 became NaN or infinite at step 1" in err


def test_ctrl_c_says_how_to_go_on(sample, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tito_fast.rollout.chunk.transition", stop)
    status, _, err = sample("CO")
    assert status == 130
    assert "interrupted: what was sampled is in run; the same command goes on" in err


def test_a_full_disk_is_named_and_loses_nothing(model_file, tmp_path):
    command = [
        *(
            sys.executable,
            "-P",
            "-c",
            "from tito_fast.cli.main import main; main()",
            "sample",
            "CO",
        ),
        *("--model", model_file, "--lag", "10ps", "--n-steps", "60", "--ode-steps", "1"),
        *("--out", "run", "--no-figure"),
    ]

    def limit():
        import resource  # noqa: PLC0415  in the child only
        import signal  # noqa: PLC0415

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))

    full = subprocess.run(  # noqa: S603  our own interpreter, no threads yet
        command, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert full.returncode == 1
    assert full.stderr.count("error: ") == 1
    assert "Traceback" not in full.stderr
    again = subprocess.run(  # noqa: S603
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    trajectory = md.load(tmp_path / "run" / "rep_0000.xtc", top=tmp_path / "run" / "topology.pdb")
    assert trajectory.time.tolist() == [10.0 * frame for frame in range(61)]


def test_usage_errors_and_help():
    assert run(["sample", "CO", "--lag", "1ps"]) == 2
    assert run(["nonsense"]) == 2
    assert run(["--version"]) == 0


def test_info_says_what_runs_here(capsys):
    assert run(["info"]) == 0
    out = capsys.readouterr().out
    assert "ode_step (native, cpu)" in out
    assert "eager" in out
    assert "torch" in out


def test_help_imports_neither_torch_nor_other_slow_packages():
    code = (
        "import sys; from tito_fast.cli.main import run; run(['--help']); "
        "print(sorted({'torch', 'mdtraj', 'rdkit', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"
    assert "sample" in found.stdout
