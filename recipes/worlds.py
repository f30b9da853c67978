"""The demo's worlds, one a seed: simulated users, the teacher's demonstrations, the SFT model. Where studies start."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from catalog import ItemReference
from rankrl.data import load_dialogues, save_dialogues
from rankrl.data.simulation import simulate
from rankrl.run.grid import Start
from rankrl.run.once import run_once

CONFIGS = Path(__file__).parent / "configs" / "demo"
NUM_RANKS = 10
TRAIN, VALIDATION, TEST = 8000, 400, 400  # dialogues
_SUBTITLE = (  # one word of each column, in this order
    ("How", "Why", "When", "Where"),
    ("a Quiet", "a Stubborn", "an Unlucky", "a Perfect", "a Forgotten"),
    ("Evening", "Stranger", "Family", "Detective", "Orchestra", "Harbour"),
    ("Came to", "Fell for", "Ran from", "Waited for"),
    ("a Loud", "a Gentle", "an Unexpected", "a Final"),
    ("End", "Journey", "Silence", "Reunion", "Winter"),
)


def demo_world(root: Path, seed: int) -> Start:
    """Prepare a world in a folder, unless it is there; what `start:` names in the grids of the demo."""
    write_world(root / "data", seed)
    teach(root, seed, root / "data" / "train.jsonl")
    return world_of(root)


def uneven_world(root: Path, seed: int) -> Start:
    """The demo's world with titles of very uneven length: every second film, drawn at random, has a long subtitle."""
    write_world(root / "data", seed)
    demonstrate(root, seed, root / "data" / "train.jsonl")
    uneven = root / "uneven"
    data, learned = uneven / "data", uneven / "data" / "demonstrations.jsonl"
    if not learned.is_file():
        films = [json.loads(line) for line in (root / "data" / "catalog.jsonl").read_text("utf-8").splitlines()]
        titles = uneven_titles(films, np.random.default_rng(seed))
        data.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({**film, "title": titles[film["id"]]}, ensure_ascii=False) + "\n" for film in films]
        (data / "catalog.jsonl").write_text("".join(lines), encoding="utf-8")
        for split in ("train", "validation", "test"):
            retitle(root / "data" / f"{split}.jsonl", data / f"{split}.jsonl", films, titles)
        retitle(root / "demonstrations" / "demonstrations.jsonl", learned, films, titles)
    run_recipe(uneven, "sft", "sft", learned, seed, "--tiny_context", "448")
    return world_of(uneven)


def uneven_titles(films: Sequence[Mapping[str, str]], rng: np.random.Generator) -> dict[str, str]:
    """Every film's id -> its title, with a subtitle of many words for one half of them."""
    titles = {film["id"]: film["title"] for film in films}
    for place in rng.permutation(len(films))[::2].tolist():
        words = " ".join(str(rng.choice(column)) for column in _SUBTITLE)
        titles[films[place]["id"]] += f", or {words}"
    return titles


def retitle(source: Path, target: Path, films: Sequence[Mapping[str, str]], titles: Mapping[str, str]) -> None:
    """Copy dialogues, with other titles for the items and for the films that are spoken of as `Title (Year)`."""
    spoken = {f"{film['title']} ({film['year']})": f"{titles[film['id']]} ({film['year']})" for film in films}
    old = re.compile("|".join(re.escape(line) for line in sorted(spoken, key=len, reverse=True)))

    def said(text: str) -> str:
        return old.sub(lambda match: spoken[match[0]], text)

    def items(references: Sequence[ItemReference] | None) -> list[ItemReference]:
        return [replace(item, title=titles[item.key or ""]) for item in references or ()]

    dialogues = [
        replace(
            dialogue,
            messages=[{**message, "content": said(message["content"])} for message in dialogue.messages],
            seen=items(dialogue.seen),
            ground_truth=items(dialogue.ground_truth),
            recommendations=items(dialogue.recommendations),
        )
        for dialogue in load_dialogues(source)
    ]
    save_dialogues(target, dialogues)


def world_of(root: Path) -> Start:
    """Where a world's files lie."""
    data = root / "data"
    paths = (data / "catalog.jsonl", data / "train.jsonl", root / "sft", data / "test.jsonl", data / "validation.jsonl")
    return Start(*map(str, paths))


def write_world(data: Path, seed: int, train: int = TRAIN, test: int = TEST) -> None:
    """Write catalogue, dialogues and true choice probabilities, unless they are there."""
    if (data / "truth.npz").is_file():
        return
    simulate(train, VALIDATION, test, seed=seed, num_ranks=NUM_RANKS).save(data)


def teach(root: Path, seed: int, train: Path) -> None:
    """Stage 1 with the demo's settings: demonstrations, then SFT."""
    demonstrate(root, seed, train)
    run_recipe(root, "sft", "sft", root / "demonstrations" / "demonstrations.jsonl", seed)


def demonstrate(root: Path, seed: int, train: Path) -> None:
    """The teacher's lists, brought into the catalogue."""
    run_recipe(root, "demonstrations", "demonstrations", train, seed, "--teacher_seed", str(seed))


def run_recipe(root: Path, recipe: str, name: str, dialogues: Path, seed: int, *flags: str) -> None:
    """Run one recipe with the demo's settings, unless it has finished before."""
    settings = ("--config", str(CONFIGS / f"{recipe}.yaml"), "--catalog", str(root / "data" / "catalog.jsonl"))
    where = ("--dialogues", str(dialogues), "--output_dir", str(root / name), "--seed", str(seed))
    resume = ("--resume_from_checkpoint", "latest") if recipe in ("sft", "rank_grpo") else ()  # one that was stopped
    run_once(root, name, [sys.executable, "-m", f"recipes.{recipe}", *settings, *where, *resume, *flags])
