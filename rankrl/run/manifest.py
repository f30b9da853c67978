"""What a run is, written down: versions, machine, settings, hashes of its data."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from catalog import Catalog
from catalog.files import whole_file
from rankrl.run.arguments import DialogueArguments

MANIFEST = "manifest.json"
_PACKAGES = ("rankrl", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "rapidfuzz")
_OPTIONAL = ("vllm", "bitsandbytes", "deepspeed", "flash_attn")


def write_manifest(
    output_dir: str | Path,
    catalog: Catalog,
    prompt_hash: str | None,
    *configs: Any,
    resumed_from: str | None = None,
    **facts: Any,
) -> None:
    """Write `manifest.json`: versions, machine, effective settings with their seeds, data and prompt hashes.

    Never a key or a token. What a resumed run was before, maybe with other settings or elsewhere, is kept: `earlier`
    holds the manifests of its parts, the first one first, and `resumed_from` the checkpoint that this part began with.
    """
    manifest = {
        "versions": versions(),
        "machine": machine(),
        "catalog": {"version": catalog.version, "items": len(catalog)},
        "prompt_hash": prompt_hash,
        "data": {c.dialogues: file_hash(c.dialogues) for c in configs if isinstance(c, DialogueArguments)},
        "config": {type(c).__name__: _plain(c) for c in configs},
        **facts,
        **(_before(resumed_from) if resumed_from else {}),
    }
    with whole_file(Path(output_dir) / MANIFEST) as file:
        file.write((json.dumps(manifest, indent=2, default=str) + "\n").encode())


def versions() -> dict[str, str | None]:
    """The versions of Python and of the packages that a result depends on; of those that may be missing, if there."""
    optional = {name: _version(name) for name in _OPTIONAL}
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        **{name: found for name, found in optional.items() if found is not None},
    }


def machine() -> dict[str, Any]:
    """Where a run takes place: system, GPUs of this process's machine, CUDA, and how many processes take part."""
    gpus = [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return {"system": platform.platform(), "gpus": gpus, "cuda": torch.version.cuda, "processes": processes}


def file_hash(path: str) -> str | None:
    """SHA-256 of a file, 16 hex digits; `None` for what is no file (a name on the Hub)."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _before(checkpoint: str) -> dict[str, Any]:
    """What the run was until a checkpoint, by the manifest that lies beside it."""
    file = Path(checkpoint).resolve().parent / MANIFEST
    last = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    earlier = last.pop("earlier", [])
    return {"resumed_from": checkpoint, "earlier": [*earlier, last] if last else earlier}


def _plain(config: Any) -> dict[str, Any]:
    values = config.to_dict() if hasattr(config, "to_dict") else asdict(config)
    return _without_secrets(values)


def _without_secrets(value: Any) -> Any:
    """Settings as JSON can hold them: no key or token at any depth, and infinity, which gamma may well be, as text."""
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if not str(k).endswith(("token", "key", "password"))}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
