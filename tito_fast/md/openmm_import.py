"""The optional package OpenMM, with a sentence where it is missing."""

from typing import Any


def import_openmm() -> Any:  # noqa: ANN401  OpenMM has no types
    """Return the module ``openmm``, its ``app`` and ``unit`` loaded.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        import openmm  # noqa: PLC0415  optional
        import openmm.app  # noqa: PLC0415  optional
        import openmm.unit  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImportError(
            f"openmm: expected the package for molecular dynamics, got none ({error}); "
            "install it with pip install 'tito_fast[md]'"
        ) from error
    return openmm
