import json

import pytest

from tito_fast.reproduce.experiments import draw_reproduction, reproduce

KEYS = {
    "prinz-bopito": {"correlations", "mean_errors", "factors", "equilibrium", "ranges"},
    "prinz-data": {"correlations", "gap", "single_start"},
    "prinz-interpolate": {"fits", "timescale_frames", "model_correlations"},
}


@pytest.mark.parametrize("experiment", KEYS)
def test_an_experiment_leaves_numbers_a_figure_and_a_table(experiment, tmp_path):
    said = []
    result = reproduce(experiment, tmp_path, scale="quick", seeds=(0, 1), say=said.append)
    numbers = json.loads((tmp_path / f"{experiment}.json").read_text())
    assert numbers == json.loads(json.dumps(result.numbers))
    assert numbers["format_version"] == 1
    assert numbers["seeds"] == [0, 1]
    assert numbers["results"].keys() >= KEYS[experiment]
    assert (tmp_path / f"{experiment}.png").read_bytes().startswith(b"\x89PNG")
    assert len(result.table.splitlines()) > 2
    assert said
    again = reproduce(experiment, tmp_path, scale="quick", seeds=(0, 1))
    assert again.numbers["results"] == numbers["results"]


def test_numbers_of_another_version_are_not_drawn(tmp_path):
    with pytest.raises(ValueError, match="numbers: expected format_version 1, got 2"):
        draw_reproduction({"format_version": 2}, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"experiment": "ala3"}, "experiment: expected one of prinz-data, .*, got 'ala3'"),
        ({"scale": "huge"}, "scale: expected one of quick, default, paper, got 'huge'"),
        ({"seeds": ()}, "seeds: expected different numbers of zero or more, got none"),
        ({"data": "store"}, "data: expected none for prinz-data, got store"),
        ({"seeds": (1, 1)}, "seeds: expected different numbers of zero or more, got 1, 1"),
    ],
)
def test_arguments_are_checked(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        reproduce(**({"experiment": "prinz-data", "out": tmp_path} | arguments))
