"""Objects with vector instructions hold no code that the linker could take for another object's.

A function that several objects hold under one name (a template, or an inline function) is kept once, and that copy
might be the one with instructions that a machine lacks. So all such code has to lie in the namespace of its
instruction set. Nothing is optimized here: then every inline function that is used has a name.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FILES = sorted(CSRC.glob("*/*_isa.cpp"))
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
NM = shutil.which("nm")
IS_X86 = os.uname().machine in ("x86_64", "AMD64")
# The set with the most code stands for all.
ISA = "avx512bf16"
FLAGS = ["-O0", "-std=c++17", "-fopenmp", "-Wno-psabi", "-DTITO_ISA_X86", f"-DTITO_ISA={ISA}"]
VECTORS = "-march=x86-64-v2 -mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx512bf16"

needs_compiler = pytest.mark.skipif(
    COMPILER is None or NM is None or not IS_X86,
    reason="needs a C++ compiler for x86-64 and nm, and one of them is not there",
)


def shared_code(source, folder):
    """Return the functions of a compiled file that the linker may merge, outside the set's namespace."""
    target = folder / f"{source.stem}.o"
    command = [
        str(COMPILER),
        *FLAGS,
        *VECTORS.split(),
        f"-I{CSRC}",
        "-c",
        str(source),
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True)  # noqa: S603, own files
    listed = subprocess.run(  # noqa: S603, own files
        [str(NM), "--demangle", "--defined-only", str(target)],
        capture_output=True,
        text=True,
        check=True,
    )
    weak = re.findall(r"^[0-9a-f]+ [Ww] (.*)$", listed.stdout, re.MULTILINE)
    return [name for name in weak if f"tito_fast::{ISA}::" not in name]


@needs_compiler
@pytest.mark.parametrize("source", FILES, ids=lambda source: source.stem)
def test_shared_code_lies_in_the_namespace_of_its_instruction_set(source, tmp_path):
    assert shared_code(source, tmp_path) == []


@needs_compiler
def test_shared_code_is_seen(tmp_path):
    source = tmp_path / "stray.cpp"
    source.write_text(
        "namespace tito_fast { inline int stray(int n) { return n; } "
        "namespace TITO_ISA { int call(int n) { return stray(n); } } }\n"
    )
    assert shared_code(source, tmp_path) == ["tito_fast::stray(int)"]
