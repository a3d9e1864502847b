"""Every CPU kernel under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tito_fast._extension import native_module

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
MAIN = HERE / "kernels_main.cpp"
# What null and object-size find, address finds too, and they cost a fifth of the compiler's time.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize=null,object-size"]
SANITIZERS += ["-fno-sanitize-recover=all"]
FLAGS = [*SANITIZERS, "-Og", "-g1", "-std=c++17", "-fopenmp", "-ffp-contract=off", "-Wno-psabi"]
ISAS = ["baseline", "avx2", "avx512", "avx512bf16"]


def is_x86():
    return os.uname().machine in ("x86_64", "AMD64")


def best_isa():
    """The widest vectors of this machine; kernels with bfloat16 have those of avx512."""
    return native_module().build_info()["best_isa"].removesuffix("bf16")


def isa_flags(isa):
    """The flags of CMakeLists.txt for one instruction set."""
    text = (HERE.parents[1] / "CMakeLists.txt").read_text()
    listed = re.search(rf"^set\(isa_flags_{isa}\b(.*)\)$", text, re.MULTILINE)[1].split()
    flags = []
    for flag in listed:
        of_other = re.fullmatch(r"\$\{isa_flags_(\w+)\}", flag)
        flags += isa_flags(of_other[1]) if of_other else [flag]
    return flags


def compile_object(source, target, flags):
    command = [
        COMPILER,
        *FLAGS,
        *flags,
        f"-I{CSRC}",
        f"-I{HERE}",
        "-c",
        str(source),
        "-o",
        str(target),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, own files
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The test program with the kernels of two instruction sets: the oldest and this machine's best."""
    if COMPILER is None:
        pytest.skip("needs a C++ compiler, and none is on PATH")
    folder = tmp_path_factory.mktemp("sanitizers")
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}")
    probe = [COMPILER, *FLAGS, str(empty), "-o", str(folder / "empty")]
    if subprocess.run(probe, capture_output=True, check=False).returncode:  # noqa: S603, own files
        pytest.skip(f"{COMPILER} has no sanitizers or no OpenMP")

    built = sorted({"baseline", best_isa()}, key=ISAS.index)
    machine = ["-DTITO_ISA_X86", "-march=x86-64-v2"] if is_x86() else []
    # The name of a set that is not built stands for the one below it.
    standing = [[k for k in built if ISAS.index(k) <= n][-1] for n in range(len(ISAS))]
    flags = [*machine, *(f"-D{a}={b}" for a, b in zip(ISAS, standing, strict=True) if a != b)]
    sources = {"isa": (CSRC / "common/isa.cpp", machine), MAIN.stem: (MAIN, [*flags, "-O0"])}
    for path in CSRC.glob("*/*.cpp"):
        if not path.stem.endswith(("_isa", "_bindings")) and path.stem != "isa":
            sources[path.stem] = (path, flags)
    for isa in built:
        own = [*flags, f"-DTITO_ISA={isa}", *isa_flags(isa)]
        sources |= {f"{isa}_{path.stem}": (path, own) for path in CSRC.glob("*/*_isa.cpp")}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [
            pool.submit(compile_object, path, folder / f"{name}.o", own)
            for name, (path, own) in sources.items()
        ]
        objects = [str(job.result()) for job in jobs]
    target = folder / "kernels"
    link = [COMPILER, *FLAGS, *objects, "-o", str(target)]
    subprocess.run(link, check=True)  # noqa: S603, own files
    return target


@pytest.mark.slow
@pytest.mark.parametrize("is_best", [False, True], ids=["baseline", "best"])
def test_kernels_touch_their_own_memory_alone(program, is_best):
    isa = best_isa() if is_best else "baseline"
    settings = {"UBSAN_OPTIONS": "print_stacktrace=1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(  # noqa: S603, own program
        [str(program)],
        env=os.environ | settings | {"TITO_FAST_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.split() == [isa]


def test_every_op_with_cpu_kernels_is_called():
    text = "".join(path.read_text() for path in HERE.glob("kernels_*"))
    included = set(re.findall(r'#include "(\w+)/', text)) - {"common"}
    assert included == {path.parent.name for path in CSRC.glob("*/*_cpu.cpp")}
