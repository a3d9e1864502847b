"""Samples of equilibrium flows: their densities, their seeds, both networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tito_fast.data.readers import read_molecule
from tito_fast.flows.density import log_density_in_nm, log_likelihood
from tito_fast.flows.divergence import ExactDivergence
from tito_fast.models import save_model
from tito_fast.models.equilibrium import equilibrium_field, load_equilibrium_model
from tito_fast.models.tbg.checkpoint import tbg_model_hash, write_tbg_checkpoint
from tito_fast.models.tbg.config import TbgConfig
from tito_fast.models.tbg.model import TbgModel
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel
from tito_fast.rollout.equilibrium import EquilibriumSampling, sample_equilibrium
from tito_fast.solvers import DormandPrince

INFO = ModelInfo(length_unit_nm=0.05, coupling="none", flow_sigma=0.01, base_std=0.8)
TITO = TitoConfig(
    n_features=8,
    n_embedding_layers=0,
    n_model_layers=1,
    is_conditional=False,
    vector_start="zeros",
)
LOOSE = DormandPrince(relative_tolerance=1e-3, absolute_tolerance=1e-3)


@pytest.fixture(scope="module")
def water():
    return read_molecule("O")


@pytest.fixture(scope="module")
def tbg():
    config = TbgConfig(encoding="element", n_features=6, n_layers=2)
    model = TbgModel.create(config, INFO, seed=2).to(dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if "step_out" in name:
                parameter.mul_(500.0)
    return model


@pytest.fixture(scope="module")
def tito():
    return TitoModel.create(TITO, INFO, seed=3).to(dtype=torch.float64)


def _sample(model, molecule, **options):
    return sample_equilibrium(
        model, molecule, EquilibriumSampling(**{"n_samples": 3, "solver": LOOSE, **options})
    )


@pytest.mark.parametrize("which", ["tbg", "tito"])
def test_the_density_is_that_of_the_samples_in_nm(which, water, request):
    model = request.getfixturevalue(which)
    solver = DormandPrince(relative_tolerance=1e-6, absolute_tolerance=1e-6)
    found = _sample(model, water, n_samples=2, log_density=True, solver=solver)
    x_1 = torch.from_numpy(found.positions.astype(np.float64)).view(-1, 3) / INFO.length_unit_nm
    batch_ptr = torch.tensor([0, 3, 6])
    back = log_likelihood(
        equilibrium_field(model, [water, water]),
        x_1,
        batch_ptr=batch_ptr,
        base_std=INFO.base_std,
        solver=solver,
        method=ExactDivergence(),
    )
    expected = log_density_in_nm(
        back.log_density, batch_ptr=batch_ptr, length_unit_nm=INFO.length_unit_nm
    )
    # Each integration is off by some hundred tolerances; positions were rounded to float32 besides.
    np.testing.assert_allclose(found.log_density, expected.numpy(), atol=1e-3)
    assert found.log_density[0] != found.log_density[1]


def test_samples_follow_from_seed_and_number(tbg, water):
    whole = _sample(tbg, water, n_samples=5)
    parts = _sample(tbg, water, n_samples=5, batch_size=2)
    np.testing.assert_allclose(parts.positions, whole.positions, atol=1e-6)
    assert np.abs(_sample(tbg, water, seed=1).positions - whole.positions[:3]).max() > 1e-3
    other = replace(water, name="other")
    assert np.abs(_sample(tbg, other).positions - whole.positions[:3]).max() > 1e-3
    assert np.abs(whole.positions.mean(axis=1)).max() < 1e-6
    assert whole.model_hash == tbg_model_hash(tbg)
    assert (whole.log_density, whole.seed) == (None, 0)


def test_models_of_both_networks_are_read(tbg, tito, water, tmp_path):
    write_tbg_checkpoint(tbg, tmp_path / "tbg.safetensors")
    save_model(tito, tmp_path / "tito.safetensors")
    for name, model in (("tbg", tbg), ("tito", tito)):
        found = load_equilibrium_model(tmp_path / f"{name}.safetensors")
        np.testing.assert_array_equal(
            _sample(found, water).positions, _sample(model, water).positions
        )
    with pytest.raises(FileNotFoundError):
        load_equilibrium_model(tmp_path / "none.safetensors")


def test_models_that_are_no_equilibrium_flows_are_refused(water, tmp_path):
    conditional = TitoModel.create(TitoConfig(n_features=4, n_model_layers=1), INFO, seed=0)
    save_model(conditional, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="expected an equilibrium flow, got one of transitions"):
        load_equilibrium_model(tmp_path / "model.safetensors")
    noisy = TitoModel.create(replace(TITO, vector_start="randn"), INFO, seed=0)
    with pytest.raises(ValueError, match="expected vectors that start as zeros, got randn"):
        equilibrium_field(noisy, [water])
    warm = TitoModel.create(replace(TITO, has_temperature=True), INFO, seed=0)
    with pytest.raises(ValueError, match="temperature_k: expected a temperature for this model"):
        equilibrium_field(warm, [water])
    x_t = torch.rand(3, 3)
    cold, hot = (
        equilibrium_field(warm, [water], temperature_k=value)(x_t, torch.zeros(1))
        for value in (300.0, 900.0)
    )
    assert not torch.equal(cold, hot)


def test_elements_that_a_model_never_saw_are_refused(tito, tbg, water):
    for model in (tito, tbg):
        seen = type(model)(model.config, replace(INFO, elements=(1, 6)), model.network)
        with pytest.raises(ValueError, match="molecule 'O': element 8 was never seen"):
            equilibrium_field(seen, [water])


def test_numbers_out_of_range_are_refused():
    for name, value in (("n_samples", 0), ("seed", -1), ("batch_size", 0)):
        with pytest.raises(ValueError, match=f"{name}: expected at least"):
            EquilibriumSampling(**{"n_samples": 1, name: value})
