"""Precisions hold inside their context and nowhere else."""

import pytest
import torch
from torch import nn

from tito_fast.precision import forward_precision, matmul_precision


def test_bf16_multiplies_in_bf16():
    device = torch.device("cpu")
    linear, vector = nn.Linear(3, 3), torch.randn(4, 3)
    with forward_precision("bf16", device):
        assert linear(vector).dtype == torch.bfloat16
    with forward_precision("fp32", device):
        assert linear(vector).dtype == torch.float32


def test_matmul_precision_is_restored_even_after_an_error():
    before = torch.get_float32_matmul_precision()

    def fail():
        with matmul_precision("tf32"):
            assert torch.get_float32_matmul_precision() == "high"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_float32_matmul_precision() == before
    with matmul_precision("fp32"):
        assert torch.get_float32_matmul_precision() == "highest"
