"""Every CPU kernel compiles for aarch64, without warnings."""

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
# The bindings are left out: they want headers of a Python for that processor.
FILES = sorted(path for path in CSRC.glob("*/*.cpp") if not path.stem.endswith("_bindings"))
FLAGS = [
    "-O1",
    "-std=c++17",
    "-fopenmp",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
]
PROBE = "#include <arm_neon.h>\n#include <omp.h>\n#include <vector>\nint main() {}\n"


def compile_file(compiler, source, target, *flags):
    command = [*compiler, *FLAGS, *flags, f"-I{CSRC}", "-c", str(source), "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, own files


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    probe = folder / "probe.cpp"
    probe.write_text(PROBE)
    for candidate in (["aarch64-linux-gnu-g++"], ["clang++", "--target=aarch64-linux-gnu"]):
        program = shutil.which(candidate[0])
        if program is None:
            continue
        found = [program, *candidate[1:]]
        if compile_file(found, probe, folder / "probe.o").returncode == 0:
            return found
    pytest.skip("needs a C++ compiler for aarch64 with its headers, and none is on PATH")


def test_there_are_kernels_to_compile():
    stems = {path.stem for path in FILES}
    assert {"isa", "painn_message_isa", "painn_message_cpu", "tito_network_isa"} <= stems


@pytest.mark.parametrize("source", FILES, ids=lambda source: source.stem)
def test_kernels_compile_for_aarch64(source, compiler, tmp_path):
    is_kernel = source.stem.endswith("_isa")
    flags = ["-DTITO_ISA=baseline", "-Wno-psabi"] if is_kernel else []
    done = compile_file(compiler, source, tmp_path / "file.o", *flags)
    assert done.returncode == 0, done.stderr
