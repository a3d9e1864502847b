import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
KERNEL_FILES = sorted(CSRC.glob("**/*.cu"))
NVCC = shutil.which("nvcc")

# Files with the runtime's API only.
WITHOUT_KERNELS = {"cuda_info.cu"}

USAGE = re.compile(
    r"Function properties for (?P<name>\S+)\n"
    r"\s*(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
    r".*?Used (?P<registers>\d+) registers",
)


def test_there_is_something_to_compile():
    assert {file.name for file in KERNEL_FILES} >= {"ode_step_cuda.cu"} | WITHOUT_KERNELS


@pytest.mark.skipif(NVCC is None, reason="needs nvcc, and none is on PATH")
@pytest.mark.parametrize("architecture", ["80", "90"])
@pytest.mark.parametrize("file", KERNEL_FILES, ids=lambda file: file.name)
def test_kernels_compile_without_spills_or_stack(file, architecture, tmp_path, record_property):
    command = [
        str(NVCC),
        "-std=c++17",
        "-O3",
        f"-gencode=arch=compute_{architecture},code=sm_{architecture}",
        "-Xptxas=-v",
        "--Werror=all-warnings",
        f"-I{CSRC}",
        "-c",
        str(file),
        "-o",
        str(tmp_path / "kernel.o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, own files
    assert done.returncode == 0, done.stderr
    kernels = list(USAGE.finditer(done.stderr))
    assert (len(kernels) == 0) == (file.name in WITHOUT_KERNELS), done.stderr
    for kernel in kernels:
        record_property(f"sm_{architecture} {kernel['name']} registers", kernel["registers"])
        assert int(kernel["stores"]) == int(kernel["loads"]) == 0, kernel[0]
        assert int(kernel["stack"]) == 0, kernel[0]
