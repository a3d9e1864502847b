"""Models: networks, and reading and writing them.

The functions load torch with their first use, not with this package.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tito_fast.models.load import load_model, save_model

__all__ = ["load_model", "save_model"]


def __getattr__(name: str) -> object:
    """Import ``load_model`` or ``save_model`` when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tito_fast.models import load  # noqa: PLC0415  imports torch

    value: object = getattr(load, name)
    return value
