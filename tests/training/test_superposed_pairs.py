"""Pairs superposed and mirrored: what they keep, what they change, and what goes with them."""

from itertools import pairwise

import pytest
import torch

from tito_fast.data.pairs import PairSampler
from tito_fast.data.store import open_store
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.ops import ot_couple
from tito_fast.training.batches import TRAIN_USE, VALIDATION_USE, BatchSource
from tito_fast.training.starting_model import warn_about

MODEL = {"vector_start": "condition", "has_displacement": True}


def drawn_with(make_config, *, use=TRAIN_USE, part=None, **data):
    config = make_config(data={"coupling": "none", **data}, model=MODEL)
    store = open_store(config.data.store)
    model = TitoModel.create(config.model, ModelInfo(length_unit_nm=0.2), seed=0)
    sampler = PairSampler(store, split=config.data.train_split, max_lag_ps=10.0)
    source = BatchSource(store, sampler, model, config=config, use=use)
    return source.draw(12, step=3, part=part)


def rows_of(drawn):
    ptr = drawn.batch.batch_ptr
    return [slice(int(a), int(b)) for a, b in pairwise(ptr)]


def test_superposed_pairs_differ_by_a_proper_rotation_that_cannot_be_bettered(make_config):
    plain, superposed = drawn_with(make_config), drawn_with(make_config, superpose=True)
    torch.testing.assert_close(superposed.scaled_current, plain.scaled_current, rtol=0, atol=0)
    again = ot_couple(
        superposed.x_1, superposed.scaled_current, batch_ptr=plain.batch.batch_ptr, plan="r"
    )
    torch.testing.assert_close(again, superposed.x_1, rtol=0, atol=1e-5)
    for rows in rows_of(plain):
        before, after = plain.x_1[rows], superposed.x_1[rows]
        torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before))
        if len(before) > 3:
            # A reflection would change the sign of the volume of four atoms.
            volume = [torch.linalg.det((x[1:4] - x[:1]).double()) for x in (before, after)]
            torch.testing.assert_close(volume[0], volume[1], rtol=1e-3, atol=1e-6)


def test_mirrored_pairs_are_reflected_whole_or_left_alone(make_config):
    plain, mirrored = drawn_with(make_config), drawn_with(make_config, mirror=True)
    signs = set()
    for rows in rows_of(plain):
        current, x_1 = plain.scaled_current[rows], plain.x_1[rows]
        sign = 1.0 if torch.equal(mirrored.scaled_current[rows], current) else -1.0
        signs.add(sign)
        assert torch.equal(mirrored.scaled_current[rows], sign * current)
        assert torch.equal(mirrored.x_1[rows], sign * x_1)
    assert signs == {1.0, -1.0}
    assert torch.equal(mirrored.x_0, plain.x_0)


def test_shares_of_a_step_hold_the_same_pairs(make_config):
    whole = drawn_with(make_config, mirror=True, superpose=True)
    part = drawn_with(make_config, mirror=True, superpose=True, part=slice(5, 12))
    n_atoms = part.x_1.shape[0]
    assert torch.equal(part.scaled_current, whole.scaled_current[-n_atoms:])
    torch.testing.assert_close(part.x_1, whole.x_1[-n_atoms:], rtol=0, atol=1e-6)


def test_validation_pairs_are_not_mirrored(make_config):
    plain = drawn_with(make_config, use=VALIDATION_USE)
    mirrored = drawn_with(make_config, use=VALIDATION_USE, mirror=True)
    assert torch.equal(plain.x_1, mirrored.x_1)


def test_a_base_sample_turned_onto_a_superposed_target_is_refused(make_config):
    with pytest.raises(ValueError, match=r"data.coupling: expected none with data.superpose"):
        make_config(data={"coupling": "r", "superpose": True}, model=MODEL)


def test_coupling_r_with_the_conditions_vectors_warns(make_config):
    config = make_config(data={"coupling": "r"}, model=MODEL)
    with pytest.warns(UserWarning, match="sampling cannot reproduce"):
        warn_about(config)


def test_a_displacement_needs_the_conditions_vectors():
    with pytest.raises(ValueError, match="has_displacement: expected vector_start 'condition'"):
        TitoConfig(has_displacement=True, vector_start="zeros")


def test_facts_of_models_without_superposition_say_nothing_of_it():
    assert "is_superposed" not in ModelInfo(length_unit_nm=0.2).to_dict()
    info = ModelInfo(length_unit_nm=0.2, is_superposed=True)
    assert ModelInfo.from_dict(info.to_dict()) == info
