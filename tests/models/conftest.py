import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[1] / "fixtures" / "checkpoints" / "released.py"


@pytest.fixture(scope="session")
def released():
    """The module that writes tiny released checkpoints."""
    spec = importlib.util.spec_from_file_location("released_fixture", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ckpt(released, tmp_path):
    """A released checkpoint with F = 8, 1 + 2 layers."""
    content = released.lightning_content(released.released_module(released.CONFIG))
    return released.write_released(tmp_path / "tiny.ckpt", content)
