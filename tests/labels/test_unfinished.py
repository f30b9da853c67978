"""A run of a local scorer that is stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rankrl.labels.unfinished import score_resumably, unfinished_files
from rankrl.shards import Shard

DIALOGUES = [[{"role": "user", "content": f"film {n}?"}] for n in range(7)]
CANDIDATES = [[f"a{n}", f"b{n}"] for n in range(7)]


class CountingScorer:
    """Scores by the number in the dialogue; stops after so many dialogues, as a killed run would."""

    def __init__(self, name: str, stop_after: int = 99) -> None:
        self.name, self.stop_after, self.asked = name, stop_after, 0

    def score(self, dialogues: Sequence, candidates: Sequence) -> list[np.ndarray]:
        if self.asked + len(dialogues) > self.stop_after:
            raise KeyboardInterrupt
        self.asked += len(dialogues)
        return [
            np.array([int(d[0]["content"][5]) / 2, len(c)], dtype=float)
            for d, c in zip(dialogues, candidates, strict=True)
        ]


def expected() -> list[list[float]]:
    return [[n / 2, 2.0] for n in range(7)]


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "scores.part"
    with pytest.raises(KeyboardInterrupt):
        score_resumably(CountingScorer("one", stop_after=4), DIALOGUES, CANDIDATES, path, block=2)
    again = CountingScorer("one")
    scores = score_resumably(again, DIALOGUES, CANDIDATES, path, block=2)
    assert [row.tolist() for row in scores] == expected()
    assert again.asked == 3


def test_a_row_that_was_cut_short_is_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.part"
    score_resumably(CountingScorer("one"), DIALOGUES, CANDIDATES, path)
    path.write_text(path.read_text()[:-20])
    again = CountingScorer("one")
    assert [row.tolist() for row in score_resumably(again, DIALOGUES, CANDIDATES, path)] == expected()
    assert again.asked == 1
    last = CountingScorer("one")
    score_resumably(last, DIALOGUES, CANDIDATES, path)
    assert last.asked == 0


def test_other_scorers_dialogues_and_candidates_are_scored_anew(tmp_path: Path) -> None:
    path = tmp_path / "scores.part"
    score_resumably(CountingScorer("one"), DIALOGUES, CANDIDATES, path)
    other = CountingScorer("two")
    score_resumably(other, DIALOGUES, CANDIDATES, path)
    assert other.asked == 7
    changed = CountingScorer("one")
    score_resumably(changed, DIALOGUES, [["a0"], *CANDIDATES[1:]], path)
    assert changed.asked == 1


def test_a_directory_that_was_tuned_again_is_another_scorer(tmp_path: Path) -> None:
    folder, path = tmp_path / "scorer", tmp_path / "scores.part"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"first")
    score_resumably(CountingScorer(str(folder)), DIALOGUES, CANDIDATES, path)
    (folder / "model.safetensors").write_bytes(b"second, longer")
    again = CountingScorer(str(folder))
    score_resumably(again, DIALOGUES, CANDIDATES, path)
    assert again.asked == 7


def test_shards_write_their_own_files_and_read_all(tmp_path: Path) -> None:
    path = tmp_path / "scores.part"
    for place in (1, 2):
        shard = Shard(place, 2)
        score_resumably(CountingScorer("one"), shard.of(DIALOGUES), shard.of(CANDIDATES), path, shard=shard)
    assert [file.name for file in unfinished_files(path)] == [f"scores.part.shard-{n}-of-2" for n in (1, 2)]
    last = CountingScorer("one")
    assert [row.tolist() for row in score_resumably(last, DIALOGUES, CANDIDATES, path)] == expected()
    assert last.asked == 0
