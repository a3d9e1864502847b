from pathlib import Path

import pytest


@pytest.fixture
def molecules_dir():
    return Path(__file__).parents[2] / "fixtures" / "molecules"


@pytest.fixture
def write(tmp_path):
    """Write text to a named file and return its path."""

    def write_file(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def without():
    """Leave out the atom lines that a condition on the line selects, and all CONECT records."""

    def filtered(text, condition):
        lines = text.splitlines(keepends=True)
        is_atom = ("ATOM  ", "HETATM")
        return "".join(
            line
            for line in lines
            if not line.startswith("CONECT") and not (line.startswith(is_atom) and condition(line))
        )

    return filtered
