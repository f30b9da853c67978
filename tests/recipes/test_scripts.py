"""The scripts run as scripts, where the packages are installed and `recipes` is only a folder."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.recipes.runs import REPOSITORY, installed

CALLERS = ("__init__", "compare", "demo", "label_study", "worlds")  # run other recipes, so with `python -m`
SCRIPTS = sorted(path for path in (REPOSITORY / "recipes").glob("*.py") if path.stem not in CALLERS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_helps(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = installed(tmp_path / "packages")["PYTHONPATH"]
    elsewhere = [place for place in sys.path if Path(place or ".").resolve() != REPOSITORY]
    monkeypatch.setattr(sys, "path", [str(script.parent), packages, *elsewhere])  # as `python recipes/script.py` does
    for name in [name for name in sys.modules if name.split(".")[0] == "recipes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])

    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(script), run_name="__main__")

    assert stopped.value.code == 0
    assert ("runs" if script.stem == "plot" else "--catalog") in capsys.readouterr().out
