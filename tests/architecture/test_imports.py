"""Imports point downwards only, the pure layer stays pure, and files stay small.

The graph is read from the source, so that an import hidden in a function or under TYPE_CHECKING counts too. What an
import really loads is seen in fresh processes.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_LINES = 400

# Lowest first. A part may import what stands below it and itself, not its neighbours on the same level.
LEVELS = (
    ("rankrl.lazy",),
    (
        "catalog",
        "rankrl.grpo.segments",
        "rankrl.grpo.advantages",
        "rankrl.grpo.objective",
        "rankrl.plan.arithmetic",
    ),
    ("rankrl.rewards",),
    ("rankrl.metrics", "rankrl.templates", "rankrl.chat", "rankrl.shards", "rankrl.jsonl"),
    ("rankrl.data", "rankrl.teachers", "rankrl.encoders"),
    ("rankrl.grpo", "rankrl.sft", "rankrl.demonstrations", "rankrl.labels"),
    ("rankrl.evaluation",),
    ("rankrl.run",),
    ("rankrl.plan",),
    ("rankrl",),  # the package itself, which offers names of the parts
    ("recipes", "benchmarks"),
)
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}
OWN = {part.partition(".")[0] for part in LEVEL_OF}

# What the pure parts may load when they are imported. Parquet readers and the like are loaded on use.
PURE = {
    "catalog": {"numpy", "rapidfuzz"},
    "rankrl.rewards": {"numpy"},
    "rankrl.metrics": {"numpy"},
    "rankrl.grpo.segments": {"torch"},
    "rankrl.grpo.advantages": {"torch"},
    "rankrl.grpo.objective": {"torch"},
    "rankrl.plan.arithmetic": set(),
}
# What a pure part never imports, not even on use, unless PURE allows it.
TRAINING = {"torch", "transformers", "trl", "vllm", "peft", "accelerate", "datasets", "deepspeed"}
TRL_INTERNALS = "rankrl.grpo.trainer"


@dataclass(frozen=True)
class Import:
    """One imported name. `when`: "load" (when the module is imported), "use" (in a function), "types" (never run)."""

    module: str
    target: str
    where: str
    when: str

    def __str__(self) -> str:
        return f"{self.where}: {self.module} imports {self.target}"


def part_of(name: str) -> str:
    """The longest entry of LEVELS that holds a module, or a name in it, of one of our packages."""
    while name not in LEVEL_OF:
        name = name.rpartition(".")[0]
    return name


def imports_of(source: str, module: str, where: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import statement of a module, with relative names resolved."""
    tree = ast.parse(source)
    in_functions = _inside(tree, lambda node: isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))
    for_types = _inside(tree, _is_type_checking_block)
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            when = "types" if node in for_types else "use" if node in in_functions else "load"
            yield Import(module, target, f"{where}:{node.lineno}", when)


def _inside(tree: ast.AST, is_block: Callable[[ast.AST], bool]) -> set[ast.AST]:
    return {node for block in ast.walk(tree) if is_block(block) for node in ast.walk(block)}


def _is_type_checking_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def sources() -> Iterator[Path]:
    for package in sorted(OWN):
        yield from sorted((REPOSITORY / package).rglob("*.py"))


def project_imports() -> list[Import]:
    found = []
    for path in sources():
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        where = str(path.relative_to(REPOSITORY))
        found += imports_of(path.read_text(encoding="utf-8"), module, where, is_package=is_package)
    return found


def wrong_direction(imports: list[Import]) -> list[str]:
    """Imports that run upwards or sideways. What is in no part counts as the package `rankrl`, above all parts."""
    wrong = []
    for found in imports:
        if found.target.partition(".")[0] not in OWN or found.target == "rankrl.__version__":
            continue
        source, target = part_of(found.module), part_of(found.target)
        above = LEVEL_OF[target] - LEVEL_OF[source]
        if source != target and above >= 0:
            wrong.append(f"{found}, {'upwards' if above else 'sideways'}: part {source} must not know part {target}")
    return wrong


def impure(imports: list[Import]) -> list[str]:
    """Imports by which a pure part would load, or come to depend on, more than PURE allows."""
    wrong = []
    for found in imports:
        part, library = part_of(found.module), found.target.partition(".")[0]
        if part not in PURE or library in PURE[part] | OWN | set(sys.stdlib_module_names):
            continue
        if found.when == "load" or (found.when == "use" and library in TRAINING):
            wrong.append(f"{found}; {part} may load {', '.join(sorted(PURE[part]))} only")
    return wrong


def reaches_into_trl(imports: list[Import]) -> list[str]:
    """Imports from TRL's submodules, or of its private names, outside the one file that is allowed to."""
    return [
        f"{found}; only {TRL_INTERNALS} may use what `import trl` does not offer"
        for found in imports
        if found.target.startswith("trl.") and found.module != TRL_INTERNALS
        if found.target.count(".") > 1 or found.target.startswith("trl._")
    ]


def test_imports_point_downwards() -> None:
    wrong = wrong_direction(project_imports())
    assert wrong == []


def test_every_module_has_a_level() -> None:
    unplaced = {found.module for found in project_imports() if part_of(found.module) == "rankrl"} - {"rankrl"}
    assert not unplaced, f"give {sorted(unplaced)} a place in LEVELS"


def test_pure_parts_stay_pure() -> None:
    wrong = impure(project_imports())
    assert wrong == []


def test_trl_internals_stay_in_one_file() -> None:
    wrong = reaches_into_trl(project_imports())
    assert wrong == []


def test_files_are_small_enough_to_read_in_one_sitting() -> None:
    paths = [*sources(), *sorted((REPOSITORY / "tests").rglob("*.py"))]
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_the_check_reads_the_project() -> None:
    assert {found.module.partition(".")[0] for found in project_imports()} >= {"catalog", "rankrl", "recipes"}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("catalog.items", "from rankrl.rewards import relevance", "upwards"),
        ("rankrl.rewards.reward", "def f():\n    import rankrl.data", "upwards"),
        ("rankrl.rewards.reward", "from ..grpo import trainer", "upwards"),
        ("rankrl.grpo.segments", "from rankrl.grpo.config import RankGRPOConfig", "upwards"),
        ("rankrl.data.schema", "if TYPE_CHECKING:\n    from rankrl.teachers import Teacher", "sideways"),
        ("rankrl.evaluation.report", "from rankrl import run", "upwards"),
        ("rankrl.data.schema", "from rankrl import RankReward", "upwards"),
        ("rankrl.data.schema", "from rankrl.helpers import chunked", "upwards"),
    ],
)
def test_a_wrong_direction_is_found(module: str, source: str, complaint: str) -> None:
    (message,) = wrong_direction(list(imports_of(source, module, "a.py")))
    assert "a.py:" in message
    assert complaint in message


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rankrl.rewards.reward", "from catalog import Catalog\nfrom .returns import rank_returns"),
        ("rankrl.grpo.trainer", "from rankrl.grpo.segments import LineTable\nfrom rankrl import grpo"),
        ("rankrl.evaluation.evaluator", "from rankrl import __version__\nfrom rankrl.data import load_dialogues"),
        ("rankrl", "from rankrl.grpo import RankGRPOTrainer"),
        ("recipes.demo", "from rankrl import RankReward\nimport rankrl"),
    ],
)
def test_a_right_direction_is_left_alone(module: str, source: str) -> None:
    assert wrong_direction(list(imports_of(source, module, "a.py"))) == []


def test_impurity_is_found() -> None:
    def check(module: str, source: str) -> list[str]:
        return impure(list(imports_of(source, module, "a.py")))

    assert check("catalog.items", "import pandas")
    assert check("catalog.items", "def f():\n    from torch import nn")
    assert check("rankrl.grpo.segments", "def f():\n    import trl")
    assert not check("catalog.items", "import json, numpy\ndef f():\n    import pyarrow.parquet")
    assert not check("rankrl.grpo.segments", "import torch\nif TYPE_CHECKING:\n    import transformers")


@pytest.mark.parametrize(
    ("statement", "not_loaded"),
    [
        ("import catalog", {"torch", "pandas", "pyarrow", "scipy", "rankrl"}),
        ("from catalog import Catalog, parse_list", {"torch", "pandas", "pyarrow", "scipy", "rankrl"}),
        ("import rankrl", {"numpy", "torch", "trl"}),
        ("import rankrl.rewards, rankrl.metrics", {"torch", "pandas", "pyarrow", "scipy"}),
        ("from rankrl.rewards import RankReward, rank_returns, relevance", {"torch", "pandas", "pyarrow"}),
        ("from rankrl.encoders import SentenceTransformerEncoder, TfidfEncoder", {"torch", "sklearn", "scipy"}),
        ("from rankrl.demonstrations import Adjustment, remap_scores", {"torch", "sklearn"}),
        ("from rankrl.labels import load_scores, teacher_agreement", TRAINING),
        ("from rankrl.grpo import LineTable, rank_advantages, rank_grpo_loss, segment_ranks", TRAINING - {"torch"}),
    ],
)
def test_a_fresh_process_loads_no_more(statement: str, not_loaded: set[str]) -> None:
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not not_loaded & set(result.stdout.split())


@pytest.mark.parametrize(
    "package", sorted(".".join(p.parent.relative_to(REPOSITORY).parts) for p in sources() if p.name == "__init__.py")
)
def test_every_offered_name_exists(package: str) -> None:
    """Lazy exports are strings, which nothing else would check."""
    module = import_module(package)
    missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
    assert not missing, f"{package}.__all__ offers what is not there: {missing}"
