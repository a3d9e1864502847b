import pytest
import torch

from tito_fast.rollout.frames import host_frames


def test_on_a_cpu_frames_pass_through():
    frames = [torch.full((2, 3), float(step)) for step in range(3)]
    assert all(here is there for here, there in zip(host_frames(iter(frames)), frames, strict=True))
    assert list(host_frames(iter([]))) == []


@pytest.mark.gpu
def test_on_a_gpu_every_frame_arrives_once_and_in_order():
    def steps():
        x = torch.zeros(1000, 3, device="cuda")
        for _ in range(7):
            x = x + 1.0
            yield x

    found = list(host_frames(steps()))
    assert [float(frame.mean()) for frame in found] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert all(frame.device.type == "cpu" for frame in found)
