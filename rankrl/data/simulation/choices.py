"""What the simulated users would choose: the yardsticks that real data never has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike

import numpy as np

from catalog import Catalog
from rankrl.data.schema import Dialogue


@dataclass(frozen=True)
class Choices:
    """The probability with which each dialogue's user chooses each item first.

    Attributes:
        ids: D dialogue ids.
        keys: N catalogue keys.
        probabilities: float32 (D, N); rows sum to 1, seen items have 0.
    """

    ids: tuple[str, ...]
    keys: tuple[str, ...]
    probabilities: np.ndarray

    def best_lists(self, dialogues: Sequence[Dialogue], catalog: Catalog, num_ranks: int = 10) -> np.ndarray:
        """The lists nobody can beat on average: items by falling choice probability.

        Args:
            dialogues: D dialogues among `ids`.
            catalog: Catalogue whose item ids are returned; its keys may be in another order than `keys`.
            num_ranks: K, length of the lists.

        Returns:
            int64 (D, K) item ids.

        Raises:
            KeyError: If a dialogue's id or one of `keys` is unknown.
        """
        row_of = {dialogue_id: row for row, dialogue_id in enumerate(self.ids)}
        unknown = [dialogue.id for dialogue in dialogues if dialogue.id not in row_of]
        if unknown:
            raise KeyError(
                f"no choice probabilities for {len(unknown)} of {len(dialogues)} dialogues, such as {unknown[0]!r}: "
                "use the truth.npz that was written beside these dialogues"
            )
        probabilities = self.probabilities[[row_of[dialogue.id] for dialogue in dialogues]]
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :num_ranks]
        return np.array([catalog.index(key) for key in self.keys], dtype=np.int64)[order]

    def save(self, path: str | PathLike[str]) -> None:
        """Write `ids`, `keys` and `probabilities` to one compressed .npz file."""
        np.savez_compressed(path, ids=self.ids, keys=self.keys, probabilities=self.probabilities)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Choices:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(tuple(arrays["ids"].tolist()), tuple(arrays["keys"].tolist()), arrays["probabilities"])


def shuffled(dialogues: Sequence[Dialogue], seed: int = 0) -> list[Dialogue]:
    """The same users with each other's requests: everyone keeps `id`, `seen` and `ground_truth`, nobody their messages.

    A model that reads the request does worse on these; one that only knows what is popular does not.

    Args:
        dialogues: At least two dialogues.
        seed: Seed of the exchange.

    Returns:
        The dialogues in their order, with messages exchanged along one random cycle.

    Raises:
        ValueError: If there are fewer than two dialogues.
    """
    if len(dialogues) < 2:
        raise ValueError(f"requests can only be exchanged between two or more dialogues, got {len(dialogues)}")
    cycle = np.random.default_rng(seed).permutation(len(dialogues))
    giver = dict(zip(cycle.tolist(), np.roll(cycle, 1).tolist(), strict=True))
    return [replace(dialogue, messages=dialogues[giver[i]].messages) for i, dialogue in enumerate(dialogues)]
