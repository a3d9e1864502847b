"""CUDA kernels compiled without a GPU: registers, shared memory, stack, spills.

    python -m tito_fast.testing.cuda_builds --sources csrc --out docs/cuda-builds.md

compiles every ``*.cu`` of the sources with nvcc, warnings being errors, and writes a table of what each kernel needs;
the exit status is 1 if one spills registers or keeps a stack frame. Needs nvcc and c++filt.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ARCHITECTURES = (80, 90)

FLAGS = ("-std=c++17", "-O3", "-fmad=false", "-Xcompiler=-Wall,-Wextra,-Werror")
"""Those of CMakeLists.txt with ``TITO_FAST_WERROR``, which adds the one below."""
_REPORTING_FLAGS = ("--Werror=all-warnings", "-Xptxas=-v")

MAY_USE_LOCAL_MEMORY: dict[str, str] = {}
"""Why a kernel, by its name in the table, may spill registers or keep a stack frame; all others are hot."""

# CUDA C++ Programming Guide, technical specifications by compute capability.
_REGISTERS_OF_SM = 65536
_WARPS_OF_SM = 64
_BLOCKS_OF_SM = 32
_SHARED_BYTES_OF_SM = {80: 164 * 1024, 90: 228 * 1024}
# Of the shared memory that each block takes, for the system.
_RESERVED_SHARED_BYTES = 1024
# Registers are given to a warp in units of this many.
_REGISTER_UNIT = 256
_LANES_OF_WARP = 32
_MOST_PROCESSES = 2

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'")
_LOCAL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_THREADS = re.compile(r"\.entry (\w+)\(.*?\.maxntid (\d+)", re.DOTALL)
_KERNEL = re.compile(r"run_kernel<(.+?) ?>\(")


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What one compiled kernel takes of a multiprocessor.

    Parameters
    ----------
    file : str
        Without folder.
    name : str
        The kernel's type, ``OdeStepForward<float>``.
    architecture : int
        80, 90.
    n_threads : int
        Of a block.
    registers : int
        Of a thread.
    shared_bytes : int
        Of a block.
    stack_bytes, spill_store_bytes, spill_load_bytes : int
        Of a thread, with those of the functions that are called and not inlined.
    """

    file: str
    name: str
    architecture: int
    n_threads: int
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int

    @property
    def blocks_per_sm(self) -> int:
        """How many blocks fit on a multiprocessor, by registers, shared memory and warps."""
        n_warps = self.n_threads // _LANES_OF_WARP
        of_warp = -(-_LANES_OF_WARP * self.registers // _REGISTER_UNIT) * _REGISTER_UNIT
        by_registers = _REGISTERS_OF_SM // (of_warp * n_warps)
        by_shared = _SHARED_BYTES_OF_SM[self.architecture] // (
            self.shared_bytes + _RESERVED_SHARED_BYTES
        )
        return min(by_registers, by_shared, _WARPS_OF_SM // n_warps, _BLOCKS_OF_SM)

    @property
    def problem(self) -> str:
        """Why this build must not be, or an empty string."""
        if self.blocks_per_sm == 0:
            return "does not fit on a multiprocessor"
        if self.name in MAY_USE_LOCAL_MEMORY:
            return ""
        if self.spill_store_bytes or self.spill_load_bytes:
            return f"spills: {self.spill_store_bytes} bytes stored, {self.spill_load_bytes} loaded"
        return f"keeps {self.stack_bytes} bytes of stack" if self.stack_bytes else ""


def tool(name: str) -> str:
    """Return the path of a program.

    Raises
    ------
    RuntimeError
        It is not on ``PATH``.
    """
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(
            f"{name}: expected it on PATH, found none; it comes with the CUDA toolkit or binutils"
        )
    return path


def kernel_files(sources: Path) -> list[Path]:
    """Return the CUDA files below ``sources``.

    Raises
    ------
    ValueError
        There are none.
    """
    files = sorted(sources.glob("*/*.cu"))
    if not files:
        raise ValueError(f"sources: expected a folder with */*.cu, got {str(sources)!r}")
    return files


def compile_file(file: Path, sources: Path) -> list[BuildReport]:
    """Compile one file for every architecture and return what its kernels need.

    Raises
    ------
    RuntimeError
        nvcc or c++filt is missing or failed, or there is no kernel in a file ``*_cuda.cu``.
    """
    with tempfile.TemporaryDirectory() as folder:
        # What is kept tells the threads of a block.
        command = [tool("nvcc"), *FLAGS, *_REPORTING_FLAGS, f"-I{sources}"]
        command += [f"-gencode=arch=compute_{each},code=sm_{each}" for each in ARCHITECTURES]
        command += ["--keep", f"--keep-dir={folder}", "-c", str(file), "-o", f"{folder}/kernels.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603, own files
        if done.returncode:
            raise RuntimeError(f"{file.name}: nvcc failed\n{done.stdout}{done.stderr}")
        assembly = "".join(path.read_text("utf-8") for path in Path(folder).glob("*.ptx"))
    n_threads = {name: int(number) for name, number in _THREADS.findall(assembly)}
    reports = read_reports(done.stdout + done.stderr, n_threads, file.name)
    if not reports and file.stem.endswith("_cuda"):
        raise RuntimeError(f"{file.name}: expected kernels, nvcc compiled none")
    return reports


def read_reports(said: str, n_threads: dict[str, int], file: str) -> list[BuildReport]:
    """Return what ptxas said of each kernel.

    Parameters
    ----------
    said
        With ``-Xptxas=-v``.
    n_threads
        Of a block, by mangled name.
    file
        For the reports.
    """
    # The parts between the headings, each with the name and the architecture before it.
    _, *parts = _ENTRY.split(said)
    reports = []
    for name, architecture, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        local = [map(int, found) for found in _LOCAL.findall(text)]
        stack, stores, loads = map(sum, zip(*local, strict=True))
        registers, shared = _REGISTERS.search(text), _SHARED.search(text)
        if registers is None:
            raise RuntimeError(f"ptxas: expected registers of {name}, got {text!r}")
        report = BuildReport(
            file=file,
            name=readable(name),
            architecture=int(architecture),
            n_threads=n_threads[name],
            registers=int(registers[1]),
            shared_bytes=int(shared[1]) if shared else 0,
            stack_bytes=stack,
            spill_store_bytes=stores,
            spill_load_bytes=loads,
        )
        reports.append(report)
    return sorted(reports, key=lambda report: (report.file, report.name, report.architecture))


def readable(mangled: str) -> str:
    """Return the type of a kernel that ``run_kernel`` runs, without the project's namespace."""
    command = [tool("c++filt"), mangled]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    found = _KERNEL.search(name)
    return (found[1] if found else name).replace("tito_fast::", "").replace("> >", ">>")


def compile_files(sources: Path, *, n_processes: int = 1) -> list[BuildReport]:
    """Compile all CUDA files below ``sources``.

    Raises
    ------
    ValueError, RuntimeError
        As :func:`kernel_files` and :func:`compile_file`.
    """
    # Threads that wait for a process each.
    with ThreadPoolExecutor(min(n_processes, _MOST_PROCESSES)) as pool:
        found = pool.map(partial(compile_file, sources=sources), kernel_files(sources))
        return [report for reports in found for report in reports]


def nvcc_version() -> str:
    """Return the compiler's release."""
    command = [tool("nvcc"), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    found = re.search(r"release ([\d.]+)", said)
    return found[1] if found else "(unknown)"


def page(reports: Sequence[BuildReport]) -> str:
    """Return the reports as a Markdown page."""
    n_problems = sum(bool(report.problem) for report in reports)
    lines = [
        "# CUDA kernels compiled without a GPU",
        "",
        f"{len({report.name for report in reports})} kernels by nvcc {nvcc_version()} for "
        f"compute capabilities {' and '.join(f'{each / 10:.1f}' for each in ARCHITECTURES)}, without a GPU; made by",
        "`python -m tito_fast.testing.cuda_builds --sources csrc --out docs/cuda-builds.md`, which CI runs: it fails",
        f"if a kernel that is not excused below spills registers or keeps a stack frame. Of {len(reports)} builds "
        f"{n_problems or 'none'} do.",
        "",
        "Registers, stack and spilled bytes are those of a thread, as `ptxas -v` says them; shared bytes those of a",
        "block. *Blocks on an SM* is how many fit by registers (65,536), shared memory (164 kB, 228 kB, of which 1 kB",
        "goes with each block), warps (64) and their number (32).",
        "",
        "| file | kernel | sm | threads | registers | shared bytes | stack bytes | spilled bytes, stores + loads "
        "| blocks on an SM |",
        "|--|--|--|--|--|--|--|--|--|",
    ]
    for report in reports:
        cells = (
            f"`{report.file}`",
            f"`{report.name}`",
            report.architecture,
            report.n_threads,
            report.registers,
            report.shared_bytes,
            report.stack_bytes,
            f"{report.spill_store_bytes} + {report.spill_load_bytes}",
            report.blocks_per_sm,
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    excused = [f"- `{name}`: {reason}" for name, reason in MAY_USE_LOCAL_MEMORY.items()]
    lines += ["", "Excused:" if excused else "Excused: none.", *([""] if excused else []), *excused]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, write the page, say on standard error what must not be; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sources", type=Path, required=True, help="folder of the C++ sources")
    parser.add_argument("--out", type=Path, required=True, help="Markdown page to write")
    parser.add_argument(
        "--processes", type=int, choices=range(1, _MOST_PROCESSES + 1), default=_MOST_PROCESSES
    )
    options = parser.parse_args(arguments)
    try:
        reports = compile_files(options.sources, n_processes=options.processes)
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    options.out.write_text(page(reports), "utf-8")
    bad = [report for report in reports if report.problem]
    for report in bad:
        sys.stderr.write(
            f"{report.file}: {report.name} for sm_{report.architecture} {report.problem}\n"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
