"""Train and sample generative surrogates of molecular dynamics.

Public names resolve on first use, so that importing the package costs next to nothing and needs no GPU, no compiler
and no optional package.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tito_fast.analysis.evaluation import Evaluation, evaluate
    from tito_fast.analysis.evaluation_config import EvaluationConfig
    from tito_fast.data.molecule import Molecule
    from tito_fast.data.readers import ReadOptions, read_molecule
    from tito_fast.data.store import open_store
    from tito_fast.environment import info
    from tito_fast.errors import BackendUnavailableError, CapacityError, NonFiniteError
    from tito_fast.models.load import load_model, save_model
    from tito_fast.models.tito.config import ModelInfo, TitoConfig
    from tito_fast.models.tito.model import TitoModel
    from tito_fast.rollout.config import RolloutConfig
    from tito_fast.rollout.sample import sample
    from tito_fast.training.config import TrainingConfig, read_training_config
    from tito_fast.training.loop import train

__version__ = "0.1.0"

_HOME = {
    "BackendUnavailableError": "tito_fast.errors",
    "CapacityError": "tito_fast.errors",
    "Evaluation": "tito_fast.analysis.evaluation",
    "EvaluationConfig": "tito_fast.analysis.evaluation_config",
    "ModelInfo": "tito_fast.models.tito.config",
    "Molecule": "tito_fast.data.molecule",
    "NonFiniteError": "tito_fast.errors",
    "ReadOptions": "tito_fast.data.readers",
    "RolloutConfig": "tito_fast.rollout.config",
    "TitoConfig": "tito_fast.models.tito.config",
    "TitoModel": "tito_fast.models.tito.model",
    "TrainingConfig": "tito_fast.training.config",
    "evaluate": "tito_fast.analysis.evaluation",
    "info": "tito_fast.environment",
    "load_model": "tito_fast.models.load",
    "open_store": "tito_fast.data.store",
    "read_molecule": "tito_fast.data.readers",
    "read_training_config": "tito_fast.training.config",
    "sample": "tito_fast.rollout.sample",
    "save_model": "tito_fast.models.load",
    "train": "tito_fast.training.loop",
}

__all__ = [
    "BackendUnavailableError",
    "CapacityError",
    "Evaluation",
    "EvaluationConfig",
    "ModelInfo",
    "Molecule",
    "NonFiniteError",
    "ReadOptions",
    "RolloutConfig",
    "TitoConfig",
    "TitoModel",
    "TrainingConfig",
    "evaluate",
    "info",
    "load_model",
    "open_store",
    "read_molecule",
    "read_training_config",
    "sample",
    "save_model",
    "train",
]


def __getattr__(name: str) -> object:
    """Import a public name's module when the name is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'tito_fast' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted([*__all__, "__version__"])
