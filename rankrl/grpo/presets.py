"""Presets: algorithms by name, each with its source, as values of the fields of `RankGRPOConfig`.

A preset has two parts. What it *defines* is what the name means; another value there would be another algorithm, and
is refused. What it *proposes* is meant to be tuned, and yields to what the user sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CUSTOM = "custom"  # starts from the default and may depart from what defines it
_DEFAULT = "rank_grpo"


@dataclass(frozen=True)
class Preset:
    """An algorithm as settings.

    Attributes:
        source: where the values are from.
        defines: field -> value that makes the algorithm what it is.
        proposes: field -> value that may be tuned.
    """

    source: str
    defines: dict[str, Any]
    proposes: dict[str, Any]


# What belongs to a list of K items, added to advantages. Algorithms without ranks know none of it.
_SHAPE_OF_PAPER = {
    "early_stop_penalty": -0.1,
    "overflow_penalty": -0.1,
    "repeat_penalty": 0.0,
    "end_of_list_bonus": 0.0,
}
_NO_SHAPE = dict.fromkeys(_SHAPE_OF_PAPER, 0.0)
_USUAL = {
    "scale_rewards": "group",
    "use_bias_correction_kl": False,  # the k3 estimate of GRPO (arXiv 2402.03300, eq. 4), not multiplied by the ratio
    "mask_truncated_completions": False,
    "dynamic_sampling_rounds": 0,
}


def _lists(ratio: str, loss_type: str) -> dict[str, Any]:
    """An algorithm that compares whole lists and trains with TRL's own loss."""
    return {"advantage": "sequence", "ratio": ratio, "aggregation": "trl", "loss_type": loss_type}


def _clip(low: float, high: float | None, beta: float) -> dict[str, Any]:
    """`high=None`: as wide as below."""
    return {"epsilon": low, "epsilon_high": high, "beta": beta}


PRESETS: dict[str, Preset] = {
    "rank_grpo": Preset(
        "arXiv 2510.20150, eq. 6-9; clip range, beta and penalties: appendix C",
        {"advantage": "rank", "ratio": "rank", "aggregation": "rank", "loss_type": None},
        {**_USUAL, **_clip(0.06, 0.08, 1e-3), **_SHAPE_OF_PAPER},
    ),
    # The released trainer spreads advantages and ratios of ranks over tokens and leaves the rest to the default loss of
    # TRL 0.21. TRL has no ratio of ranks; on-policy the ratio of tokens has the same gradient.
    "rank_grpo_official": Preset(
        "the code released with arXiv 2510.20150: loss_type bnpo of TRL 0.21, a bonus of 0.1 for ending after rank K",
        {"advantage": "rank", "ratio": "token", "aggregation": "trl", "loss_type": "bnpo"},
        {**_USUAL, **_clip(0.06, 0.08, 1e-3), **_SHAPE_OF_PAPER, "end_of_list_bonus": 0.1},
    ),
    "grpo": Preset(
        "arXiv 2402.03300, eq. 3; clip range and beta: the baseline of arXiv 2510.20150, appendix C",
        _lists("token", "grpo"),
        {**_USUAL, **_clip(0.2, 0.26, 1e-3), **_NO_SHAPE},
    ),
    "gspo": Preset(
        "arXiv 2507.18071, eq. 5-7, and its clip range; beta: the baseline of arXiv 2510.20150, appendix C",
        _lists("sequence", "grpo"),
        {**_USUAL, **_clip(3e-4, 4e-4, 1e-3), **_NO_SHAPE},
    ),
    "dr_grpo": Preset(
        "arXiv 2503.20783: neither deviation nor length divides, no KL; TRL divides by max_completion_length",
        {**_lists("token", "dr_grpo"), "scale_rewards": "none"},
        {**_USUAL, **_clip(0.2, None, 0.0), **_NO_SHAPE},
    ),
    "dapo": Preset(
        "arXiv 2503.14476: tokens weigh alike, clip range 0.2 / 0.28, cut lists are left out, dynamic sampling (in "
        "its code ten batches at most), no KL",
        _lists("token", "dapo"),
        {
            **_USUAL,
            **_clip(0.2, 0.28, 0.0),
            **_NO_SHAPE,
            "mask_truncated_completions": True,
            "dynamic_sampling_rounds": 9,
        },
    ),
}
PRESET_FIELDS = tuple({**PRESETS[_DEFAULT].defines, **PRESETS[_DEFAULT].proposes})


def resolve_preset(name: str | None, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a preset and the settings beside it come to.

    Args:
        name: of the preset. `None` or `"custom"`: `rank_grpo` with every switch free.
        given: what the user has set, for each of `PRESET_FIELDS`; `None` where nothing is set.

    Returns:
        The name that the settings deserve (without a preset `"custom"` if they depart from what defines `rank_grpo`,
        else `"rank_grpo"`), and a value for each of `PRESET_FIELDS`.

    Raises:
        ValueError: for an unknown name, or a setting that contradicts what defines the preset.

    Example:
        >>> name, values = resolve_preset("gspo", {"beta": 0.0})
        >>> values["ratio"], values["epsilon"], values["beta"]
        ('sequence', 0.0003, 0.0)
    """
    if name is not None and name not in (*PRESETS, CUSTOM):
        raise ValueError(f"preset is {name!r}; expected one of {', '.join(map(repr, (*PRESETS, CUSTOM)))}.")
    preset = PRESETS.get(name or _DEFAULT, PRESETS[_DEFAULT])
    changed = {field: value for field, value in given.items() if value is not None}
    against = {f: value for f, value in changed.items() if f in preset.defines and value != preset.defines[f]}
    if against and name in PRESETS:
        meant = ", ".join(f"{field}={preset.defines[field]!r}" for field in against)
        found = ", ".join(f"{field}={value!r}" for field, value in against.items())
        raise ValueError(
            f"preset={name!r} means {meant}, but {found} is set. Leave {', '.join(against)} out, or set preset to "
            f"{CUSTOM!r}: the values of {_DEFAULT}, with every switch free."
        )
    values = {**preset.proposes, **preset.defines, **changed}
    if name in PRESETS:
        return name, values
    return (CUSTOM if against else _DEFAULT), values
