"""The documentation is true: its code runs, its commands parse, its tables and links are the code's."""

import importlib
import inspect
import re
import shlex
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import typer.main
import yaml

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

# Not imported from click: newer versions of typer carry a click of their own.
UsageError = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_ROW = re.compile(r"^\| `([a-z_.]+)` \|([^|]*)\|", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    flags: str
    text: str


def blocks_of(page, language):
    found = [Block(*match) for match in _FENCE.findall(page.read_text("utf-8"))]
    return [block for block in found if block.language == language]


def prose_of(page):
    return _FENCE.sub("", page.read_text("utf-8"))


def commands_of(page, program):
    """Return the argument lists of the calls of ``program`` in the bash blocks of ``page``."""
    calls = []
    for block in blocks_of(page, "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words[: len(program)] == program:
                    calls.append(words[len(program) :])
    return calls


def command_line():
    from tito_fast.cli.main import app  # noqa: PLC0415  a page without commands needs no command line

    return typer.main.get_command(app)


def parse(arguments, command=None):
    """Parse as the command line does, down to the last sub-command, without running anything."""
    command = command or command_line()
    context = command.make_context("tito-fast", list(arguments))
    while hasattr(context.command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


def options_of(*names):
    """Return the option names of a sub-command."""
    command = command_line()
    for name in names:
        command = command.commands[name]
    return {
        flag
        for option in command.params
        if option.param_type_name == "option"
        for flag in (*option.opts, *option.secondary_opts)
        if flag not in {"--help", "--align", "--figure", "--energies"}
    }


@pytest.fixture
def workplace(tmp_path, monkeypatch, make_molecule):
    """Go to a folder with the files that the pages call the reader's own."""
    from tito_fast.data.convert.writer import Frames, StoreWriter  # noqa: PLC0415  imports torch

    source = ROOT / "tests" / "fixtures" / "molecules" / "alanine_dipeptide.pdb"
    (tmp_path / "peptide.pdb").write_bytes(source.read_bytes())
    molecule = make_molecule(5)
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store", converter="test", source_name="docs") as writer:
        molecule_idx = writer.add_molecule(molecule)
        for split in ("train", "val"):
            writer.add_trajectory(
                molecule_idx,
                [Frames(positions=molecule.positions + 0.01 * rng.normal(size=(20, 5, 3)))],
                name=split,
                split=split,
                frame_interval_ps=1.0,
            )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_blocks_run_in_order(page, workplace):
    namespace = {"__name__": "page"}
    for number, block in enumerate(blocks_of(page, "python")):
        code = compile(block.text, f"{page.name}, python block {number}", "exec")
        if block.flags.strip() != "no-run":
            exec(code, namespace)  # noqa: S102  our own documentation


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page):
    for arguments in commands_of(page, ["tito-fast"]):
        parse(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "CCO", "--lag", "1ps", "--n-steps", "1", "--no-such-option"],
        ["sample", "CCO", "--lag", "1ps"],
        ["sample", "CCO", "--lag", "1ps", "--n-steps", "many"],
        ["data", "no-such-command", "store"],
        ["data", "check"],
    ],
)
def test_a_wrong_command_does_not_parse(arguments):
    with pytest.raises(UsageError):
        parse(arguments)


def test_replay_commands_parse():
    from tito_fast.testing.golden.__main__ import _parser  # noqa: PLC0415  imports torch

    program = ["python", "-m", "tito_fast.testing.golden"]
    calls = [call for page in PAGES for call in commands_of(page, program)]
    assert calls
    for arguments in calls:
        assert _parser().parse_args(arguments).files


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("sampling.md", ["sample"]),
        ("evaluation.md", ["evaluate"]),
        ("training.md", ["train"]),
        ("data.md", ["data", "convert"]),
        ("data.md", ["data", "info"]),
        ("checkpoints.md", ["convert"]),
        ("md.md", ["simulate"]),
        ("md.md", ["relax"]),
        ("tbg.md", ["train-equilibrium"]),
        ("tbg.md", ["sample-equilibrium"]),
        ("boltzmann-generators.md", ["reweight"]),
    ],
)
def test_every_option_is_on_its_page(name, command):
    text = (ROOT / "docs" / name).read_text("utf-8")
    missing = {flag for flag in options_of(*command) if not re.search(rf"{flag}(?![\w-])", text)}
    assert not missing


def test_the_options_of_sampling_are_real():
    table = re.findall(
        r"^\| `(--[^|]*?)` \|", prose_of(ROOT / "docs" / "sampling.md"), re.MULTILINE
    )
    named = {flag for cell in table for flag in re.findall(r"--[\w-]+", cell)}
    assert named == options_of("sample")


def test_every_setting_of_training_is_on_its_page_with_its_default():
    from tito_fast.training.config import TrainingConfig  # noqa: PLC0415  imports torch

    text = (ROOT / "docs" / "training.md").read_text("utf-8").partition("## Settings")[2]
    rows = {name: (yaml.safe_load(cell), cell.strip()) for name, cell in _ROW.findall(text)}
    # An empty cell is an empty text.
    rows = {name: "" if cell is None and not text else cell for name, (cell, text) in rows.items()}
    assert rows == flat(TrainingConfig())


def flat(config, prefix=""):
    values = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        name = prefix + entry.name
        values |= flat(value, f"{name}.") if is_dataclass(value) else {name: value}
    return values


def test_settings_that_may_change_are_those_of_the_code():
    from tito_fast.training.run_files import _MAY_CHANGE  # noqa: PLC0415  imports torch

    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    sentence = text.partition("These settings may change")[2].partition("Any other")[0]
    assert set(re.findall(r"`([a-z_.]+)`", sentence)) == set(_MAY_CHANGE)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_yaml_blocks_are_configs(page):
    from tito_fast.training.config import TrainingConfig  # noqa: PLC0415  imports torch

    for block in blocks_of(page, "yaml"):
        assert TrainingConfig.from_dict(yaml.safe_load(block.text)).out


def test_the_tolerances_of_golden_replay_are_those_of_the_code():
    from tito_fast.testing.golden import TOLERANCES  # noqa: PLC0415  imports torch

    rows = re.findall(
        r"^\| ([a-z ]+) \| ([\d.e-]+) \| ([\d.e-]+) \|$",
        (ROOT / "docs" / "golden.md").read_text("utf-8"),
        re.MULTILINE,
    )
    documented = {name: {"float64": float(a), "float32": float(b)} for name, a, b in rows}
    assert documented == {str(name): values for name, values in TOLERANCES.items()}


def test_units_and_solvers_are_those_of_the_code():
    from tito_fast.solvers import SOLVERS  # noqa: PLC0415  imports torch
    from tito_fast.units import LENGTH_UNITS_NM  # noqa: PLC0415  beside the others

    text = (ROOT / "docs" / "checkpoints.md").read_text("utf-8")
    for name, unit in LENGTH_UNITS_NM.items():
        assert f"| `{name}` | {unit} |" in text
    rows = re.findall(
        r"^\| `(\w+)` \| (\d) \| (\d) \|$",
        (ROOT / "docs" / "sampling.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert {name: (int(a), int(b)) for name, a, b in rows} == {
        name: (solver.order, solver.n_evaluations) for name, solver in SOLVERS.items()
    }


def first_cells(name, heading):
    """Return the code in the first column of the first table under a heading."""
    text = (ROOT / "docs" / name).read_text("utf-8").partition(f"## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)[0]
    return re.findall(r"^\| `([^`]+)` \|", table.partition("|--")[2], re.MULTILINE)


def test_precisions_backends_and_instruction_sets_are_those_of_the_code():
    from tito_fast.types import BACKENDS, PRECISIONS  # noqa: PLC0415  imports torch

    assert first_cells("sampling.md", "Precision") == list(PRECISIONS)
    assert set(first_cells("models.md", "Backends")) == set(BACKENDS) - {"auto"}
    cmake = (ROOT / "CMakeLists.txt").read_text("utf-8")
    sets = re.findall(r"^set\(isa_flags_(\w+)", cmake, re.MULTILINE)
    assert first_cells("install.md", "Instruction sets") == sets


def test_the_metrics_of_evaluation_are_those_of_the_code():
    from tito_fast.analysis.descriptions import DESCRIPTIONS  # noqa: PLC0415  beside the others

    assert first_cells("evaluation.md", "Metrics") == list(DESCRIPTIONS)


def test_every_operation_is_on_its_page_with_its_signature():
    from tito_fast import ops  # noqa: PLC0415  imports torch

    names = {row.op for row in ops.op_table()}
    text = (ROOT / "docs" / "ops.md").read_text("utf-8")
    documented = re.findall(r"^\| `(\w+)(\([^`]*\))` \|", text, re.MULTILINE)
    assert dict(documented) == {name: signature_of(getattr(ops, name)) for name in names}
    table = README.read_text("utf-8").partition("| [operation]")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == names


def signature_of(function):
    """Return a function's signature without types, and without the backend that every op takes."""
    signature = inspect.signature(function)
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "backend"
    ]
    return str(inspect.Signature(kept))


def test_the_devices_of_native_operations_are_those_of_the_code():
    from tito_fast.ops import op_table  # noqa: PLC0415  imports torch

    text = (ROOT / "docs" / "ops.md").read_text("utf-8")
    documented = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \|", text, re.MULTILINE)
    no_kernel = re.compile("has no native kernel")
    expected = {}
    for row in op_table():
        if row.backend == "native" and not no_kernel.search(row.reason):
            expected.setdefault(row.op, []).append(row.device)
    assert {name: cell.split(", ") for name, cell in documented} == expected


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_dotted_names_exist(page):
    for dotted in set(re.findall(r"\btito_fast(?:\.[A-Za-z_]\w*)+", prose_of(page))):
        if dotted != "tito_fast._C":  # compiled; its own test says whether it is there
            assert resolve(dotted) is not None


def resolve(dotted):
    parts = dotted.split(".")
    for n_module in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n_module]))
        except ModuleNotFoundError:
            continue
        for name in parts[n_module:]:
            found = getattr(found, name)
        return found
    return None


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_of_the_repository_that_are_named_are_there(page):
    pattern = r"`((?:tito_fast|tests|csrc|docs|benchmarks|\.ci)/[\w/.]+)`"
    for path in set(re.findall(pattern, prose_of(page))):
        assert (ROOT / path).exists(), path


def links_of(page):
    return [link for link in _LINK.findall(prose_of(page)) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for link in links_of(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


def anchors_of(page):
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_index():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links_of(index)}
    assert linked == {page.resolve() for page in PAGES} - {README, index}


def test_the_readme_starts_with_the_two_commands():
    first, second, *_ = blocks_of(README, "bash")
    assert first.text == (
        "pip install . && tito-fast sample CCCCO --lag 100ps --n-steps 20 --replicas 4 --out butanol\n"
    )
    assert second.text == 'pip install ".[test]" && pytest\n'
    before = README.read_text("utf-8").partition("```bash")[0]
    assert len([line for line in before.splitlines() if line and not line.startswith("#")]) <= 2


def test_the_changelog_has_unreleased_on_top():
    text = (ROOT / "docs" / "changelog.md").read_text("utf-8")
    assert re.findall(r"^## .*$", text, re.MULTILINE)[0] == "## [Unreleased]"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_figure_is_left_open(page):
    assert "FIGURE" not in page.read_text("utf-8")
