"""What the container file names is there. Building it takes a container engine, which tests do not have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def test_everything_copied_is_there() -> None:
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", TEXT, re.MULTILINE) for name in line.split()]
    assert {"catalog", "rankrl", "recipes", "accelerate_configs", "constraints-vllm.txt"} <= set(copied)
    assert [name for name in copied if not (REPOSITORY / name).exists()] == []


def test_what_is_installed_is_offered_and_pinned() -> None:
    (constraints, extras), *others = re.findall(r'pip install .*-c (\S+) -e "\.\[(.+)\]"', TEXT)
    assert not others
    assert (REPOSITORY / constraints).is_file()
    offered = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"train", "vllm"} <= set(extras.split(",")) <= offered["optional-dependencies"].keys()


def test_it_says_that_nobody_has_built_it() -> None:
    assert "Nobody has built this yet" in TEXT
