"""Superposition: the best proper rotation, the same bits whatever frames are beside a frame."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tito_fast.rollout.superpose import superpose


def cloud(n_frames, n_atoms, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_frames, n_atoms, 3, generator=generator, dtype=torch.float64).to(dtype)


def turned(positions, *, seed=1):
    rotations = Rotation.random(len(positions), rng=np.random.default_rng(seed)).as_matrix()
    shift = cloud(len(positions), 1, seed=seed)
    return torch.einsum("fij,faj->fai", torch.from_numpy(rotations), positions) + 10 * shift


@pytest.mark.parametrize("n_atoms", [2, 3, 4, 18, 63])
def test_a_turned_copy_comes_back(n_atoms):
    reference = cloud(129, n_atoms)
    centered = reference - reference.mean(dim=1, keepdim=True)
    torch.testing.assert_close(superpose(turned(reference), reference), centered)


@pytest.mark.parametrize("n_atoms", [3, 5, 18])
def test_the_rotation_is_the_best_proper_one(n_atoms):
    positions, reference = cloud(50, n_atoms), cloud(50, n_atoms, seed=2)
    found = superpose(positions, reference)
    moving = (positions - positions.mean(dim=1, keepdim=True)).numpy()
    fixed = (reference - reference.mean(dim=1, keepdim=True)).numpy()
    for frame in range(50):
        best, rssd = Rotation.align_vectors(fixed[frame], moving[frame])
        np.testing.assert_allclose(found[frame].numpy(), best.apply(moving[frame]), atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(found[frame].numpy() - fixed[frame]), rssd)


def test_a_mirror_image_is_turned_but_not_mirrored():
    reference = cloud(20, 8)
    mirrored = reference * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    found = superpose(mirrored, reference)

    def volume(positions):
        sides = positions[:, 1:4] - positions[:, :1]
        return torch.linalg.det(sides)

    torch.testing.assert_close(volume(found), volume(mirrored))
    torch.testing.assert_close(volume(found), -volume(reference))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_atoms", [1, 2, 5, 18, 68])
def test_bits_do_not_depend_on_the_frames_beside(n_atoms, dtype):
    positions, reference = (
        cloud(257, n_atoms, dtype=dtype),
        cloud(257, n_atoms, seed=3, dtype=dtype),
    )
    whole = superpose(positions, reference)
    assert whole.dtype == dtype
    for n_chunk in (1, 2, 7, 64):
        chunks = [
            superpose(positions[start : start + n_chunk], reference[start : start + n_chunk])
            for start in range(0, 257, n_chunk)
        ]
        assert torch.equal(torch.cat(chunks), whole)
    # A view with another offset and other strides, in another order.
    strided = superpose(
        positions.flip(0), torch.stack([reference, reference], dim=3)[..., 1].flip(0)
    )
    assert torch.equal(strided.flip(0), whole)


def test_bits_do_not_depend_on_threads():
    positions, reference = cloud(5000, 18), cloud(5000, 18, seed=3)
    n_threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(superpose(positions, reference))
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(*results)


def test_degenerate_frames_get_a_proper_rotation():
    line = torch.tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=torch.float64)
    other = line[:, [1, 0, 2]]
    found = superpose(line[None], other[None])
    torch.testing.assert_close(found, other[None])
    single = superpose(torch.tensor([[[5.0, 1.0, 2.0]]]), torch.zeros(1, 1, 3))
    assert torch.equal(single.abs(), torch.zeros(1, 1, 3))
    assert superpose(torch.zeros(0, 4, 3), torch.zeros(0, 4, 3)).shape == (0, 4, 3)
    assert superpose(torch.zeros(2, 0, 3), torch.zeros(2, 0, 3)).shape == (2, 0, 3)


def test_a_frame_of_nan_leaves_the_others_alone():
    positions, reference = cloud(3, 6), cloud(3, 6, seed=4)
    clean = superpose(positions, reference)
    positions[1, 2, 0] = float("nan")
    found = superpose(positions, reference)
    assert torch.isnan(found[1]).any()
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


def test_inputs_are_untouched_and_checked():
    positions, reference = cloud(2, 4), cloud(2, 4, seed=5)
    before = positions.clone(), reference.clone()
    superpose(positions, reference)
    assert torch.equal(positions, before[0])
    assert torch.equal(reference, before[1])
    with pytest.raises(
        ValueError, match=r"positions: expected shape \(n_frames, n_atoms, 3\), got"
    ):
        superpose(positions[0], reference)
    with pytest.raises(ValueError, match=r"reference: expected shape \(2, 4, 3\), got \(1, 4, 3\)"):
        superpose(positions, reference[:1])
    with pytest.raises(TypeError, match="positions: expected dtype float32 or float64, got int64"):
        superpose(positions.long(), reference)
