"""Triton kernels compiled ahead of time, without a GPU: registers, shared memory, spills."""

import importlib
import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tito_fast.ops
from tito_fast.ops.triton_launch import KernelBuild, is_interpreting

ARCHITECTURES = (80, 90)
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
