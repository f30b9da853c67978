"""`docs/extend.md` as a reader follows it: its files, its test, and a training by its YAML name."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from rankrl.grpo import Advantages
from rankrl.lazy import load_object
from recipes import rank_grpo
from tests.recipes.runs import NUM_RANKS, PAIRS, REPOSITORY, SMALL, Files, run

PAGE = REPOSITORY / "docs" / "extend.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\w+\.py)\n")


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path with the files of the page: Python as it is called, YAML as `rule.yaml`."""
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        named = NAMED.match(text)
        assert named or language == "yaml", f"Python begins with the name of its file, not with {text[:40]!r}"
        (tmp_path / (named[1] if named else "rule.yaml")).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def test_the_rule_takes_less_than_thirty_lines(followed: Path) -> None:
    files = sorted(followed.iterdir())
    assert [path.name for path in files] == ["dcg_credit.py", "rule.yaml", "test_dcg_credit.py"]
    texts = (path.read_text(encoding="utf-8") for path in files)
    lines = [line for text in texts for line in text.splitlines() if line.strip() and not NAMED.match(f"{line}\n")]
    assert len(lines) < 30


def test_its_test_passes_and_can_fail(followed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("test_dcg_credit")
    (test,) = (value for name, value in vars(module).items() if name.startswith("test_"))
    test()
    monkeypatch.setattr(module, "discount", lambda credit: credit)
    with pytest.raises(AssertionError, match="not close"):
        test()


def test_a_run_trains_by_its_name(
    followed: Path, files: Files, sft_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, seen = import_module("dcg_credit"), []

    def watched(credit: Advantages) -> Advantages:
        seen.append((credit.ranks, found := discount(credit)))
        return found

    discount = module.discount
    monkeypatch.setattr(module, "discount", watched)
    settings = {**files.training, **SMALL, **PAIRS, "model_name_or_path": sft_model, "output_dir": followed / "run"}
    run(rank_grpo, config=followed / "rule.yaml", **settings)
    assert [(len(before), found.ranks.shape) for before, found in seen] == [(4, (4, NUM_RANKS))] * 2, "one each step"
    manifest = json.loads((followed / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["RewardArguments"]["trainer"] == "dcg_credit:DCGCredit"
    assert (followed / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("dcg_credit", ValueError, "expected package.module:name"),
        ("dcg_credit:Other", ValueError, "module 'dcg_credit' does not define 'Other'"),
        ("dcg_credit:discount", ValueError, "expected a subclass of rankrl.grpo.RankGRPOTrainer"),
        ("of_yore:Trainer", ModuleNotFoundError, "there is no 'of_yore'. Install it, or start with PYTHONPATH"),
    ],
)
def test_a_wrong_name_is_an_error_that_teaches(
    name: str, error: type[Exception], said: str, followed: Path, files: Files, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        run(rank_grpo, **files.training, **SMALL, **PAIRS, trainer=name, output_dir=tmp_path)


def test_a_module_that_lacks_another_says_so_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_rule.py").write_text("import not_installed_here", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="^No module named 'not_installed_here'$"):
        load_object("needy_rule:Rule")
