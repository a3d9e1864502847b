"""What a build takes of a GPU, and the table of all builds.

Kernels are compiled in processes without ``TRITON_INTERPRET``, which this one has set.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tito_fast.testing import triton_builds
from tito_fast.testing.triton_builds import ARCHITECTURES, BuildReport, all_builds

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "triton-builds.md"
ROW = re.compile(r"^\| `([^`]+)` \| (\d+) \|", re.MULTILINE)


def report(**changes):
    values = {
        "name": "some kernel",
        "architecture": 90,
        "registers": 128,
        "spilled_bytes": 0,
        "shared_bytes": 0,
        "num_warps": 4,
        "is_hot": True,
    }
    return BuildReport(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 128 registers of 128 threads: four programs in 65,536 registers.
        ({}, 4),
        # 255 registers are given as 256.
        ({"registers": 255}, 2),
        # 32 registers: 64 warps, 16 programs of 4.
        ({"registers": 32}, 16),
        # More than 32 are never resident.
        ({"registers": 32, "num_warps": 1}, 32),
        ({"shared_bytes": 100 * 1024}, 2),
        ({"shared_bytes": 100 * 1024, "architecture": 80}, 1),
        ({"shared_bytes": 227 * 1024}, 1),
        ({"shared_bytes": 163 * 1024, "architecture": 80}, 1),
        ({"registers": 255, "num_warps": 16}, 0),
    ],
)
def test_programs_on_a_multiprocessor(changes, expected):
    assert report(**changes).programs_per_sm == expected


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"spilled_bytes": 8, "is_hot": False}, ""),
        ({"spilled_bytes": 8}, "is hot and spills 8 bytes of a thread"),
        ({"shared_bytes": 227 * 1024}, ""),
        ({"shared_bytes": 227 * 1024 + 1}, "takes 232449 bytes of shared memory of 232448"),
        (
            {"shared_bytes": 163 * 1024 + 1, "architecture": 80, "is_hot": False},
            "takes 166913 bytes of shared memory of 166912",
        ),
        ({"registers": 255, "num_warps": 16}, "does not fit on a multiprocessor"),
    ],
)
def test_what_must_not_be(changes, problem):
    assert report(**changes).problem == problem


@pytest.mark.parametrize(("spilled", "status"), [(0, 0), (16, 1)])
def test_a_hot_kernel_that_spills_fails(monkeypatch, capsys, tmp_path, spilled, status):
    reports = [report(), report(name="other", spilled_bytes=spilled)]
    monkeypatch.setattr(triton_builds, "compile_builds", lambda *_, **__: reports)
    out = tmp_path / "page.md"
    assert triton_builds.main(["--out", str(out)]) == status
    # The page is there to look at, too.
    assert ROW.findall(out.read_text("utf-8")) == [("some kernel", "90"), ("other", "90")]
    said = capsys.readouterr().err
    assert said == ("other for sm_90 is hot and spills 16 bytes of a thread\n" if status else "")


def test_the_page_lists_every_build():
    pytest.importorskip("triton", reason="Triton is not installed; it exists for Linux only")
    declared = {(build.name, str(each)) for each in ARCHITECTURES for build in all_builds(each)}
    listed = set(ROW.findall(PAGE.read_text("utf-8")))
    remedy = "run python -m tito_fast.testing.triton_builds --out docs/triton-builds.md"
    assert listed == declared, remedy


def test_a_kernel_is_compiled_without_a_gpu(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed; it exists for Linux only")
    out = tmp_path / "page.md"
    options = ["--only", "^readout_center_fwd", "--processes", "1", "--out", str(out)]
    subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-m", "tito_fast.testing.triton_builds", *options],
        check=True,
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
    )
    rows = [
        line.split("|") for line in out.read_text("utf-8").splitlines() if line.startswith("| `")
    ]
    assert [int(row[2]) for row in rows] == list(ARCHITECTURES)
    assert all(int(row[4]) > 0 for row in rows)
