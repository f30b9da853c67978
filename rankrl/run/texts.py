"""The texts of a run's items, titles and dialogues, and the encoder that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from catalog import Catalog
from rankrl.demonstrations.texts import NOTHING, Retriever, catalog_metadata, describe, describe_requests, item_text
from rankrl.encoders import CachedEncoder, SentenceTransformerEncoder, TfidfEncoder
from rankrl.lazy import load_object
from rankrl.run.arguments import JudgedArguments
from rankrl.shards import Shard
from rankrl.teachers import Messages, Metadata, MetadataTemplate, Teacher


class ItemTexts:
    """What is known of the catalogue's items, and what a teacher writes of the rest.

    Args:
        args: which fields, whom to describe, how to ask.
        catalog: N items.

    Attributes:
        known: what the catalogue itself says of each item.

    Raises:
        ValueError, OSError: if a template or the retriever is unusable, or a field is in no item.
    """

    def __init__(self, args: JudgedArguments, catalog: Catalog) -> None:
        self.args = args
        self.catalog = catalog
        self.known = catalog_metadata(catalog, args.text_fields)
        self.template = MetadataTemplate.load(args.metadata_template or args.teacher_domain)
        self.retriever: Retriever | None = load_object(args.retriever) if args.retriever else None

    def undescribed(self) -> list[str]:
        """Lines of the items that the teacher is to describe."""
        lines = self.catalog.lines
        if self.args.describe == "all":
            return list(dict.fromkeys(lines))
        if self.args.describe == "missing":
            return list(dict.fromkeys(line for line, own in zip(lines, self.known, strict=True) if own == NOTHING))
        return []

    def requests(self, lines: Sequence[str]) -> list[Messages]:
        """The requests that `describe` makes. Of a retriever nothing is asked: its evidence is not in them."""
        return describe_requests(lines, self.template)

    def describe(self, teacher: Teacher | None, lines: Sequence[str]) -> dict[str, Metadata]:
        """What the teacher writes of some lines, in the catalogue or not; without a teacher nothing."""
        if teacher is None:
            return {}
        return dict(zip(lines, describe(teacher, lines, self.template, self.retriever), strict=True))

    def of_items(self, written: Mapping[str, Metadata]) -> list[str]:
        """The text of every item: what the teacher wrote of it, else what the catalogue says."""
        return [
            item_text(line, own if (told := written.get(line, NOTHING)) == NOTHING else told)
            for line, own in zip(self.catalog.lines, self.known, strict=True)
        ]


def own_texts(catalog: Catalog) -> list[str]:
    """What the catalogue itself says of each item: what a local scorer is tuned on, and reads."""
    return [item_text(line, own) for line, own in zip(catalog.lines, catalog_metadata(catalog), strict=True)]


def make_encoder(args: JudgedArguments, item_texts: Sequence[str]) -> Any:
    """The encoder that the arguments name; TF-IDF learns its words from the items."""
    if args.encoder == "tfidf":
        return TfidfEncoder.fit(item_texts)
    encoder = _load_encoder(args)
    if args.vector_cache is None:
        return encoder
    return CachedEncoder(encoder, args.vector_cache, shard=Shard.parse(args.shard) if args.shard else None)


def try_encoder(args: JudgedArguments, text: str) -> None:
    """Encode one text, to see whether the model can be loaded; it is not kept in memory while a teacher works. Where
    the file of vectors holds the text, no model is needed.

    Raises:
        ValueError: if it cannot.
    """
    if args.encoder == "tfidf":
        return
    try:
        # A shard must not write the file that keeps the vectors, and by itself does not find all of them.
        encoder = make_encoder(args, []) if args.shard is None else _load_encoder(args)
        encoder.encode([text])
    except Exception as error:  # from the Hub, the model's files, or code that it comes with
        raise ValueError(
            f"encoder is {args.encoder!r}, which cannot be used: {error}\nExpected tfidf, or a sentence-transformers "
            "model: its directory, or its name on the Hugging Face Hub. One that comes with code of its own needs "
            "encoder_trust_remote_code: true, and the packages that this code imports."
        ) from error


def _load_encoder(args: JudgedArguments) -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder(
        args.encoder,
        prompt=args.encoder_prompt,
        trust_remote_code=args.encoder_trust_remote_code,
        revision=args.encoder_revision,
    )
