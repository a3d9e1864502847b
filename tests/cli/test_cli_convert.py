import pytest
import typer
from typer.testing import CliRunner

from tito_fast.cli.convert import convert
from tito_fast.models.checkpoint import model_hash
from tito_fast.models.load import load_model


def _run(*arguments):
    app = typer.Typer()
    app.command()(convert)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_converted_file_is_the_model_without_units(ckpt, tmp_path):
    destination = tmp_path / "a.safetensors"
    result = _run(ckpt, destination, "--units", "mdqm9")
    assert result.exit_code == 0, result.output
    expected = load_model(ckpt, units="mdqm9")
    found = load_model(destination)
    assert model_hash(found) == model_hash(expected)
    assert found.info == expected.info
    assert model_hash(expected) in result.output
    assert "F = 8, 1 + 2 layers, lags up to 1000 ps, 0.207541 nm" in result.output


def test_elements_restrict_a_number(ckpt, tmp_path):
    destination = tmp_path / "a.safetensors"
    result = _run(ckpt, destination, "--units", "0.25", "--elements", "H, C,N")
    assert "elements 1 6 7" in result.output
    assert load_model(destination).info.elements == (1, 6, 7)
    assert load_model(destination).info.length_unit_nm == 0.25


def test_existing_file_is_kept_unless_told(ckpt, tmp_path):
    destination = tmp_path / "a.safetensors"
    destination.write_text("precious")
    result = _run(ckpt, destination, "--units", "mdqm9")
    assert result.exit_code != 0
    assert isinstance(result.exception, ValueError)
    assert "which exists; add --overwrite" in str(result.exception)
    assert destination.read_text() == "precious"
    assert _run(ckpt, destination, "--units", "mdqm9", "--overwrite").exit_code == 0
    assert load_model(destination).config.n_features == 8


def test_ckpt_is_never_overwritten(ckpt):
    before = ckpt.read_bytes()
    result = _run(ckpt, ckpt, "--units", "mdqm9", "--overwrite")
    assert "expected another file than the source" in str(result.exception)
    assert ckpt.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--units", "bohr"), "units: expected mdqm9, timewarp or a number of nm"),
        (("--units", "mdqm9", "--elements", "H"), "elements: expected none with units mdqm9"),
        (("--units", "1", "--elements", "H,"), "elements: expected symbols such as"),
        (("--units", "1", "--elements", ""), "elements: expected symbols such as"),
        (("--units", "1", "--part", "both"), "part: expected one of"),
        (("--units", "1", "--part", "dynamic"), "part: expected None for a model that is not"),
        (("--units", "1", "--weights", "best"), "weights: expected one of"),
    ],
)
def test_bad_options_leave_nothing(ckpt, tmp_path, arguments, message):
    destination = tmp_path / "a.safetensors"
    result = _run(ckpt, destination, *arguments)
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.ckpt"]


def test_units_are_required(ckpt, tmp_path):
    result = _run(ckpt, tmp_path / "a.safetensors")
    assert result.exit_code == 2
    assert "--units" in result.output


def test_our_own_file_is_refused(ckpt, tmp_path):
    ours = tmp_path / "a.safetensors"
    _run(ckpt, ours, "--units", "mdqm9")
    result = _run(ours, tmp_path / "b.safetensors", "--units", "mdqm9")
    assert "needs no conversion" in str(result.exception)
    renamed = ours.rename(tmp_path / "a.ckpt")
    result = _run(renamed, tmp_path / "b.safetensors", "--units", "mdqm9")
    assert "needs no conversion" in str(result.exception)
    assert not (tmp_path / "b.safetensors").exists()


def test_missing_ckpt_and_folder_are_named(ckpt, tmp_path):
    result = _run(tmp_path / "none.ckpt", tmp_path / "a", "--units", "mdqm9")
    assert "model: expected an existing file" in str(result.exception)
    result = _run(ckpt, tmp_path / "none" / "a", "--units", "mdqm9")
    assert "expected an existing folder" in str(result.exception)
