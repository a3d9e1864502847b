"""The native ops under every instruction set but the one in use, which the suite tests.

One process of pytest for each: importing PyTorch takes longer than most of these tests.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tito_fast._extension import build_info

ISAS = ["baseline", "avx2", "avx512", "avx512bf16"]
OPS = ["mlp", "painn_update", "radius_graph", "readout_step", "time_embed"]
HERE = Path(__file__).parent
# Every width with 63 rows, and the odd width 63 with every number of rows, among them 0, 1 and 129.
CHOSEN = (
    "(gradients_match_reference and 63 and not radius_graph) or any_width"
    " or (batch_equals_loop and not radius_graph)"
    # Bitwise, so that all instruction sets give the same bits.
    " or (radius_graph and test_matches_reference and 63) or cells_match"
)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_ops_match_reference_and_rows_stand_alone(isa):
    info = build_info()
    if isa == info["isa"]:
        pytest.skip("the instruction set of this process")
    if ISAS.index(isa) > ISAS.index(str(info["best_isa"])):
        pytest.skip(f"this machine has {info['best_isa']} at best")
    files = [str(HERE / op / f"test_{op}.py") for op in OPS]
    files.append(str(HERE / "painn_message" / "test_painn_message_cuts.py"))
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
            CHOSEN,
            *files,
        ],
        env=os.environ | {"TITO_FAST_ISA": isa, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
