"""What running CUDA kernels on the host finds: the blocks of ``tests/csrc/host_cuda``."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
NEIGHBORS = [*range(2, 65), 1]
PARTNERS = [(thread ^ 1) + 1 for thread in range(64)]


@pytest.fixture(scope="module", params=["", "-DTITO_SYSTEM_SWITCH"], ids=["own", "system"])
def program(request, tmp_path_factory):
    """The test program, with each way to switch between threads."""
    if COMPILER is None:
        pytest.skip("needs a C++ compiler, and none is on PATH")
    target = tmp_path_factory.mktemp("host_block") / "host_block"
    host = HERE / "host_cuda"
    command = [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", *request.param.split()]
    command += [f"-I{host}", f"-I{HERE.parents[1] / 'csrc'}", str(HERE / "host_block_main.cpp")]
    command += [str(host / "host_block.cpp"), str(host / "fiber.cpp"), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, own files
    assert done.returncode == 0, done.stderr
    return target


def run(program, kernel, seed=0):
    command = [str(program), kernel, str(seed)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, own file


def numbers(program, kernel, seed):
    done = run(program, kernel, seed)
    assert done.returncode == 0, done.stdout
    return [int(number) for number in done.stdout.split()]


def test_barriers_make_what_was_written_seen(program):
    for seed in range(5):
        assert numbers(program, "barrier", seed) == NEIGHBORS
        assert numbers(program, "warp barrier", seed) == PARTNERS


def test_missing_barrier_shows(program):
    found = [numbers(program, "no barrier", seed) for seed in range(5)]
    assert all(each != NEIGHBORS for each in found)
    assert found[0] != found[1]


def test_lanes_exchange_values(program):
    for seed in range(5):
        assert numbers(program, "lanes", seed) == [1] * 64


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        ("diverged", "lanes of a warp met at different operations"),
        ("ended", "a thread ended while others of its block waited for it"),
    ],
)
def test_threads_that_would_never_meet_are_an_error(program, kernel, problem):
    done = run(program, kernel)
    assert done.returncode == 1
    assert done.stdout == f"{problem}\n"
