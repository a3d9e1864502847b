"""Triton kernels compiled ahead of time, without a GPU: registers, shared memory, spills.

    python -m tito_fast.testing.triton_builds --out docs/triton-builds.md

compiles every declared specialization and writes a table of what each needs; the exit status is 1 if one asks for more
than a device has, or a hot kernel spills registers.
"""

import argparse
import importlib
import importlib.metadata
import multiprocessing
import pkgutil
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tito_fast.ops
from tito_fast.ops.triton_launch import KernelBuild, is_interpreting

ARCHITECTURES = (80, 90)

SHARED_BYTES_OF_PROGRAM = {80: 163 * 1024, 90: 227 * 1024}
"""What one program may take, by architecture (CUDA C++ Programming Guide, technical specifications)."""

_REGISTERS_OF_SM = 65536
_WARPS_OF_SM = 64
_PROGRAMS_OF_SM = 32
# Registers are given to a warp in units of this many.
_REGISTER_UNIT = 256
# Of the shared memory that each program takes, for the system.
_RESERVED_SHARED_BYTES = 1024
_MOST_PROCESSES = 2
_RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What one compiled kernel takes of a multiprocessor.

    Parameters
    ----------
    name : str
    architecture : int
        80, 90.
    registers : int
        Of a thread.
    spilled_bytes : int
        Of a thread, in local memory.
    shared_bytes : int
        Of a program.
    num_warps : int
    is_hot : bool
        Whether spills are an error.
    """

    name: str
    architecture: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    num_warps: int
    is_hot: bool

    @property
    def programs_per_sm(self) -> int:
        """How many programs fit on a multiprocessor, by registers, shared memory and warps."""
        of_warp = -(-32 * self.registers // _REGISTER_UNIT) * _REGISTER_UNIT
        by_registers = _REGISTERS_OF_SM // of_warp // self.num_warps
        shared = SHARED_BYTES_OF_PROGRAM[self.architecture] + _RESERVED_SHARED_BYTES
        by_shared = shared // (self.shared_bytes + _RESERVED_SHARED_BYTES)
        return min(by_registers, by_shared, _WARPS_OF_SM // self.num_warps, _PROGRAMS_OF_SM)

    @property
    def problem(self) -> str:
        """Why this build must not be, or an empty string."""
        if self.shared_bytes > SHARED_BYTES_OF_PROGRAM[self.architecture]:
            most = SHARED_BYTES_OF_PROGRAM[self.architecture]
            return f"takes {self.shared_bytes} bytes of shared memory of {most}"
        if self.programs_per_sm == 0:
            return "does not fit on a multiprocessor"
        if self.is_hot and self.spilled_bytes:
            return f"is hot and spills {self.spilled_bytes} bytes of a thread"
        return ""


def all_builds(architecture: int) -> Iterator[KernelBuild]:
    """Yield every specialisation that the ops' ``triton_kernel`` modules declare in ``aot_builds``."""
    for package in pkgutil.iter_modules(tito_fast.ops.__path__):
        if not package.ispkg:
            continue
        name = f"tito_fast.ops.{package.name}"
        modules = pkgutil.iter_modules(importlib.import_module(name).__path__)
        if "triton_kernel" in {module.name for module in modules}:
            yield from importlib.import_module(f"{name}.triton_kernel").aot_builds(architecture)


def compile_build(build: KernelBuild, architecture: int) -> BuildReport:
    """Compile for compute capability ``architecture`` / 10 and read what the machine code needs.

    Raises
    ------
    RuntimeError
        Triton interprets in this process, or the machine code could not be read.
    """
    if is_interpreting():
        raise RuntimeError("TRITON_INTERPRET: expected it unset in a process that compiles")
    import triton  # noqa: PLC0415  optional
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    # Pointers that torch hands over are aligned to 16 bytes, as the compiler would learn at a launch.
    names = build.kernel.arg_names
    attributes = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if build.signature.get(name, "").startswith("*")
    }
    constants = {**build.constexprs, **build.launch.tile}
    signature = {name: build.signature.get(name, "constexpr") for name in names}
    source = ASTSource(build.kernel, signature, constants, attributes)
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", architecture, 32),
        options={
            "num_warps": build.launch.num_warps,
            "num_stages": build.launch.num_stages,
            "enable_fp_fusion": build.launch.fuses,
        },
    )
    registers, stack, local = _resources(compiled.asm["cubin"])
    return BuildReport(
        name=build.name,
        architecture=architecture,
        registers=registers,
        spilled_bytes=stack + local,
        shared_bytes=compiled.metadata.shared,
        num_warps=build.launch.num_warps,
        is_hot=build.is_hot,
    )


def _resources(cubin: bytes) -> tuple[int, int, int]:
    """Return registers, stack and local bytes of the one kernel in ``cubin``."""
    import triton  # noqa: PLC0415  optional

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run(  # noqa: S603  the tool that comes with Triton
            [str(tool), "--dump-resource-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = _RESOURCES.search(said)
    if found is None:
        raise RuntimeError(f"cuobjdump: expected a kernel's resources, got {said!r}")
    registers, stack, _, local = map(int, found.groups())
    return registers, stack, local


def compile_builds(wanted: str = "", *, n_processes: int = 1) -> list[BuildReport]:
    """Compile all builds whose names match the regular expression ``wanted``; return them sorted by name.

    Parameters
    ----------
    wanted
        Searched in the names; all match an empty one.
    n_processes
        1 or 2.

    Raises
    ------
    ValueError
        Two builds of one architecture have the same name, or none matches.
    RuntimeError
        As :func:`compile_build`.
    """
    keys = [
        (build.name, architecture)
        for architecture in ARCHITECTURES
        for build in all_builds(architecture)
    ]
    if len(set(keys)) != len(keys):
        twice = sorted(
            {name for name, architecture in keys if keys.count((name, architecture)) > 1}
        )
        raise ValueError(f"aot_builds: expected one build of a name, got two of {', '.join(twice)}")
    keys = sorted(key for key in keys if re.search(wanted, key[0]))
    if not keys:
        raise ValueError(f"wanted: expected a part of a build's name, got {wanted!r}")
    if n_processes == 1:
        return [_compile(key) for key in keys]
    # Not forked: torch has threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(n_processes, _MOST_PROCESSES), mp_context=context) as pool:
        return list(pool.map(_compile, keys))


def _compile(key: tuple[str, int]) -> BuildReport:
    name, architecture = key
    (build,) = (build for build in all_builds(architecture) if build.name == name)
    return compile_build(build, architecture)


def page(reports: Sequence[BuildReport]) -> str:
    """Return the reports as a Markdown page."""
    version = importlib.metadata.version("triton")
    hot = [report for report in reports if report.is_hot]
    lines = [
        "# Triton kernels compiled ahead of time",
        "",
        f"{len(reports)} builds by Triton {version} for compute capabilities "
        f"{' and '.join(f'{each / 10:.1f}' for each in ARCHITECTURES)}, without a GPU; made by "
        "`python -m tito_fast.testing.triton_builds --out docs/triton-builds.md`, which CI runs: it fails if a build",
        "takes more shared memory than a program may (163 kB, 227 kB), or a hot kernel spills registers. Of "
        f"{len(hot)} hot builds {sum(bool(report.spilled_bytes) for report in hot)} spill.",
        "",
        "Registers and spilled bytes are those of a thread, as `cuobjdump --dump-resource-usage` reads them from the",
        "machine code; shared bytes those of a program. *Programs on an SM* is how many fit by registers (65,536),",
        "shared memory (164 kB, 228 kB, of which 1 kB goes with each program) and warps (64).",
        "",
        "| kernel | sm | warps | registers | shared bytes | spilled bytes | programs on an SM | hot |",
        "|--|--|--|--|--|--|--|--|",
    ]
    for report in reports:
        cells = (
            f"`{report.name}`",
            report.architecture,
            report.num_warps,
            report.registers,
            report.shared_bytes,
            report.spilled_bytes,
            report.programs_per_sm,
            "yes" if report.is_hot else "",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, write the page, say on standard error what must not be; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="Markdown page to write")
    parser.add_argument("--only", default="", help="regular expression that names must match")
    parser.add_argument(
        "--processes", type=int, choices=range(1, _MOST_PROCESSES + 1), default=_MOST_PROCESSES
    )
    options = parser.parse_args(arguments)
    reports = compile_builds(options.only, n_processes=options.processes)
    options.out.write_text(page(reports), "utf-8")
    bad = [report for report in reports if report.problem]
    for report in bad:
        sys.stderr.write(f"{report.name} for sm_{report.architecture} {report.problem}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
