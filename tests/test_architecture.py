"""The rules of the house, read off the sources: floors, walls, order of additions, who prints, what is light.

A failing test says in a sentence what to do. Where a rule has exceptions they stand here with a reason, and
an exception that nothing needs any more fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import ROOT, Module, functions, imports, loading_imports, modules, own_imports, room_of

FLOORS = (
    ("errors", "operations"),
    ("storage", "yamlfile"),
    ("numerics", "record"),
    ("chip", "importing", "network", "recipe"),
    ("workload",),
    ("mapping", "program"),
    ("cost", "datapath"),
    ("run",),
    ("report",),
    ("api",),
    ("rtl", "study", "validation"),
    ("cli",),
    ("__main__",),
)
"""Rooms from the ground up. A room imports from the floors below it, never from its own or from above."""

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

ORDERED_ROOMS = ("numerics", "datapath", "network", "run")
"""Where a number of the modelled chip is computed, so that the order of every operation is written out."""

LIBRARY_SUMS = {
    "average", "convolve", "correlate", "cumsum", "dot", "einsum", "fsum", "inner", "matmul", "mean",
    "nanmean", "nansum", "reduce", "std", "sum", "tensordot", "trace", "var", "vdot",
}  # fmt: skip
"""Calls whose order of additions is the library's: pairwise, blocked, compensated, by the version."""

SUMS_ALLOWED = {
    ("accelsim/numerics/exact_product.py", "_exact_terms"): "adds integers below 2**53, exact in any order",
    ("accelsim/run/gemm_error.py", "_root_mean_square"): "a mean for the reader; no bit of a result follows",
    ("accelsim/run/gemm_report.py", "gemm_report"): "calls our own matmul",
    ("accelsim/run/chip_executor.py", "_seeds"): "counts the GEMMs so far, which are integers",
    (
        "accelsim/run/float_executor.py",
        "multiply",
    ): "is the yardstick in float32; no bit of a chip's result follows",
    ("accelsim/run/probed_executor.py", "_note_error"): "a figure for the reader; no bit of a result follows",
    ("accelsim/run/probing.py", "_compared"): "a figure for the reader; no bit of a result follows",
    ("accelsim/run/probing.py", "probe"): "adds multiply-accumulates, which are integers",
    ("accelsim/run/host_threads.py", "are_short"): "adds multiply-accumulates, which are integers",
    ("accelsim/run/host_threads.py", "fit_at_once"): "adds multiply-accumulates, which are integers",
    ("accelsim/datapath/wide_sum.py", "exact_sums"): "adds multiples of one unit below 2**53, exactly",
    ("accelsim/run/recording.py", "cost_of_step"): "adds cycles and attojoules, which are integers",
    ("accelsim/datapath/activity.py", "observe"): "counts products, which are integers",
    ("accelsim/datapath/activity.py", "_stream"): "counts zeros, which are integers",
    ("accelsim/datapath/activity.py", "_ones"): "counts bits, which are integers",
    ("accelsim/run/objective.py", "_loss"): "a mean for the record; no number of the run follows from it",
}

LIBM = {
    "acos", "arccos", "arcsin", "arctan", "arctan2", "asin", "atan", "atan2", "cbrt", "cos", "cosh", "erf",
    "exp", "exp2", "expm1", "float_power", "hypot", "log", "log10", "log1p", "log2", "pow", "power", "sin",
    "sinh", "tan", "tanh",
}  # fmt: skip
"""Functions whose last bit is the C library's choice. sqrt, frexp, ldexp, rint and 2**n are exact."""

LIBM_ALLOWED = {
    ("accelsim/run/objective.py", "_loss"): "a loss for the record; no number of the run follows from it",
}

FAST_FLAGS = {"fast", "nnan", "ninf", "nsz", "arcp", "contract", "afn", "reassoc"}
"""Compiler flags that let it change a floating-point result."""

LONGEST = {"accelsim": 400, "benchmarks": 400, "tests": 500}
"""Lines of a file."""


def fail_with(mistakes: list[str]) -> None:
    """One sentence a line, all of them at once."""
    if mistakes:
        pytest.fail("\n".join(["", *mistakes]), pytrace=False)


def test_every_room_has_a_floor() -> None:
    """A new room is entered in the table of floors, and the table names no room that is gone."""
    rooms = {module.room for module in modules().values()} - {""}
    fail_with(
        [f"accelsim/{room} has no floor: put it into FLOORS of this test." for room in rooms - set(FLOOR_OF)]
        + [f"FLOORS of this test names '{room}', which is gone." for room in set(FLOOR_OF) - rooms]
    )


def test_imports_point_down() -> None:
    """No room imports from above or from a sibling on its own floor."""
    mistakes = []
    for module in modules().values():
        for one in own_imports(module):
            here, there = module.room, room_of(one.target)
            if not there or here in ("", there):
                continue
            if FLOOR_OF.get(there, 99) >= FLOOR_OF.get(here, 0):
                where = "on the same floor" if FLOOR_OF.get(there) == FLOOR_OF.get(here) else "above it"
                mistakes.append(
                    f"{module.place}:{one.line}: '{here}' imports {one.target}, but '{there}' is {where}; "
                    "move what both need to a floor below."
                )
    fail_with(mistakes)


def test_no_module_imports_itself_in_a_circle() -> None:
    """Modules can be loaded in some order, each after those it imports (the package's front door aside)."""
    graph = {
        name: sorted({one.target for one in loading_imports(module)} - {"accelsim", name})
        for name, module in modules().items()
        if name != "accelsim"
    }
    done: set[str] = set()

    def circle(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return (*path[path.index(name) :], name)
        if name in done:
            return ()
        for target in graph.get(name, []):
            if found := circle(target, (*path, name)):
                return found
        done.add(name)
        return ()

    found = next((one for name in graph if (one := circle(name, ()))), ())
    fail_with([f"These modules import each other in a circle: {' -> '.join(found)}."] if found else [])


def reachable(start: str) -> dict[str, str]:
    """Modules that the modules of a room come to by imports, each with the one that imports it."""
    waiting = [(name, "") for name, module in modules().items() if module.room == start]
    seen: dict[str, str] = {}
    while waiting:
        name, source = waiting.pop()
        if name in seen or name not in modules():
            continue
        seen[name] = source
        if name != "accelsim":  # its verbs are loaded when they are used, and only by those who use them
            waiting += [(one.target, name) for one in own_imports(modules()[name])]
    return seen


@pytest.mark.parametrize(("here", "there"), [("datapath", "cost"), ("cost", "datapath")])
def test_values_and_costs_cannot_see_each_other(here: str, there: str) -> None:
    """Counts are checked against values and values against counts, so neither may follow from the other."""
    fail_with(
        [
            f"accelsim/{here} reaches {name} (through {source}); "
            f"'{here}' and '{there}' must not know each other, not even through a third."
            for name, source in reachable(here).items()
            if room_of(name) == there != room_of(source)
        ]
    )


def test_reports_see_records_only() -> None:
    """Any figure can be redrawn from a JSON file, without the simulator."""
    allowed = {"", "report", "record", "errors", "storage", "operations"}
    fail_with(
        [
            f"accelsim/report reaches {name} (through {source}); it may import only "
            f"{', '.join(sorted(allowed - {''}))}."
            for name, source in reachable("report").items()
            if room_of(name) not in allowed and room_of(source) in allowed
        ]
    )


def test_the_front_door_is_light() -> None:
    """``import accelsim`` loads the errors and nothing else of the package."""
    top = [node for node in modules()["accelsim"].tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert names <= {"__future__", "typing", "accelsim.errors"}, f"accelsim/__init__.py imports {names}"


def calls(module: Module, names: set[str]) -> Iterator[tuple[str, int, str]]:
    """(function it stands in, line, text) of every call of one of the names, plain or as an attribute."""
    for function, node in functions(module.tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in names:
                yield function, node.lineno, ast.unparse(called)


def unreasoned(
    found: list[tuple[str, str, int, str]], allowed: dict[tuple[str, str], str], advice: str
) -> list[str]:
    """Sentences for finds (place, function, line, text) without a reason, and for reasons without a find."""
    mistakes = [
        f"{place}:{line}: {function} uses {text}; {advice}"
        for place, function, line, text in found
        if (place, function) not in allowed
    ]
    needed = {(place, function) for place, function, _, _ in found}
    stale = [f"{place}: '{function}' no longer needs its exception." for place, function in allowed]
    return mistakes + [text for text, key in zip(stale, allowed, strict=True) if key not in needed]


def ordered_modules() -> list[Module]:
    """The modules of the rooms in which order matters."""
    return [module for module in modules().values() if module.room in ORDERED_ROOMS]


def test_additions_are_written_out() -> None:
    """No library sum, mean or matrix product where a rounding depends on the order of additions."""
    found = []
    for module in ordered_modules():
        found += [(module.place, *one) for one in calls(module, LIBRARY_SUMS)]
        found += [
            (module.place, function, node.lineno, "the operator @")
            for function, node in functions(module.tree)
            if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult)
        ]
    advice = (
        "the library chooses the order of its additions. Add in a loop in the documented order, or, if the "
        "numbers are exact in any order, say so in SUMS_ALLOWED of this test."
    )
    fail_with(unreasoned(found, SUMS_ALLOWED, advice))


def _is_power_of_two(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in (2, 4, 16, 2.0, 4.0, 16.0)


def test_no_bit_is_left_to_the_c_library() -> None:
    """No exponential, logarithm or general power where a number of the chip is computed."""
    found = []
    for module in ordered_modules():
        found += [(module.place, *one) for one in calls(module, LIBM)]
        found += [
            (module.place, function, node.lineno, ast.unparse(node))
            for function, node in functions(module.tree)
            if isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Pow)
            and not _is_power_of_two(node.left)
        ]
    advice = (
        "its last bit differs between C libraries. Use a polynomial or repeated squaring, or say in "
        "LIBM_ALLOWED of this test why it does not matter."
    )
    fail_with(unreasoned(found, LIBM_ALLOWED, advice))


def test_no_fast_mathematics() -> None:
    """No compiler is allowed to reorder, contract or approximate."""
    mistakes = []
    for module in modules().values():
        for node in ast.walk(module.tree):
            word = None
            if isinstance(node, ast.keyword) and node.arg in ("fastmath", "fast_math"):
                word = node.arg
            if isinstance(node, ast.Constant) and node.value in FAST_FLAGS and module.room in ORDERED_ROOMS:
                word = node.value
            if word:
                line = node.lineno  # type: ignore[attr-defined]
                mistakes.append(
                    f"{module.place}:{line}: '{word}' lets the compiler change a result; remove it."
                )
    fail_with(mistakes)


def test_kernels_are_compiled_in_one_place() -> None:
    """Only numerics/compiled.py asks Numba for a function, so that no kernel misses the rules."""
    compilers = {"jit", "njit", "vectorize", "guvectorize", "stencil", "cfunc"}
    mistakes = []
    for module in modules().values():
        if module.name == "accelsim.numerics.compiled":
            continue
        for node in ast.walk(module.tree):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            if name in compilers:
                mistakes.append(
                    f"{module.place}:{node.lineno}: {name}: use accelsim.numerics.compiled.kernel instead."  # type: ignore[attr-defined]
                )
    fail_with(mistakes)


def test_compiled_code_stays_in_two_rooms() -> None:
    """Numba is imported by numerics and datapath only: the digest of the kernels' sources covers these."""
    fail_with(
        [
            f"{module.place}:{one.line}: imports {one.target}; kernels belong into numerics or datapath."
            for module in modules().values()
            for one in imports(module)
            if one.target.split(".")[0] in ("numba", "llvmlite")
            and module.room not in ("numerics", "datapath")
        ]
    )


def test_only_the_shell_prints() -> None:
    """No print, no standard stream, no terminal library outside accelsim/cli."""
    mistakes = []
    for module in modules().values():
        if module.room in ("cli", "__main__"):
            continue
        mistakes += [
            f"{module.place}:{one.line}: imports {one.target}; only accelsim/cli talks to the terminal."
            for one in imports(module)
            if one.target.split(".")[0] in ("click", "rich", "logging")
        ]
        for node in ast.walk(module.tree):
            prints = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "input")
            stream = isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "stdin")
            if prints or stream:
                line = node.lineno  # type: ignore[attr-defined]
                mistakes.append(f"{module.place}:{line}: only accelsim/cli prints; return the text instead.")
    fail_with(mistakes)


def test_every_module_says_what_it_is() -> None:
    """Each module starts with a docstring, if it holds anything at all."""
    fail_with(
        [
            f"{module.place}: say in a docstring what the module is for."
            for module in modules().values()
            if module.tree.body and not ast.get_docstring(module.tree)
        ]
    )


def test_no_file_is_too_long() -> None:
    """A file that needs a table of contents is two files."""
    mistakes = []
    for folder, longest in LONGEST.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > longest:
                name = path.relative_to(ROOT).as_posix()
                mistakes.append(f"{name} has {lines} lines, more than {longest}: split it by what it does.")
    fail_with(mistakes)


_TEXT = {
    ".py",
    ".md",
    ".yaml",
    ".yml",
    ".toml",
    ".txt",
    ".cfg",
    ".ini",
    ".sh",
    ".j2",
    ".css",
    ".json",
    ".csv",
}
_TEXT_NAMES = {"Makefile", "LICENSE", "NOTICE", ".gitignore", ".gitattributes"}
_NOT_OURS = {".git", ".venv", "__pycache__", "build", "dist", "reports", "node_modules"}
# An absolute path into somebody's home or into a directory that only one computer has.
_PRIVATE_PATH = re.compile(r"(?<![\w.:/>~-])/(home|root|work|workspace|Users|mnt|tmp|private)(/|\b)(?!\()")


def text_files() -> Iterator[Path]:
    """Every text file of the checkout that is written by hand."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in (".ci", ".github") for part in parts[:-1])
        if hidden or _NOT_OURS & set(parts) or any(part.endswith(".egg-info") for part in parts):
            continue
        if path.is_file() and (path.suffix in _TEXT or path.name in _TEXT_NAMES):
            yield path


def test_no_path_of_one_computer() -> None:
    """The tree names no home directory and no root-level work directory: it works wherever it is."""
    mistakes = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if (match := _PRIVATE_PATH.search(line)) and path.name != Path(__file__).name:
                place = f"{path.relative_to(ROOT).as_posix()}:{number}"
                mistakes.append(f"{place}: '{match.group()}' is a path of one computer; use a relative one.")
    fail_with(mistakes)


LIGHT = """\
import sys
def check(step):
    heavy = [name for name in ("numba", "llvmlite", "matplotlib") if name in sys.modules]
    assert not heavy, f"{step} imports {', '.join(heavy)}; import it inside the function that needs it"
import accelsim
check("import accelsim")
for room in ("chip", "mapping", "cost", "workload", "recipe", "network", "program", "record", "cli.main"):
    __import__("accelsim." + room)
    check("import accelsim." + room)
from accelsim.cli.main import main
for words in (
    ["--help"], ["list"], ["formats", "fp4_r4_odd"], ["check", CHIP], ["check", WORKLOAD],
    ["estimate", "fp4_training", "fashion_cnn"],
):
    assert main(words) == 0, words
    check("accelsim " + " ".join(words))
accelsim.estimate("fp16_training", "letters_mlp", batch=10, epochs=1)
check("accelsim.estimate")
"""


def test_looking_is_cheap(tmp_path: Path) -> None:
    """Import, help, lists, checks and estimates load neither a compiler nor a plotting library."""
    chip, workload = (
        ROOT / name for name in ("arch_configs/fp4_training.yaml", "workloads/fashion_cnn.yaml")
    )
    code = LIGHT.replace("CHIP", repr(str(chip))).replace("WORKLOAD", repr(str(workload)))
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    done = subprocess.run(words, cwd=tmp_path, check=False, capture_output=True, text=True)
    fail_with([] if done.returncode == 0 else [done.stderr.strip().splitlines()[-1]])
