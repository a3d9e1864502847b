"""The examples in docstrings run, and the public names are there."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import tito_fast

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(tito_fast.__path__, prefix="tito_fast.")
    if not module.name.endswith(("__main__", "._C"))
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_every_public_name_resolves():
    for name in tito_fast.__all__:
        assert getattr(tito_fast, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = tito_fast.nonsense


def test_importing_the_package_imports_nothing_slow_or_optional():
    code = (
        "import sys, tito_fast; "
        "slow = {'torch', 'e3nn', 'rdkit', 'matplotlib', 'deeptime', 'mdtraj', 'triton', 'openmm', "
        "'lightning_fabric', 'tito_fast._C'}; "
        "print(sorted(slow & set(sys.modules)))"
    )
    found = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
