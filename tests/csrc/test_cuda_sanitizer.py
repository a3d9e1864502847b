"""The CUDA kernels, run on the host, under AddressSanitizer and UndefinedBehaviorSanitizer.

Tensors come from the sanitizer's allocator then: what is read or written beside one is seen.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What null and object-size find, address finds too.
FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize=null,object-size"]
FLAGS += ["-fno-sanitize-recover=all", "-Og"]
TESTS = sorted((ROOT / "tests" / "ops").glob("**/test_*_cuda.py"))
PROBE = "#include <vector>\nint probe() { return static_cast<int>(std::vector<int>(3).size()); }\n"

# Calls a kernel of the module at argv[1] for argv[2] atoms; the tensors have eight.
STEP = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("tito_fast_host_cuda", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
n_atoms = int(sys.argv[2])
positions, velocities, moved = (torch.zeros(8, 3) for _ in range(3))
batch_ptr = torch.tensor([0, n_atoms])
pointers = [each.data_ptr() for each in (positions, velocities, moved, batch_ptr)]
module.ode_step_fwd_cuda_float32(*pointers, n_atoms, int(sys.argv[3]), [1.0], True, 0, 0)
print("done")
"""


def host_cuda():
    spec = importlib.util.spec_from_file_location(
        "host_cuda_fixture", ROOT / "tests" / "fixtures" / "host_cuda.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runtime(compiler, name):
    command = [compiler, f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    return path if Path(path).is_absolute() else None


@pytest.fixture(scope="module")
def settings(tmp_path_factory, host_cuda_path):
    """The environment of a process that uses the sanitized module."""
    host = host_cuda()
    folder = tmp_path_factory.mktemp("cuda_sanitizer")
    (folder / "probe.cpp").write_text(PROBE)
    command = [host.COMPILER, *FLAGS, "-shared", "-fPIC", "probe.cpp", "-o", "probe.so"]
    probe = subprocess.run(command, cwd=folder, capture_output=True, check=False)  # noqa: S603, own file
    libraries = [runtime(host.COMPILER, name) for name in ("libasan.so", "libubsan.so")]
    if probe.returncode or None in libraries:
        pytest.skip(f"{host.COMPILER} has no sanitizers that can be loaded before Python")
    return {
        "TITO_FAST_HOST_CUDA": str(host.build(folder, FLAGS, beside=host_cuda_path.parent)),
        "LD_PRELOAD": " ".join(libraries),
        # Python keeps what it has until its end; returning from functions costs no new stack.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "1",
        "PYTEST_ADDOPTS": "",
    }


def run_python(settings, *arguments):
    return subprocess.run(  # noqa: S603, own files
        [sys.executable, "-P", *arguments],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_are_tests_of_every_kernel():
    operations = {path.parent.name for path in (ROOT / "csrc").glob("*/*_cuda.cu")}
    assert {path.parent.name for path in TESTS} >= operations


@pytest.mark.slow
def test_cuda_kernels_touch_their_own_memory_alone(settings):
    # Cases by the thousand are marked slow: here they would take minutes.
    options = ["-q", "-x", "-m", "not slow and not gpu", "-p", "no:cacheprovider"]
    done = run_python(settings, "-m", "pytest", *options, *map(str, TESTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_atoms", "n_molecules", "is_found"),
    [(8, 1, False), (9, 1, True), (8, 2, True)],
    ids=["all right", "rows beyond the positions", "molecules beyond batch_ptr"],
)
def test_what_lies_beside_a_tensor_is_not_touched_unseen(settings, n_atoms, n_molecules, is_found):
    options = [settings["TITO_FAST_HOST_CUDA"], str(n_atoms), str(n_molecules)]
    done = run_python(settings, "-c", STEP, *options)
    assert (done.returncode != 0) == is_found, done.stderr
    assert ("heap-buffer-overflow" in done.stderr) == is_found
    assert (done.stdout == "done\n") != is_found
