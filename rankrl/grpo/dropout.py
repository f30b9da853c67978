"""Dropout that is a number in a module, and no module: what TRL's own switch does not reach."""

from __future__ import annotations

from torch import nn


def switch_attention_dropout_off(model: nn.Module) -> None:
    """Set the `attention_dropout` of every layer to 0, as Llama, Qwen and their kin hold it; in place.

    Two passes of one policy would differ by it, and the importance ratio would be noise.
    """
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]  # nn.Module annotates every attribute
