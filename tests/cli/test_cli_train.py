import os
import pty
import signal
import subprocess
import sys

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from tito_fast.cli.train import train
from tito_fast.data.convert.writer import Frames, StoreWriter


@pytest.fixture
def config_path(tmp_path, make_molecule):
    molecule = make_molecule(4)
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store", converter="test", source_name="test") as writer:
        writer.add_molecule(molecule)
        for split in ("train", "val"):
            wiggles = 0.02 * rng.standard_normal((20, 4, 3))
            frames = [Frames(positions=molecule.positions + wiggles)]
            writer.add_trajectory(0, frames, name=split, split=split, frame_interval_ps=1.0)
    settings = {
        "out": str(tmp_path / "run"),
        "n_steps": 4,
        "batch_size": 2,
        "device": "cpu",
        "validate_every": 2,
        "checkpoint_every": 2,
        "n_validation_pairs": 2,
        "data": {"store": str(tmp_path / "store")},
        "model": {"n_features": 8, "n_model_layers": 1, "max_lag_ps": 5.0},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def run(config_path):
    app = typer.Typer()
    app.command()(train)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(config_path), *arguments])

    return invoke


def test_a_run_prints_lines_and_where_the_model_is(run, tmp_path):
    result = run()
    assert result.exit_code == 0
    head, first, last, closing = result.output.splitlines()
    assert head == "step,train_loss,validation_loss,samples_per_s,remaining_s"
    assert first.startswith("1,")
    assert last.startswith("4,")
    assert [len(line.split(",")) for line in (first, last)] == [5, 5]
    assert closing.startswith(f"{tmp_path}/run/last.safetensors: 4 steps, loss ")
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_settings_of_the_command_line_win(run, tmp_path):
    result = run(
        "--set", "n_steps=3", "--set", f"out={tmp_path}/other", "--set", "data.coupling=none"
    )
    assert result.exit_code == 0
    kept = yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())
    assert (kept["n_steps"], kept["data"]["coupling"]) == (3, "none")


def test_a_finished_run_says_so_and_overwrite_starts_afresh(run, tmp_path):
    first = run()
    again = run()
    assert again.output == first.output.splitlines(keepends=True)[-1]
    state = tmp_path / "run" / "state.pt"
    before = state.stat().st_mtime_ns
    assert run("--overwrite").exit_code == 0
    assert state.stat().st_mtime_ns > before


def test_other_settings_on_a_run_are_refused(run):
    run()
    result = run("--set", "batch_size=3")
    assert isinstance(result.exception, ValueError)
    assert "batch_size: expected 2" in str(result.exception)


def test_an_unknown_setting_is_refused(run):
    result = run("--set", "nsteps=3")
    assert isinstance(result.exception, ValueError)
    assert "nsteps" in str(result.exception)


def test_an_interrupt_says_how_to_go_on_and_has_a_status_of_its_own(run, monkeypatch, tmp_path):
    true_echo = typer.echo

    def echo(text, **options):
        true_echo(text, **options)
        if text.startswith("1,"):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(typer, "echo", echo)
    stopped = run()
    monkeypatch.undo()
    assert stopped.exit_code == 130
    assert "training stopped after step 2 of 4; the state is saved in" in stopped.stderr
    assert "run the same command again to go on" in stopped.stderr
    assert (tmp_path / "run" / "state.pt").is_file()
    result = run()
    assert result.exit_code == 0
    assert result.output.splitlines()[1].startswith("3,")


def test_a_terminal_gets_a_bar(config_path):
    program = "import typer; from tito_fast.cli.train import train; typer.run(train)"
    leader, follower = pty.openpty()
    process = subprocess.Popen(  # noqa: S603  our own interpreter
        [sys.executable, "-P", "-c", program, str(config_path)],
        stdout=follower,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": "1",
            "TERM": "xterm",
            "COLUMNS": "150",
        },
    )
    os.close(follower)
    shown = b""
    try:
        while block := os.read(leader, 4096):
            shown += block
    # What a terminal without a writer gives on Linux.
    except OSError:
        pass
    os.close(leader)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    text = shown.decode()
    assert "4/4" in text
    for word in ("loss", "validation", "samples/s", "left"):
        assert word in text


def test_a_named_backend_trains_and_the_run_says_which_one_it_was(run, tmp_path):
    assert run("--backend", "eager").exit_code == 0
    settings = tmp_path / "run" / "config.yaml"
    assert settings.read_text().splitlines()[0] == "# backend eager"
    assert yaml.safe_load(settings.read_text())["backend"] == "eager"
    assert run("--set", "n_steps=5").exit_code == 0
    first_line = settings.read_text().splitlines()[0]
    assert first_line.startswith("# backend native, instruction set ")
    assert yaml.safe_load(settings.read_text())["backend"] == "auto"
