"""The start of a run: data as the arguments filter it, a prompt that leaves room for the list, a record of the run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.utils import DistributedType
from transformers import GPT2Config
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, SFTConfig

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, save_dialogues
from rankrl.run import start
from rankrl.run.arguments import DataArguments
from rankrl.run.start import (
    checkpoint_to_resume,
    file_hash,
    make_renderer,
    read_data,
    require_joined_processes,
    require_packages,
    resolve_dialogues,
    show_example,
    write_manifest,
)

CATALOG = Catalog([("Heat", 1995), ("Amélie", 2001), ("2001: A Space Odyssey", 1968), ("The Godfather", 1972)])
DIALOGUES = [
    Dialogue("s:0:0", [{"role": "user", "content": "A heist?"}], [], [("Heat", 1995)], domain="movie"),
    Dialogue("s:1:0", [{"role": "user", "content": "Heat again?"}], [("Heat", 1995)], [("Heat", 1995)], domain="movie"),
    Dialogue("s:2:0", [{"role": "user", "content": "A novel?"}], [], [("The Godfather", 1972)], domain="book"),
]


@pytest.fixture
def arguments(tmp_path: Path) -> DataArguments:
    CATALOG.save(tmp_path / "catalog.jsonl")
    save_dialogues(tmp_path / "dialogues.jsonl", DIALOGUES)
    (tmp_path / "prompt.jinja").write_text("{% block user %}{{ turns[-1].content }} {{ num_ranks }}:{% endblock %}")
    names = ("catalog.jsonl", "dialogues.jsonl", "prompt.jinja")
    catalog, dialogues, prompt = (str(tmp_path / name) for name in names)
    return DataArguments(catalog=catalog, dialogues=dialogues, prompt_template=prompt)


# ---- Data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, ["s:0:0", "s:2:0"]),
        ({"only_new_items": False}, ["s:0:0", "s:1:0", "s:2:0"]),
        ({"domain": "book"}, ["s:2:0"]),
        ({"limit": 1}, ["s:0:0"]),
    ],
)
def test_reads_the_dialogues_that_are_asked_for(
    settings: dict[str, Any], ids: list[str], arguments: DataArguments
) -> None:
    catalog, dialogues = read_data(replace(arguments, **settings))
    assert [dialogue.id for dialogue in dialogues] == ids
    assert catalog.version == CATALOG.version


def test_items_are_written_by_the_line_template(arguments: DataArguments) -> None:
    catalog, _ = read_data(replace(arguments, line_template="{year}: {title}"))
    assert catalog.lines[0] == "1995: Heat"


def test_truth_and_seen_become_ids_and_an_unknown_truth_stays_empty() -> None:
    """Heat is item 0, Amélie 1, The Godfather 3; Up is in no catalogue."""
    rows = [
        replace(DIALOGUES[0], ground_truth=[("Heat", 1995), ("Up", 2009)], seen=[("Amélie", 2001)]),
        replace(DIALOGUES[1], ground_truth=[]),
        DIALOGUES[2],
    ]
    truth, seen = resolve_dialogues(CATALOG, rows, unknown_limit=0.5)
    assert [list(row) for row in truth] == [[0], [], [3]]
    assert [row - {-1} for row in seen] == [{1}, {0}, set()]
    with pytest.raises(ValueError, match="Up"):
        resolve_dialogues(CATALOG, rows, unknown_limit=0.1)


def test_dialogues_without_any_truth_are_no_error() -> None:
    rows = [replace(dialogue, ground_truth=[]) for dialogue in DIALOGUES]
    assert resolve_dialogues(CATALOG, rows, unknown_limit=0.0)[0] == [{}, {}, {}]


# ---- Prompt ----------------------------------------------------------------------------------------------------------


def make(
    arguments: DataArguments, tokenizer: Any, *, context: int = 200, **settings: Any
) -> tuple[PromptRenderer, int]:
    return make_renderer(arguments, tokenizer, GPT2Config(n_positions=context), CATALOG, 3, **settings)


def test_prompt_and_list_share_the_context(arguments: DataArguments, gpt2_tokenizer: Any) -> None:
    renderer, completion = make(arguments, gpt2_tokenizer)
    assert completion == renderer.max_completion_tokens(CATALOG.lines)
    assert renderer.max_prompt_tokens + completion == 200


def test_limits_that_are_given_are_kept(arguments: DataArguments, gpt2_tokenizer: Any) -> None:
    renderer, completion = make(replace(arguments, max_prompt_length=50), gpt2_tokenizer, max_completion_length=120)
    assert (renderer.max_prompt_tokens, completion) == (50, 120)
    renderer, _ = make(replace(arguments, max_prompt_length=190), gpt2_tokenizer, max_completion_length=120)
    assert renderer.max_prompt_tokens == 80, "never more than the context leaves"


def test_a_list_that_cannot_fit_is_refused(arguments: DataArguments, gpt2_tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="max_completion_length=5 cuts the list"):
        make(arguments, gpt2_tokenizer, max_completion_length=5)
    _, completion = make(arguments, gpt2_tokenizer)
    with pytest.raises(ValueError, match="max_prompt_tokens=1 leaves no room for a dialogue"):
        make(arguments, gpt2_tokenizer, context=completion + 1)


def test_the_example_shows_the_list_as_the_model_reads_it(
    tokenizer: Any, arguments: DataArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer, _ = make(arguments, tokenizer, context=400)
    lines = ["The Godfather (1972)", "Amélie 漢字 (2001)", "[bold] 2001: A Space Odyssey"]
    show_example("What about [red]these?", renderer.completion(lines), tokenizer, 3)

    printed = capsys.readouterr().out
    assert "What about [red]these?" in printed
    assert "\n".join(lines) + tokenizer.eos_token in printed


# ---- Record ----------------------------------------------------------------------------------------------------------


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


# ---- Packages that only some settings need ---------------------------------------------------------------------------

NO_BITSANDBYTES = pytest.mark.skipif(is_bitsandbytes_available(), reason="bitsandbytes is installed")


@NO_BITSANDBYTES
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_qlora_says_what_to_install(bits: str) -> None:
    with pytest.raises(
        ImportError, match=rf"^{bits} needs bitsandbytes .* not installed: pip install 'rankrl\[train,ql"
    ):
        require_packages(ModelConfig(use_peft=True, **{bits: True}), SimpleNamespace())


REPORTS_NOWHERE = SimpleNamespace(report_to=[])


def test_few_bits_need_an_adapter_to_train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start, "is_bitsandbytes_available", lambda: True)
    with pytest.raises(ValueError, match="load_in_4bit is set, but there is no adapter.*use_peft: true"):
        require_packages(ModelConfig(str(tmp_path), load_in_4bit=True), REPORTS_NOWHERE)
    require_packages(ModelConfig(str(tmp_path), load_in_4bit=True, use_peft=True), REPORTS_NOWHERE)
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    require_packages(ModelConfig(str(tmp_path), load_in_4bit=True), REPORTS_NOWHERE)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
@pytest.mark.parametrize(("mode", "where"), [("colocate", ""), ("server", " where training runs, beside the server")])
def test_vllm_says_what_to_install(mode: str, where: str) -> None:
    training = SimpleNamespace(use_vllm=True, vllm_mode=mode)
    with pytest.raises(ImportError, match=rf"vllm_mode: {mode}\) needs the package vllm{where}, and .*use_vllm: false"):
        require_packages(ModelConfig(), training)
    require_packages(ModelConfig(), SimpleNamespace(use_vllm=False, vllm_mode=mode, report_to=[]))


# ---- Processes and checkpoints ---------------------------------------------------------------------------------------


def test_latest_is_the_newest_checkpoint_or_a_new_start(tmp_path: Path) -> None:
    def resume(wanted: str | None, directory: Path) -> str | None:
        return checkpoint_to_resume(SimpleNamespace(resume_from_checkpoint=wanted, output_dir=str(directory)))

    assert resume("latest", tmp_path / "nowhere") is None
    assert resume("latest", tmp_path) is None
    for step in (2, 10, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}", encoding="utf-8")
    (tmp_path / "checkpoint-11").mkdir()  # killed while it was written
    assert resume("latest", tmp_path) == str(tmp_path / "checkpoint-10")
    assert resume(str(tmp_path / "checkpoint-2"), tmp_path / "elsewhere") == str(tmp_path / "checkpoint-2")
    assert resume(None, tmp_path) is None
    for missing in ("checkpoint-11", "checkpoint-3"):
        with pytest.raises(
            FileNotFoundError, match=rf"{missing}, which is no checkpoint.* is .*/checkpoint-10\. `latest`"
        ):
            resume(str(tmp_path / missing), tmp_path)


def test_processes_that_would_train_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"started 2 processes, but this one sees 1.*--use_cpu"):
        require_joined_processes(SimpleNamespace(world_size=1))
    require_joined_processes(SimpleNamespace(world_size=2))
    monkeypatch.delenv("WORLD_SIZE")
    require_joined_processes(SimpleNamespace(world_size=1))


@pytest.mark.parametrize("engine", ["FSDP", "DEEPSPEED"])
def test_an_engine_that_accelerate_leaves_out_on_cpus_is_refused(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def launched(kind: DistributedType) -> SimpleNamespace:
        return SimpleNamespace(world_size=2, distributed_state=SimpleNamespace(distributed_type=kind))

    monkeypatch.setenv("WORLD_SIZE", "2")
    require_joined_processes(launched(DistributedType.MULTI_CPU))
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    require_joined_processes(launched(DistributedType.MULTI_GPU))
    with pytest.raises(RuntimeError, match=f"asks for {engine}, but with --use_cpu accelerate would spread nothing"):
        require_joined_processes(launched(DistributedType.MULTI_CPU))
