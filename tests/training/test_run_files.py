from pathlib import Path

import pytest
import torch
import yaml

from tito_fast.training.run_files import LogRow, RunFiles, RunState


@pytest.fixture
def open_run(make_config):
    opened = []

    def open_files(*, overwrite=False, **settings):
        config = make_config(**settings)
        files = RunFiles.open(Path(config.out), config, overwrite=overwrite)
        opened.append(files)
        return files

    yield open_files
    for files in opened:
        files.close()


def state(step, **fields):
    return RunState(
        network={"w": torch.full((100,), float(step))}, optimizer={}, average={}, step=step,
        **{"best": 0.5, **fields},
    )  # fmt: skip


def row(step):
    return LogRow(step, 0.1 + step, None, 1e-3, 2.0, 10.0)


def test_the_state_is_read_back(open_run):
    files = open_run()
    assert files.load_state(device=torch.device("cpu")) is None
    files.save_state(state(7, info={"elements": (1, 6)}))
    found = files.load_state(device=torch.device("cpu"))
    assert (found.step, found.best, found.info) == (7, 0.5, {"elements": (1, 6)})
    assert torch.equal(found.network["w"], torch.full((100,), 7.0))


def test_a_state_of_the_first_version_is_read_without_its_best_loss(open_run):
    files = open_run()
    keys = ("network", "optimizer", "average", "step", "best")
    torch.save({key: getattr(state(7), key) for key in keys}, files.path / "state.pt")
    found = files.load_state(device=torch.device("cpu"))
    assert (found.step, found.best, found.info) == (7, None, None)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "newer"])
def test_a_damaged_state_is_refused(open_run, damage):
    files = open_run()
    files.save_state(state(7))
    path = files.path / "state.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-300])
    elif damage == "foreign":
        torch.save({"weights": 1}, path)
    else:
        torch.save({**state(7).to_dict(), "format_version": 3}, path)
    with pytest.raises(ValueError, match="expected the state of a training run, got a damaged"):
        files.load_state(device=torch.device("cpu"))


def test_the_log_is_cut_back_to_the_state_and_torn_lines_go(open_run):
    files = open_run()
    for step in (1, 2, 3):
        files.log(row(step))
    log = files.path / "log.csv"
    whole = log.read_text()
    log.write_text(whole + "4,0.1")
    files.cut_log(2)
    assert log.read_text().splitlines() == whole.splitlines()[:3]
    files.log(row(3))
    assert log.read_text() == whole


def test_an_empty_log_gets_its_head(open_run):
    files = open_run()
    (files.path / "log.csv").write_text("")
    files.cut_log(0)
    files.log(row(1))
    lines = (files.path / "log.csv").read_text().split()
    assert lines[-2:] == [",".join(LogRow._fields), "1,1.1,,0.001,2.0,10.0"]


def test_a_full_disk_keeps_the_last_good_state(open_run, file_size_limit):
    files = open_run()
    files.save_state(state(7))
    with (
        file_size_limit(1000),
        pytest.raises(
            OSError,
            match=r"state.pt: cannot be written: File too large; the last good state, of step 7",
        ),
    ):
        files.save_state(state(8))
    (files.path / "log.csv").write_text("x" * 990)
    with (
        file_size_limit(1000),
        pytest.raises(OSError, match=r"log.csv: cannot be written: .*same command again"),
    ):
        files.log(row(8))
    assert files.load_state(device=torch.device("cpu")).step == 7
    assert not list(files.path.glob("*.new"))


def test_two_processes_cannot_work_on_one_run(open_run):
    files = open_run()
    with pytest.raises(RuntimeError, match=r"out: expected a run that nothing works on, got .*run"):
        open_run()
    files.close()
    open_run()


def test_settings_that_contradict_the_run_are_refused_with_both_values(open_run):
    files = open_run()
    files.save_state(state(7))
    files.close()
    with pytest.raises(ValueError, match=r"batch_size: expected 4, as the run in .* has it, got 5"):
        open_run(batch_size=5)
    with pytest.raises(ValueError, match=r"model.n_features: expected 8, .* got 10"):
        open_run(model={"n_features": 10})
    kept = yaml.safe_load((files.path / "config.yaml").read_text())
    assert kept["batch_size"] == 4


def test_settings_that_may_change_do(open_run):
    files = open_run()
    files.save_state(state(7))
    files.close()
    open_run(n_steps=50, devices=2, optimizer={"learning_rate": 1e-5})
    kept = yaml.safe_load((files.path / "config.yaml").read_text())
    assert kept["n_steps"] == 50


def test_anything_may_change_before_a_state_is_saved(open_run):
    open_run().close()
    open_run(batch_size=5)


def test_overwriting_removes_what_was_trained(open_run):
    files = open_run()
    files.save_state(state(7))
    files.log(row(1))
    files.close()
    files = open_run(batch_size=5, overwrite=True)
    assert files.load_state(device=torch.device("cpu")) is None
    assert sorted(p.name for p in files.path.iterdir()) == [".lock", "config.yaml"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_left_alone(open_run, tmp_path, overwrite):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(
        ValueError, match=r"out: expected an empty directory or a training run, .*tex"
    ):
        open_run(overwrite=overwrite)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_run_that_was_killed_at_its_start_is_taken_up(open_run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml.new").write_text("out: /x")
    (tmp_path / "run" / ".lock").write_text("")
    files = open_run()
    assert (files.path / "config.yaml").is_file()


def test_a_file_is_no_run(open_run, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ValueError, match="out: expected a directory, got the file"):
        open_run()


def test_a_folder_that_cannot_be_made_is_one_sentence(open_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written: .*; nothing was saved yet"):
        open_run(out=str(tmp_path / "file" / "run"))
