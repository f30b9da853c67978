"""Texts compared by their meaning, by any sentence-transformers model."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rankrl.encoders.protocol import check_texts, has_content

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


class SentenceTransformerEncoder:
    """Any sentence-transformers model. The paper's is `NovaSearch/stella_en_400M_v5`.

    Args:
        model: a name on the Hugging Face Hub, or a directory.
        device: `cpu`, `cuda`, ...; the best there is by default.
        batch_size: texts at a time.
        prompt: put before every text, for models that were trained with one.
        trust_remote_code: run code that comes with the model. Pin `revision` then.
        revision: commit, tag or branch on the Hub.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        device: str | None = None,
        batch_size: int = 32,
        prompt: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
    ) -> None:
        self.name = os.fspath(model)
        self._device = device
        self._batch_size = batch_size
        self._prompt = prompt
        self._trust_remote_code = trust_remote_code
        self._revision = revision

    @cached_property
    def identity(self) -> str:
        """What decides the vectors: the model (a directory's files, a name's revision) and the prompt."""
        directory = Path(self.name)
        model = _digest_of_files(directory) if directory.is_dir() else f"{self.name}@{self._revision}"
        return f"{model}\n{self._prompt}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The texts as dense vectors; the model is loaded by the first call.

        Args:
            texts: n texts. What a model cannot take in is cut off at the end; a warning counts such texts.

        Returns:
            `(n, d)` float32, rows of unit length; white space alone is a zero row.

        Raises:
            ValueError: if the model gives a vector that is not finite.
        """
        texts = check_texts(texts)
        self._warn_of_long(texts)
        vectors = self._model.encode(texts, prompt=self._prompt, batch_size=self._batch_size, convert_to_numpy=True)
        vectors = np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1)
        if not np.isfinite(vectors).all():
            at = int(np.argmin(np.isfinite(vectors).all(axis=1)))
            raise ValueError(f"{self.name} gives no finite vector for {texts[at][:80]!r}; try another dtype or device")
        vectors[[not has_content(text) for text in texts]] = 0
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    @cached_property
    def _model(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            self.name, device=self._device, trust_remote_code=self._trust_remote_code, revision=self._revision
        )

    def _warn_of_long(self, texts: Sequence[str]) -> None:
        limit = self._model.max_seq_length
        if limit is None or not texts:
            return
        whole = [f"{self._prompt or ''}{text}" for text in texts]
        lengths = map(len, self._model.tokenizer(whole, truncation=False, verbose=False)["input_ids"])
        if too_long := sum(length > limit for length in lengths):
            logger.warning(
                "%d of %d texts are longer than the %d tokens that %s takes in; their ends do not count",
                *(too_long, len(texts), limit, self.name),
            )


def _digest_of_files(directory: Path) -> str:
    """A hash of all files of a model, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(directory).as_posix()} {content}\n".encode())
    return digest.hexdigest()
