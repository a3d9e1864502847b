from tito_fast.cli.main import run


def test_an_experiment_runs_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "numbers"
    arguments = ["reproduce", "prinz-interpolate", "--scale", "quick", "--seeds", "3"]
    assert run([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "held-back N" in printed.out
    assert "BoPITO models" in printed.err
    assert {path.name for path in out.iterdir()} == {
        "prinz-interpolate.json",
        "prinz-interpolate.png",
    }


def test_wrong_seeds_are_one_sentence(tmp_path, capsys):
    arguments = ["reproduce", "prinz-data", "--scale", "quick", "--out", str(tmp_path)]
    assert run([*arguments, "--seeds", "one"]) == 1
    assert "seeds: expected numbers with commas between, got 'one'" in capsys.readouterr().err
