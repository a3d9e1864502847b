"""What CUDA kernels take of a GPU, and the table of all of them."""

import re
import shutil
from pathlib import Path

import pytest

from tito_fast.testing import cuda_builds
from tito_fast.testing.cuda_builds import ARCHITECTURES, BuildReport, kernel_files, read_reports

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
PAGE = ROOT / "docs" / "cuda-builds.md"
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \| (\d+) \|", re.MULTILINE)
# Files with the runtime's API only.
WITHOUT_KERNELS = {"cuda_info.cu", "cuda_check.cu"}
REMEDY = "run python -m tito_fast.testing.cuda_builds --sources csrc --out docs/cuda-builds.md"

needs_nvcc = pytest.mark.skipif(
    shutil.which("nvcc") is None or shutil.which("c++filt") is None,
    reason="needs nvcc and c++filt, and one is not on PATH",
)

SAID = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN9tito_fast10run_kernelINS_4StepIfEEEEvT_' for 'sm_80'
ptxas info    : Function properties for called
    16 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for _ZN9tito_fast10run_kernelINS_4StepIfEEEEvT_
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 33 registers, used 1 barriers, 1536 bytes smem, 472 bytes cmem[0]
ptxas info    : Compiling entry function 'plain' for 'sm_90'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 16 registers, used 0 barriers
"""


def report(**changes):
    values = {
        "file": "some_cuda.cu",
        "name": "Some<float>",
        "architecture": 90,
        "n_threads": 128,
        "registers": 64,
        "shared_bytes": 0,
        "stack_bytes": 0,
        "spill_store_bytes": 0,
        "spill_load_bytes": 0,
    }
    return BuildReport(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 64 registers of 128 threads: eight blocks in 65,536 registers.
        ({}, 8),
        # 33 registers are given as 40.
        ({"registers": 33, "n_threads": 192}, 8),
        ({"registers": 16}, 16),
        ({"registers": 16, "n_threads": 32}, 32),
        ({"shared_bytes": 48 * 1024}, 4),
        ({"shared_bytes": 48 * 1024, "architecture": 80}, 3),
        ({"registers": 255, "n_threads": 512}, 0),
    ],
)
def test_blocks_on_a_multiprocessor(changes, expected):
    assert report(**changes).blocks_per_sm == expected


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"spill_store_bytes": 8}, "spills: 8 bytes stored, 0 loaded"),
        ({"spill_load_bytes": 8, "stack_bytes": 4}, "spills: 0 bytes stored, 8 loaded"),
        ({"stack_bytes": 4}, "keeps 4 bytes of stack"),
        ({"stack_bytes": 4, "name": "Excused<float>"}, ""),
        ({"registers": 255, "n_threads": 512}, "does not fit on a multiprocessor"),
    ],
)
def test_what_must_not_be(monkeypatch, changes, problem):
    monkeypatch.setitem(cuda_builds.MAY_USE_LOCAL_MEMORY, "Excused<float>", "runs once")
    assert report(**changes).problem == problem


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs c++filt, and none is on PATH")
def test_reports_have_what_ptxas_says_and_that_of_functions_called():
    n_threads = {"_ZN9tito_fast10run_kernelINS_4StepIfEEEEvT_": 192, "plain": 32}
    numbers = {"stack_bytes": 24, "spill_store_bytes": 4, "spill_load_bytes": 12}
    numbers |= {"n_threads": 192, "registers": 33, "shared_bytes": 1536}
    assert read_reports(SAID, n_threads, "some_cuda.cu") == [
        report(name="Step<float>", architecture=80, **numbers),
        report(name="plain", n_threads=32, registers=16),
    ]


@pytest.mark.parametrize(("stack", "status"), [(0, 0), (16, 1)])
def test_a_kernel_with_a_stack_fails(monkeypatch, capsys, tmp_path, stack, status):
    reports = [report(), report(name="Other<float>", stack_bytes=stack)]
    monkeypatch.setattr(cuda_builds, "compile_files", lambda *_, **__: reports)
    monkeypatch.setattr(cuda_builds, "nvcc_version", lambda: "13.0")
    out = tmp_path / "page.md"
    assert cuda_builds.main(["--sources", str(CSRC), "--out", str(out)]) == status
    # The page is there to look at, too.
    assert [row[1] for row in ROW.findall(out.read_text("utf-8"))] == [
        "Some<float>",
        "Other<float>",
    ]
    said = capsys.readouterr().err
    expected = "some_cuda.cu: Other<float> for sm_90 keeps 16 bytes of stack\n" if status else ""
    assert said == expected


def test_missing_compiler_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "page.md"
    assert cuda_builds.main(["--sources", str(CSRC), "--out", str(out)]) == 1
    assert capsys.readouterr().err.startswith("nvcc: expected it on PATH, found none")
    assert not out.exists()


def test_folder_without_kernels_is_refused(capsys, tmp_path):
    assert cuda_builds.main(["--sources", str(tmp_path), "--out", str(tmp_path / "page.md")]) == 1
    assert capsys.readouterr().err.startswith("sources: expected a folder with */*.cu, got")


def test_kernels_are_compiled_with_the_flags_of_the_build():
    text = (ROOT / "CMakeLists.txt").read_text()
    (flags,) = re.findall(r"set\(cuda_flags (.*)\)", text)
    assert "-fmad=false" in flags
    for flag in flags.split():
        assert any(ours.startswith(flag) for ours in cuda_builds.FLAGS), flag


def declared_kernels():
    """The names of all kernels in the sources; each has a kName."""
    names = set()
    for path in CSRC.glob("*/*.h"):
        text = path.read_text()
        for found in re.finditer(r"char\* kName = ", text):
            names.add(re.findall(r"^struct (\w+)", text[: found.start()], re.MULTILINE)[-1])
    return names


def test_the_page_lists_every_kernel():
    files = {path.name for path in kernel_files(CSRC)} - WITHOUT_KERNELS
    assert "ode_step_cuda.cu" in files
    rows = ROW.findall(PAGE.read_text("utf-8"))
    assert {row[0] for row in rows} == files, REMEDY
    kernels = {(name.partition("<")[0], int(architecture)) for _, name, architecture in rows}
    assert kernels == {(name, each) for name in declared_kernels() for each in ARCHITECTURES}, (
        REMEDY
    )


@needs_nvcc
def test_kernels_compile_without_a_gpu():
    reports = cuda_builds.compile_file(CSRC / "ode_step" / "ode_step_cuda.cu", CSRC)
    rows = ROW.findall(PAGE.read_text("utf-8"))
    listed = {row for row in rows if row[0] == "ode_step_cuda.cu"}
    assert {(each.file, each.name, str(each.architecture)) for each in reports} == listed, REMEDY
    assert all(each.registers > 0 and each.n_threads > 0 for each in reports)
    assert [each.problem for each in reports if each.problem] == []
