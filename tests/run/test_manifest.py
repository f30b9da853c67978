"""A run is written down with what it depends on, and without secrets."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from trl import SFTConfig

from catalog import Catalog
from rankrl.run.arguments import DataArguments
from rankrl.run.manifest import file_hash, write_manifest

CATALOG = Catalog([("Heat", 1995), ("Amélie", 2001), ("2001: A Space Odyssey", 1968), ("The Godfather", 1972)])


@pytest.fixture
def arguments(tmp_path: Path) -> DataArguments:
    """Of a file of dialogues that is there: all that a manifest reads of it is its hash."""
    (tmp_path / "dialogues.jsonl").write_text("{}\n", encoding="utf-8")
    return DataArguments(catalog="catalog.jsonl", dialogues=str(tmp_path / "dialogues.jsonl"), prompt_template="movie")


def test_the_manifest_says_what_the_run_was_and_no_secret(arguments: DataArguments, tmp_path: Path) -> None:
    training = SFTConfig(
        str(tmp_path / "run"),
        learning_rate=0.25,
        use_cpu=True,
        hub_token="hf_secret",
        model_init_kwargs={"token": "hf_secret"},
    )
    write_manifest(tmp_path / "run", CATALOG, "abc", arguments, training, generation={"temperature": 1.0})

    text = (tmp_path / "run" / "manifest.json").read_text(encoding="utf-8")
    assert "hf_secret" not in text
    manifest = json.loads(text, parse_constant=pytest.fail)
    assert manifest["catalog"] == {"version": CATALOG.version, "items": 4}
    assert manifest["prompt_hash"] == "abc"
    assert manifest["generation"] == {"temperature": 1.0}
    assert manifest["config"]["SFTConfig"]["learning_rate"] == 0.25
    assert manifest["config"]["DataArguments"]["prompt_template"] == arguments.prompt_template
    assert manifest["data"] == {arguments.dialogues: file_hash(arguments.dialogues)}
    assert manifest["versions"].keys() >= {"python", "torch", "transformers", "trl", "peft"}


def test_a_file_is_known_by_its_sha_256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(str(tmp_path / "a")) == hashlib.sha256(b"abc").hexdigest()[:16] == "ba7816bf8f01cfea"
    assert file_hash("me/a-dataset-on-the-hub") is None


def test_the_manifest_names_the_seeds_and_the_machine(arguments: DataArguments, tmp_path: Path) -> None:
    training = SFTConfig(str(tmp_path / "run"), seed=7, data_seed=8, use_cpu=True)
    write_manifest(tmp_path / "run", CATALOG, "abc", arguments, training)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["config"]["SFTConfig"]["seed"], manifest["config"]["SFTConfig"]["data_seed"]) == (7, 8)
    assert manifest["machine"].keys() == {"system", "gpus", "cuda", "processes"}
    assert manifest["machine"]["processes"] == 1
    assert ("vllm" in manifest["versions"]) == (find_spec("vllm") is not None)


def test_what_a_resumed_run_was_before_is_kept(arguments: DataArguments, tmp_path: Path) -> None:
    def written(folder: str, rate: float, resumed_from: Path | None = None) -> dict:
        training = SFTConfig(str(tmp_path / folder), learning_rate=rate, use_cpu=True)
        resumed = resumed_from and str(resumed_from)
        write_manifest(tmp_path / folder, CATALOG, "abc", arguments, training, resumed_from=resumed)
        return json.loads((tmp_path / folder / "manifest.json").read_text(encoding="utf-8"))

    rate = lambda manifest: manifest["config"]["SFTConfig"]["learning_rate"]  # noqa: E731
    assert "earlier" not in written("run", 0.5)
    second = written("run", 0.25, tmp_path / "run" / "checkpoint-2")
    assert (rate(second), second["resumed_from"]) == (0.25, str(tmp_path / "run" / "checkpoint-2"))
    assert [rate(part) for part in second["earlier"]] == [0.5]
    third = written("elsewhere", 0.125, tmp_path / "run" / "checkpoint-4")
    assert [rate(part) for part in third["earlier"]] == [0.5, 0.25]
    assert "earlier" not in third["earlier"][1], "each part once"
    assert third["earlier"][1]["resumed_from"] == second["resumed_from"]
    assert written("fresh", 0.5, tmp_path / "unknown" / "checkpoint-2")["earlier"] == []
