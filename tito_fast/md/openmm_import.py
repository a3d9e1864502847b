"""The optional package OpenMM, with a sentence where it is missing."""

from types import ModuleType


def import_openmm() -> ModuleType:
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
