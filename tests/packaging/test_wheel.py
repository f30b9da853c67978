"""The wheel alone, in an empty environment: `pip install rankrl` is enough for catalogue, rewards and metrics."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("catalog", "rankrl")

SESSION = """
import importlib.util
from importlib.metadata import distributions

assert importlib.util.find_spec("torch") is None
print(*sorted(d.name.lower() for d in distributions()))

from catalog import Catalog, parse_list
from rankrl.metrics import ndcg_at_k, recall_at_k
from rankrl.rewards import RankReward, rank_returns, relevance

catalog = Catalog([("Heat", 1995), ("Alien", 1979), ("Ran", 1985)])
text = "1. Alien (1979)\\nA film nobody made (1950)\\nHeat (1995)\\n"
ranked = catalog.ranked([text], 3)
assert [line.title for line in parse_list(text)] == ["Alien", "A film nobody made", "Heat"]
assert ranked.tolist() == [[1, -1, 0]]
assert relevance(ranked, [[0]]).tolist() == [[0, 0, 1]]
assert rank_returns(relevance(ranked, [[0]])).tolist() == [[0, 0, 1]]
assert RankReward(catalog, num_ranks=3)(completions=[text], ground_truth=[[["Heat", 1995]]]) == [[0.0, 0.0, 1.0]]
assert recall_at_k(ranked, [[0]], 3).tolist() == [1.0]
assert ndcg_at_k(ranked, [[0]], 3).tolist() == [0.5]  # 1 / log2(3 + 1)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources: a `build/` left in the checkout would put deleted modules into the wheel."""
    sources = tmp_path_factory.mktemp("sources")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", cwd=sources)
    (built,) = (sources / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_the_packages_and_their_data(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*") if path.is_file()]
    wanted = {path.relative_to(REPOSITORY).as_posix() for path in files if "__pycache__" not in path.parts}
    assert wanted - held == set(), "not in the wheel: add them to [tool.setuptools.package-data]"
    assert held - wanted == set()
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


@pytest.mark.network
def test_an_empty_environment_is_enough(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv")
    python = str(tmp_path / "venv" / "bin" / "python")
    constraints = str(REPOSITORY / "constraints.txt")
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "-c", constraints, str(wheel))

    assert _run(python, "-I", "-c", SESSION, cwd=tmp_path).split() == ["numpy", "rankrl", "rapidfuzz"]

    (tmp_path / "films.jsonl").write_text('{"title": "Heat", "year": 1995}\n', encoding="utf-8")
    assert _run(python, "-I", "-m", "catalog", "stats", "films.jsonl", cwd=tmp_path)


def _run(*command: str, cwd: Path | None = None) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(command[:3])} failed:\n{result.stdout}\n{result.stderr}"
    return result.stdout
