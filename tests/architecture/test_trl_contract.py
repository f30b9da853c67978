"""What the trainer relies on in TRL is still there, and every option of `GRPOConfig` has a known fate.

The range `trl>=1.16,<1.17` lets patch releases in; a wider one is a change to this file first.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
from rankrl.grpo import trainer as trainer_module
from rankrl.grpo.trl_options import LOSSES, TRL_FIELDS

# The private methods of TRL (and of transformers below it) that RankGRPOTrainer overrides or calls.
SIGNATURES = {
    "_calculate_rewards": "(self, inputs, prompts, completions, completion_ids_list)",
    "_compute_loss": "(self, model, inputs)",
    "_generate": "(self, prompts)",
    "_generate_and_score_completions": "(self, inputs)",
    "_get_output_dir": "(self, trial)",
    "_get_per_token_logps_and_entropies": (
        "(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, "
        "compute_aux_loss=False, pixel_values=None, image_grid_thw=None, num_images=None, pixel_attention_mask=None, "
        "spatial_shapes=None, num_tiles=None, image_sizes=None, token_type_ids=None, mm_token_type_ids=None, "
        "image_position_ids=None)"
    ),
    "_get_train_sampler": "(self, dataset=None)",
    "_load_optimizer_and_scheduler": "(self, checkpoint)",
    "_save_checkpoint": "(self, model, trial)",
    "_tokenize_prompts": "(self, prompts)",
}
FATES = {"honoured", "mapped", "refused"}
# For each refused option, a value that the loss would ignore.
REFUSED = {
    "entropy_coef": 0.01,
    "max_tool_calling_iterations": 3,
    "off_policy_mask_threshold": 0.5,
    "top_entropy_quantile": 0.2,
    "use_adaptive_entropy": True,
    "use_bias_correction_kl": True,
}


def signature(function: Any) -> str:
    """Names, kinds and defaults of the parameters; annotations are written differently by each Python version."""
    full = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in full.parameters.values()]
    return str(full.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def own_classes(trainer: type) -> list[type]:
    return [cls for cls in trainer.__mro__ if not issubclass(GRPOTrainer, cls)]


def overridden_methods(trainer: type) -> set[str]:
    """Private methods of TRL that the trainer's own classes define anew."""
    names = {name for cls in own_classes(trainer) for name in vars(cls)}
    return {name for name in names if _is_private(name) and callable(getattr(GRPOTrainer, name, None))}


def read_attributes(source: str) -> set[str]:
    """Every `self.name` and `super().name` that a piece of source reads."""
    return {node.attr for node in _attributes_of_self(ast.parse(source)) if isinstance(node.ctx, ast.Load)}


def assigned_attributes(trainer: type) -> set[str]:
    """Every `self.name` that the source of the trainer's classes assigns."""
    modules = {sys.modules[cls.__module__] for cls in trainer.__mro__ if cls is not object}
    trees = [ast.parse(inspect.getsource(module)) for module in modules]
    return {node.attr for tree in trees for node in _attributes_of_self(tree) if isinstance(node.ctx, ast.Store)}


def _attributes_of_self(tree: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        is_super = isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
        if is_super or (isinstance(owner, ast.Name) and owner.id == "self"):
            yield node


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def changed_signatures(base: type, expected: dict[str, str]) -> list[str]:
    changed = []
    for name, written in expected.items():
        method = getattr(base, name, None)
        if method is None:
            changed.append(f"{base.__name__}.{name} is gone")
        elif signature(method) != written:
            changed.append(f"{base.__name__}.{name} is now {signature(method)}; the trainer was written for {written}")
    return changed


def trainer_source() -> str:
    return inspect.getsource(trainer_module.RankGRPOTrainer)


def test_private_methods_keep_their_signatures() -> None:
    assert changed_signatures(GRPOTrainer, SIGNATURES) == []


def test_every_private_method_in_use_is_watched() -> None:
    called = {name for name in read_attributes(trainer_source()) if _is_private(name)}
    used = overridden_methods(RankGRPOTrainer) | {n for n in called if callable(getattr(GRPOTrainer, n, None))}
    assert used == SIGNATURES.keys(), "SIGNATURES and the private methods of TRL that the trainer uses differ"


def test_every_attribute_that_the_trainer_reads_is_there() -> None:
    read = {name for name in read_attributes(trainer_source()) if not hasattr(RankGRPOTrainer, name)}
    missing = read - assigned_attributes(RankGRPOTrainer)
    assert not missing, f"RankGRPOTrainer reads {sorted(missing)}, which TRL no longer sets"


def test_a_missing_attribute_is_found() -> None:
    source = "class Trainer(GRPOTrainer):\n    def f(self):\n        return self._of_yore, self._metrics"
    assert read_attributes(source) - assigned_attributes(RankGRPOTrainer) == {"_of_yore"}


def test_the_sampler_keeps_its_signature() -> None:
    expected = "(data_source, mini_repeat_count, batch_size=1, repeat_count=1, shuffle=True, seed=None)"
    assert signature(RepeatSampler) == expected


def test_a_changed_signature_is_found_by_name() -> None:
    class NextTRL(GRPOTrainer):
        def _compute_loss(self, model: Any, inputs: Any, weights: Any) -> Any: ...

    (message,) = changed_signatures(NextTRL, SIGNATURES)
    assert "NextTRL._compute_loss is now (self, model, inputs, weights)" in message
    assert changed_signatures(GRPOTrainer, {"_of_yore": "(self)"}) == ["GRPOTrainer._of_yore is gone"]


def test_a_new_override_is_found() -> None:
    class Grown(RankGRPOTrainer):
        def _prepare_inputs(self, generation_batch: Any) -> Any: ...

    assert overridden_methods(Grown) - overridden_methods(RankGRPOTrainer) == {"_prepare_inputs"}


def test_every_option_of_trl_has_a_fate() -> None:
    options = set(inspect.get_annotations(GRPOConfig))
    table = TRL_FIELDS
    new, gone = options - table.keys(), table.keys() - options
    assert not new, f"GRPOConfig has new fields; does the rank loss honour, map or refuse {sorted(new)}?"
    assert not gone, f"GRPOConfig has no longer {sorted(gone)}: drop them from TRL_FIELDS"
    assert set(table.values()) <= FATES


def test_every_loss_of_trl_is_known() -> None:
    tests = re.findall(r"self\.loss_type (?:==|in) (.+):$", inspect.getsource(GRPOTrainer._compute_loss), re.MULTILINE)
    assert {name for test in tests for name in re.findall(r'"(\w+)"', test)} == LOSSES.keys()


def test_every_refused_option_has_an_example() -> None:
    refused = {name for name, fate in TRL_FIELDS.items() if fate == "refused"}
    assert refused == REFUSED.keys()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        RankGRPOConfig("unused", use_cpu=True, bf16=False, **{name: REFUSED[name]})
