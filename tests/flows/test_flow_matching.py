import pytest
import torch

from tito_fast.flows import flow_matching_loss, interpolate
from tito_fast.ops import ot_couple

PTR = torch.tensor([0, 3, 3, 5])


def draw(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(3)]


def test_interpolant_ends_at_base_and_data():
    x_0, x_1, epsilon = draw()
    for t, end in ((0.0, x_0), (1.0, x_1)):
        flow_time = torch.full((3,), t, dtype=torch.float64)
        x_t = interpolate(x_0, x_1, flow_time, epsilon, batch_ptr=PTR, sigma=0.0)
        assert torch.equal(x_t, end)


def test_interpolant_follows_its_formula_molecule_by_molecule():
    x_0, x_1, epsilon = draw()
    flow_time = torch.tensor([0.2, 0.9, 0.7], dtype=torch.float64)
    x_t = interpolate(x_0, x_1, flow_time, epsilon, batch_ptr=PTR, sigma=0.3)
    for t, atoms in ((0.2, slice(0, 3)), (0.7, slice(3, 5))):
        noise = epsilon[atoms] - epsilon[atoms].mean(0)
        expected = t * x_1[atoms] + (1 - t) * x_0[atoms] + 0.3 * noise
        torch.testing.assert_close(x_t[atoms], expected)


def test_noise_does_not_move_the_center():
    x_0, x_1, epsilon = draw()
    flow_time = torch.full((3,), 0.5, dtype=torch.float64)
    still = interpolate(x_0, x_1, flow_time, epsilon, batch_ptr=PTR, sigma=0.0)
    noisy = interpolate(x_0, x_1, flow_time, epsilon, batch_ptr=PTR, sigma=10.0)
    assert not torch.allclose(still, noisy)
    torch.testing.assert_close(still[:3].mean(0), noisy[:3].mean(0))


def test_loss_is_the_mean_over_atoms_of_the_squared_error():
    x_0, x_1, error = draw()
    assert flow_matching_loss(x_1 - x_0, x_0, x_1) == 0
    loss = flow_matching_loss(x_1 - x_0 + error, x_0, x_1)
    assert loss.item() == pytest.approx(sum(e @ e for e in error).item() / 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x_1", r"x_1: expected shape \(5, 3\), got \(5, 2\)"),
        ("epsilon", r"epsilon: expected shape \(5, 3\), got \(5, 2\)"),
        ("flow_time", r"flow_time: expected shape \(3,\), got \(5, 2\)"),
    ],
)
def test_shapes_are_checked(name, message):
    x_0, x_1, epsilon = draw()
    arguments = {"x_1": x_1, "flow_time": torch.zeros(3), "epsilon": epsilon}
    arguments[name] = torch.zeros(5, 2)
    with pytest.raises(ValueError, match=message):
        interpolate(x_0, **arguments, batch_ptr=PTR, sigma=0.0)


def test_permutation_coupling_changes_the_law_of_two_labeled_atoms_on_a_line():
    n = 4000
    line = torch.tensor([1.0, 0.0, 0.0])
    x_0 = torch.randn(2 * n, 1, generator=torch.Generator().manual_seed(0)) * line
    x_1 = torch.tensor([-1.0, 1.0]).repeat(n).unsqueeze(1) * line
    batch_ptr = 2 * torch.arange(n + 1)

    def share_first_left(positions):
        first, second = positions[:, 0].view(n, 2).T
        return (first < second).float().mean().item()

    # As drawn, each order has the same probability: 4 standard deviations are 0.032.
    assert share_first_left(x_0) == pytest.approx(0.5, abs=0.032)
    coupled = ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="p")
    assert share_first_left(coupled) == 1.0
    # Only labels moved: the set of positions of every molecule is what was drawn.
    assert torch.equal(coupled[:, 0].view(n, 2).sort().values, x_0[:, 0].view(n, 2).sort().values)


def test_rotation_coupling_keeps_the_handedness_that_a_permutation_changes():
    n = 1000
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn(4 * n, 3, generator=generator, dtype=torch.float64)
    corners = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    x_1, batch_ptr = corners.repeat(n, 1), 4 * torch.arange(n + 1)

    def share_right_handed(positions):
        corner = positions.view(n, 4, 3)
        return (torch.linalg.det(corner[:, 1:] - corner[:, :1]) > 0).double().mean().item()

    drawn = share_right_handed(x_0)
    assert drawn == pytest.approx(0.5, abs=0.064)
    assert share_right_handed(ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="r")) == drawn
    permuted = share_right_handed(ot_couple(x_0, x_1, batch_ptr=batch_ptr, plan="pr"))
    target = share_right_handed(x_1)
    assert abs(permuted - target) < 0.25
