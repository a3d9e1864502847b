"""Divergences: exact in both modes, estimated without bias, one molecule at a time."""

import pytest
import torch

from tests.flows.flow_cases import N_ATOMS, PTR, SIZES, pair_field, positions, projection
from tito_fast.data.batch import MoleculeBatch
from tito_fast.flows import ExactDivergence, HutchinsonDivergence, velocity_and_divergence
from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

# Of torch itself, when the first forward derivative is taken.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

TIMES = torch.linspace(0.1, 0.9, len(SIZES), dtype=torch.float64)


def divergence(method=None, field=None, x_t=None, batch_ptr=PTR, times=TIMES):
    x_t = positions() if x_t is None else x_t
    field = field or pair_field(batch_ptr)
    return velocity_and_divergence(field, x_t, times, batch_ptr=batch_ptr, method=method)


def traces_of_jacobians():
    traces = []
    for molecule, (first, last) in enumerate(zip(PTR[:-1], PTR[1:], strict=True)):  # noqa: RUF007
        size = int(last - first)
        if size == 0:
            traces.append(0.0)
            continue
        alone = pair_field(torch.tensor([0, size]))
        time = TIMES[molecule : molecule + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda x, alone=alone, time=time: alone(x, time), positions()[first:last]
        )
        p = projection(size)
        traces.append(torch.trace(p @ jacobian.reshape(3 * size, 3 * size) @ p).item())
    return torch.tensor(traces, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("together", [1, 4])
def test_the_exact_divergence_is_the_trace_of_the_jacobian(mode, together):
    found = divergence(ExactDivergence(mode=mode, directions_per_pass=together))
    torch.testing.assert_close(found.divergence, traces_of_jacobians(), rtol=1e-12, atol=1e-12)


def test_the_velocity_has_no_mean():
    drifting = pair_field(PTR)
    found = divergence(field=lambda x, t: drifting(x, t) + 7.0)
    for part in found.velocity.split(SIZES):
        torch.testing.assert_close(part.sum(0), torch.zeros(3, dtype=torch.float64))
    still = divergence()
    torch.testing.assert_close(found.velocity, still.velocity)
    torch.testing.assert_close(found.divergence, still.divergence)


def test_a_field_of_the_center_of_mass_has_no_divergence():
    # v = mean(x) has trace 3, all of it along translations.
    found = velocity_and_divergence(
        lambda x, _: x.mean(0).expand(4, 3),
        positions(n_atoms=4),
        torch.zeros(1),
        batch_ptr=torch.tensor([0, 4]),
    )
    assert found.divergence.abs().max() < 1e-14


@pytest.mark.parametrize(
    ("law", "mode"), [("rademacher", "reverse"), ("normal", "reverse"), ("normal", "forward")]
)
def test_hutchinsons_estimate_has_no_bias(law, mode):
    exact = divergence().divergence
    estimates = torch.stack(
        [
            divergence(HutchinsonDivergence(seed=seed, law=law, mode=mode)).divergence
            for seed in range(120)
        ]
    )
    error = estimates.mean(0) - exact
    standard_error = estimates.std(0) / 120**0.5
    is_random = exact != 0
    assert (standard_error[is_random] > 1e-3).all()
    assert (error.abs() <= 4 * standard_error + 1e-12).all()


def test_more_probes_are_the_mean_of_several():
    variances = [
        torch.stack(
            [
                divergence(HutchinsonDivergence(seed=seed, n_probes=n)).divergence
                for seed in range(40)
            ]
        ).var(0)[3]
        for n in (1, 8)
    ]
    assert variances[0] / variances[1] == pytest.approx(8, rel=0.7)


def test_probes_follow_from_the_number_of_the_molecule():
    whole = divergence(HutchinsonDivergence(seed=5)).divergence
    last = divergence(
        HutchinsonDivergence(seed=5, first_molecule=3),
        x_t=positions()[3:],
        batch_ptr=PTR[3:] - 3,
        times=TIMES[3:],
    ).divergence
    assert torch.equal(whole[3:], last)
    other = divergence(HutchinsonDivergence(seed=6)).divergence
    assert not torch.equal(whole, other)


def tito_field(batch, x, backend, *, dtype=torch.float64):
    config = TitoConfig(n_features=8, n_embedding_layers=1, n_model_layers=2, vector_start="zeros")
    model = TitoModel.create(config, ModelInfo(length_unit_nm=1.0), seed=0).to(dtype=dtype)
    prepared = model.prepare(batch, backend=backend)
    with torch.enable_grad():  # the eager backend pads what it computes without gradients
        conditioning = model.condition(prepared, 1.1 * x)
    lags = torch.full((batch.n_molecules,), 100.0, dtype=dtype)
    vectors = torch.zeros(batch.n_atoms, 3, 8, dtype=dtype)
    return lambda x_t, time: model.velocity(
        prepared, conditioning, x_t, time, lags, vectors=vectors
    )


@pytest.mark.parametrize("backend", ["reference", "eager", "native"])
def test_the_network_has_a_divergence_on_every_backend(make_batch, backend):
    batch = make_batch(3, 4)
    x, times = positions(n_atoms=7), torch.tensor([0.3, 0.8], dtype=torch.float64)
    field = tito_field(batch, x, backend)
    found = velocity_and_divergence(field, x, times, batch_ptr=batch.batch_ptr).divergence
    step = 1e-5
    for molecule, atoms in enumerate((range(3), range(3, 7))):
        expected = 0.0
        for atom in atoms:
            for axis in range(3):
                moved = torch.zeros_like(x)
                moved[atom, axis] = step
                with torch.no_grad():
                    change = field(x + moved, times) - field(x - moved, times)
                expected += change[atom, axis].item() / (2 * step)
        assert found[molecule].item() == pytest.approx(expected, abs=1e-6)


def test_forward_derivatives_that_vanish_are_noticed(make_molecule):
    from tito_fast.flows.divergence import check_forward_mode  # noqa: PLC0415  of this test only

    batch = MoleculeBatch.from_molecules([make_molecule(3)])
    x, time = positions(n_atoms=3), torch.full((1,), 0.3, dtype=torch.float64)
    for backend in ("eager", "native"):
        field = tito_field(batch, x, backend)
        with pytest.raises(ValueError, match=r"mode: expected .*use mode='reverse'"):
            check_forward_mode(field, x, time, batch_ptr=batch.batch_ptr)
        with pytest.raises(ValueError, match=r"mode: expected .*use mode='reverse'"):
            divergence(ExactDivergence(mode="forward"), field, x, batch.batch_ptr, time)
    check_forward_mode(pair_field(PTR), positions(), TIMES, batch_ptr=PTR)


def test_nothing_has_no_divergence():
    found = velocity_and_divergence(
        lambda x, _: x, torch.zeros(0, 3), torch.zeros(2), batch_ptr=torch.tensor([0, 0, 0])
    )
    assert found.divergence.tolist() == [0.0, 0.0]


def test_a_field_without_derivatives_is_refused():
    with pytest.raises(ValueError, match="velocity_field: expected a velocity that depends on x_t"):
        divergence(field=lambda x, _: x.detach())


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        (ExactDivergence, {"mode": "backward"}, "mode: expected one of reverse, forward"),
        (ExactDivergence, {"directions_per_pass": 0}, "directions_per_pass: expected at least 1"),
        (HutchinsonDivergence, {"n_probes": 0}, "n_probes: expected at least 1"),
        (HutchinsonDivergence, {"law": "uniform"}, "law: expected one of rademacher, normal"),
        (HutchinsonDivergence, {"seed": -1}, r"seed: expected 0 to 2\*\*63"),
        (HutchinsonDivergence, {"first_molecule": -1}, "first_molecule: expected at least 0"),
        (HutchinsonDivergence, {"mode": "both"}, "mode: expected one of"),
    ],
)
def test_wrong_methods_are_refused(method, options, match):
    with pytest.raises(ValueError, match=match):
        method(**options)


def test_positions_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"x_t: expected shape \(n_atoms, 3\)"):
        divergence(x_t=torch.zeros(N_ATOMS, 2))
