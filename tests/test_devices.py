"""Names of devices."""

import re

import pytest
import torch

from tito_fast.devices import resolve_device


def test_devices_have_the_names_of_torch():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_other_names_are_refused(device):
    with pytest.raises(
        ValueError, match=re.escape(f"device: expected auto, cpu, cuda or cuda:i, got {device!r}")
    ):
        resolve_device(device)


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(
        ValueError, match=r"device: expected one of .* CUDA devices here, got cuda:99"
    ):
        resolve_device("cuda:99")
