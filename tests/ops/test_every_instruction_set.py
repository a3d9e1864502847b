"""The ops on atoms' features under every instruction set but the one in use, which the suite tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tito_fast._extension import build_info

ISAS = ["baseline", "avx2", "avx512", "avx512bf16"]
OPS = ["mlp", "painn_update", "readout_step", "time_embed"]
HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_gradients_match_reference_and_rows_stand_alone(isa):
    info = build_info()
    if isa == info["isa"]:
        pytest.skip("the instruction set of this process")
    if ISAS.index(isa) > ISAS.index(str(info["best_isa"])):
        pytest.skip(f"this machine has {info['best_isa']} at best")
    files = [str(HERE / op / f"test_{op}.py") for op in OPS]
    # Not random: one even width, one odd, and those that fill vectors.
    chosen = "(gradients_match and (24 or 63 or 128)) or batch_equals_loop or any_width"
    done = subprocess.run(  # noqa: S603, our own interpreter and files
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            chosen,
            *files,
        ],
        env=os.environ | {"TITO_FAST_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
