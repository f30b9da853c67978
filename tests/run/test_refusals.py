"""What cannot run is refused before it is loaded, with what to change."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, SFTConfig

from rankrl.run import refusals
from rankrl.run.refusals import (
    refuse_no_step,
    refuse_what_the_prompt_decides,
    require_joined_processes,
    require_packages,
)

NO_BITSANDBYTES = pytest.mark.skipif(is_bitsandbytes_available(), reason="bitsandbytes is installed")


@NO_BITSANDBYTES
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_qlora_says_what_to_install(bits: str) -> None:
    with pytest.raises(
        ImportError, match=rf"^{bits} needs bitsandbytes .* not installed: pip install 'rankrl\[train,ql"
    ):
        require_packages(ModelConfig(use_peft=True, **{bits: True}), SimpleNamespace())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 5}, "max_length is 5.*cut lists.*set max_prompt_length"),
        ({"completion_only_loss": False}, "completion_only_loss is false"),
        ({"packing": True}, "packing is true.*group_by_length"),
    ],
)
def test_what_sft_would_overrule(settings: dict, message: str, tmp_path: Path) -> None:
    shared = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": []}
    refuse_what_the_prompt_decides(SFTConfig(**shared, max_length=None, completion_only_loss=True))
    with pytest.raises(ValueError, match=message):
        refuse_what_the_prompt_decides(SFTConfig(**shared, **settings))


REPORTS_NOWHERE = SimpleNamespace(report_to=[])


def test_few_bits_need_an_adapter_to_train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(refusals, "is_bitsandbytes_available", lambda: True)
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


def test_a_run_of_no_step_is_refused() -> None:
    refuse_no_step(SimpleNamespace(max_steps=-1))
    with pytest.raises(ValueError, match="max_steps is 0; expected the number of optimizer steps, or -1"):
        refuse_no_step(SimpleNamespace(max_steps=0))
