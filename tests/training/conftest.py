"""A store of three small molecules and settings of a run that takes a second."""

import numpy as np
import pytest
import torch

from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.training.config import TrainingConfig

SIZES = (3, 5, 8)
N_FRAMES = 40


@pytest.fixture(autouse=True)
def one_thread():
    """Let sums have one order on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_store(path, molecules, *, splits=("train", "val"), temperature_k=300.0, seed=0):
    """Write a wiggling trajectory of every molecule in every split, 1 ps between frames."""
    rng = np.random.default_rng(seed)
    with StoreWriter(path, converter="test", source_name="test") as writer:
        for molecule in molecules:
            index = writer.add_molecule(molecule)
            for split in splits:
                steps = 0.02 * rng.standard_normal((N_FRAMES, molecule.n_atoms, 3))
                writer.add_trajectory(
                    index,
                    [Frames(positions=molecule.positions + steps.cumsum(axis=0))],
                    name=f"{molecule.name}-{split}",
                    split=split,
                    frame_interval_ps=1.0,
                    temperature_k=temperature_k,
                )
    return path


@pytest.fixture
def make_store(tmp_path, make_molecule):
    def make(name="store", sizes=SIZES, **options):
        molecules = [make_molecule(size, seed=size) for size in sizes]
        return write_store(tmp_path / name, molecules, **options)

    return make


@pytest.fixture
def store_path(make_store):
    return make_store()


@pytest.fixture
def make_config(tmp_path, store_path):
    """Return a function that gives the settings of a tiny run; groups are merged into the defaults."""

    def make(*, data=None, model=None, optimizer=None, **settings):
        values = {
            "out": str(tmp_path / "run"),
            "n_steps": 6,
            "batch_size": 4,
            "device": "cpu",
            "log_every": 1,
            "validate_every": 3,
            "checkpoint_every": 3,
            "n_validation_pairs": 6,
            "data": {"store": str(store_path), **(data or {})},
            "model": {
                "n_features": 8,
                "n_embedding_layers": 2,
                "n_model_layers": 1,
                "max_lag_ps": 10.0,
                **(model or {}),
            },
            "optimizer": {"n_warmup_steps": 2, **(optimizer or {})},
            **settings,
        }
        return TrainingConfig.from_dict(values)

    return make
