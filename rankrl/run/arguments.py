"""The arguments that recipes share; TRL's own (`SFTConfig`, `RankGRPOConfig`, `ModelConfig`) stand beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from catalog.lines import DEFAULT_TEMPLATE
from rankrl.labels.augment import MIN_LABEL_SCORE
from rankrl.labels.trust import PRIOR
from rankrl.rewards.blend import ScheduleKind
from rankrl.rewards.returns import ReturnKind
from rankrl.shards import Shard

Imitate = Literal["auto", "recommendations", "truth", "augmented"]


@dataclass(kw_only=True)
class CatalogArguments:
    """The items.

    Args:
        catalog: file of the catalogue (JSONL, CSV, JSON, Parquet; `.gz` too).
        line_template: how an item is written; tells items with equal lines apart.
        catalog_columns: (YAML) your catalogue's field names: `{title: name, id: asin}`.
    """

    catalog: str = field(metadata={"help": "File of the catalogue."})
    line_template: str = field(default=DEFAULT_TEMPLATE, metadata={"help": "How an item is written."})
    catalog_columns: dict | None = field(default=None, metadata={"help": "Field names of your catalogue (flag: JSON)."})


@dataclass(kw_only=True)
class DialogueArguments(CatalogArguments):
    """Catalogue and dialogues: what every recipe reads that works on data.

    Args:
        dialogues: the dialogues of this stage: a file, a saved dataset, or the name of one on the Hub.
        split: which split of a Hugging Face dataset, if it has several.
        columns: (YAML) your dataset's column names: `{messages: chat, ground_truth: liked}`.
        domain: keep only dialogues of this domain.
        limit: read only the first so many dialogues, before anything is dropped.
        only_new_items: drop items from the truth that the dialogue has mentioned already.
    """

    dialogues: str = field(metadata={"help": "Dialogues of this stage: file, saved dataset or Hub name."})
    split: str | None = field(default=None, metadata={"help": "Split of a Hugging Face dataset."})
    columns: dict | None = field(default=None, metadata={"help": "Column names of your dataset (flag: JSON)."})
    domain: str | None = field(default=None, metadata={"help": "Keep only dialogues of this domain."})
    limit: int | None = field(default=None, metadata={"help": "Read at most this many dialogues, from the start."})
    only_new_items: bool = field(default=True, metadata={"help": "Drop mentioned items from the truth."})


@dataclass(kw_only=True)
class PromptArguments:
    """How a dialogue becomes a prompt.

    Args:
        prompt_template: `movie`, `book`, `generic`, or the path of your own jinja2 file.
        max_prompt_length: tokens a prompt may take; by default what the model's context leaves.
        shorten_last_turn: keep only the end of a last user turn that does not fit by itself (it is an error otherwise).
        enable_thinking: let models with a thinking switch think before the list.
        allow_prompt_mismatch: start from a checkpoint that was trained with another prompt.
    """

    prompt_template: str = field(default="movie", metadata={"help": "movie, book, generic, or a jinja2 file."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Tokens a prompt may take."})
    shorten_last_turn: bool = field(default=False, metadata={"help": "Cut the start of an over-long last user turn."})
    enable_thinking: bool = field(default=False, metadata={"help": "Let the model think before the list."})
    allow_prompt_mismatch: bool = field(default=False, metadata={"help": "Accept a checkpoint with another prompt."})


@dataclass(kw_only=True)
class DataArguments(DialogueArguments, PromptArguments):
    """Catalogue, dialogues and prompt: what every recipe shares whose model writes lists."""


@dataclass
class SFTArguments(DataArguments):
    """Stage 1: what the model imitates.

    Args:
        num_ranks: K, items in a list.
        imitate: `recommendations`: a teacher's lists; `truth`: what the user wanted, filled up with what is popular;
            `augmented`: augmented labels by falling gain, filled up with what is most often one (dialogues without any
            are left out); `auto`: the teacher's lists if there are any, else the truth.
        anchor_weight: alpha; stay near the policy at the start by a KL of this weight, whose soft labels keep what an
            earlier stage has learned (arXiv 2508.05657). 0: plain fine-tuning.
        allow_empty_truth: also learn from demonstrations whose truth nobody knows.
        allow_unknown_items: imitate titles that the catalogue lacks too, and lists that are too short, as they are: to
            see what raw lists teach. Dialogues with an empty list are left out.
        tiny_vocab_size: vocabulary of `--model_name_or_path tiny-gpt2`.
        tiny_context: longest input of `tiny-gpt2`, in tokens.
    """

    num_ranks: int = field(default=20, metadata={"help": "K, items in a list."})
    imitate: Imitate = field(default="auto", metadata={"help": "Which lists to imitate."})
    anchor_weight: float = field(default=0.0, metadata={"help": "Weight of the KL to the policy at the start."})
    allow_empty_truth: bool = field(default=False, metadata={"help": "Accept dialogues without a truth."})
    allow_unknown_items: bool = field(default=False, metadata={"help": "Imitate what is outside the catalogue too."})
    tiny_vocab_size: int = field(default=2048, metadata={"help": "Vocabulary of tiny-gpt2."})
    tiny_context: int = field(default=512, metadata={"help": "Longest input of tiny-gpt2, in tokens."})


@dataclass
class JudgedArguments(DialogueArguments):
    """What stage 1 and label augmentation share: dialogues and items as texts, and a teacher who describes and judges.
    The teacher is a `TeacherConfig` beside this.

    Args:
        output_dir: folder for the results.
        encoder: `tfidf`, or the name or directory of a sentence-transformers model.
        encoder_trust_remote_code: run code that comes with that model, as stella models do: pin its revision then.
        encoder_revision: its commit, tag or branch on the Hub.
        encoder_prompt: put before every text, for models that were trained with one.
        vector_cache: file that keeps the vectors of a sentence-transformers model.
        text_fields: (YAML) the catalogue's fields that describe an item; by default all with text.
        describe: whom the teacher describes: `all` items, `missing` (items without a description), `outside` (titles
            outside the catalogue, where lists name any) or `none`. `all` and `missing` include `outside`.
        retriever: `package.module:function`, title -> evidence for a description.
        teacher_domain: whose prompts to use: `movie`, `book` or `generic`.
        metadata_template, judge_template: jinja2 files instead of them.
        num_orders: in how many shuffled orders candidates are rated.
        window: candidates that the judge is shown in one request.
        unknown_limit: largest share of truth items that may be missing from the catalogue.
        allow_empty_truth: also accept dialogues whose truth nobody knows.
        seed: of the judge's orders.
        dry_run: say what the teacher would be asked and what it would cost, and ask nothing.
        shard: `i/n`: do the i-th of n shares of the slow work, and stop; the same run without it then finishes.
        ray_shards: have so many shards done by Ray's workers first (needs `rankrl[ray]`).

    Raises:
        ValueError: for a shard that is not i/n, settings that shards cannot work with, or settings of a model beside
            `encoder: tfidf`.
    """

    output_dir: str = field(default="runs/demonstrations", metadata={"help": "Folder for the results."})
    encoder: str = field(default="tfidf", metadata={"help": "tfidf, or a sentence-transformers model."})
    encoder_trust_remote_code: bool = field(default=False, metadata={"help": "Run code that the encoder comes with."})
    encoder_revision: str | None = field(default=None, metadata={"help": "The encoder's commit, tag or branch."})
    encoder_prompt: str | None = field(default=None, metadata={"help": "Put before every text that is encoded."})
    vector_cache: str | None = field(default=None, metadata={"help": "File that keeps vectors."})
    text_fields: list[str] | None = field(default=None, metadata={"help": "Catalogue fields that describe an item."})
    describe: Literal["all", "missing", "outside", "none"] = field(
        default="missing", metadata={"help": "What the teacher describes: all, missing, outside or none."}
    )
    retriever: str | None = field(default=None, metadata={"help": "module:function, evidence on a title."})
    teacher_domain: Literal["movie", "book", "generic"] = field(
        default="movie", metadata={"help": "Whose teacher prompts to use."}
    )
    metadata_template: str | None = field(default=None, metadata={"help": "A jinja2 file of your own."})
    judge_template: str | None = field(default=None, metadata={"help": "A jinja2 file of your own."})
    num_orders: int = field(default=2, metadata={"help": "Shuffled orders in which candidates are rated."})
    window: int = field(default=100, metadata={"help": "Items in one request."})
    unknown_limit: float = field(default=0.5, metadata={"help": "Share of truth items that may be unknown."})
    allow_empty_truth: bool = field(default=False, metadata={"help": "Accept dialogues without a truth."})
    seed: int = field(default=0, metadata={"help": "Seed of the judge's orders."})
    dry_run: bool = field(default=False, metadata={"help": "Say what would be asked, and ask nothing."})
    shard: str | None = field(default=None, metadata={"help": "i/n: do the i-th of n shares, and stop."})
    ray_shards: int | None = field(default=None, metadata={"help": "Shards for Ray's workers to do first."})

    def __post_init__(self) -> None:
        self._check_encoder()
        if self.shard is None and self.ray_shards is None:
            return
        if self.shard is not None:
            Shard.parse(self.shard)
        if self.ray_shards is not None and (self.ray_shards < 1 or self.shard is not None):
            raise ValueError(f"ray_shards is {self.ray_shards}; expected 1 or more, and no --shard beside it.")
        if self.dry_run:
            raise ValueError("a dry run counts what all shards will ask: leave --shard and --ray_shards out.")
        if self.encoder != "tfidf" and self.vector_cache is None:
            raise ValueError(f"shards share the vectors of {self.encoder} in files: name one (vector_cache).")

    def _check_encoder(self) -> None:
        for name in ("encoder_trust_remote_code", "encoder_revision", "encoder_prompt"):
            if self.encoder == "tfidf" and (value := getattr(self, name)):
                raise ValueError(
                    f"{name} is {value!r}, but encoder is tfidf, which is no model: name a sentence-transformers model "
                    f"(encoder), or leave {name} out ({'false' if value is True else 'null'})."
                )


@dataclass
class DemonstrationArguments(JudgedArguments):
    """Stage 1: how a teacher's lists become demonstrations (arXiv 2510.20150, appendix A).

    Args:
        prompt_template: of the model that will learn from them; every row holds its prompt, for other trainers too.
        raw_lists: a recording of the teacher's lists (JSONL with `id` and `raw`) instead of asking for them.
        raw_where: (YAML) rows of the recording to use: `{prompt: general}`.
        num_ranks: K, items in a demonstration.
        teacher_ranks: titles that the teacher is asked for.
        steps: `remap`, `remap,reflect`, `remap,adjust`, `remap,reflect,adjust`, or `none` for the raw lists.
        recommend_template: a jinja2 file instead of the domain's.
        fuzzy_min_score: also take misspelt titles for items, from this score (0-100) on.
        context_weight: λ of Remap.
        num_candidates: M, items that are scored for each dialogue.
        num_rated: N_r, items that Reflect has rated.
        rating_weight: γ of Reflect.
        regularization: L2 weight of Adjust.
        adjust_on: fit Adjust on the first so many dialogues.
        folds: adjust every dialogue by the truth of the other folds.
        adjustment: use an earlier run's `adjustment.npz` instead of fitting.
        keep_seen: let mentioned items into the lists.
    """

    prompt_template: str = field(default="movie", metadata={"help": "movie, book, generic, or a jinja2 file."})
    raw_lists: str | None = field(default=None, metadata={"help": "Recorded lists (JSONL with id and raw)."})
    raw_where: dict | None = field(default=None, metadata={"help": "Which rows of the recording (flag: JSON)."})
    num_ranks: int = field(default=20, metadata={"help": "K, items in a demonstration."})
    teacher_ranks: int = field(default=20, metadata={"help": "Titles the teacher is asked for."})
    steps: str = field(default="remap,reflect,adjust", metadata={"help": "Which steps, separated by commas."})
    recommend_template: str | None = field(default=None, metadata={"help": "A jinja2 file of your own."})
    fuzzy_min_score: float | None = field(
        default=None, metadata={"help": "Match misspelt titles at this score (0-100) or above."}
    )
    context_weight: float = field(default=1.0, metadata={"help": "Lambda of Remap."})
    num_candidates: int = field(default=1000, metadata={"help": "Items scored for each dialogue."})
    num_rated: int = field(default=100, metadata={"help": "Items rated in Reflect."})
    rating_weight: float = field(default=0.5, metadata={"help": "Gamma of Reflect."})
    regularization: float = field(default=0.01, metadata={"help": "L2 weight of Adjust."})
    adjust_on: int | None = field(default=None, metadata={"help": "Fit Adjust on the first N dialogues."})
    folds: int = field(default=0, metadata={"help": "Adjust by the truth of the other folds."})
    adjustment: str | None = field(default=None, metadata={"help": "An earlier adjustment.npz."})
    keep_seen: bool = field(default=False, metadata={"help": "Let mentioned items into the lists."})


@dataclass
class LabelArguments(JudgedArguments):
    """Augmented labels: which items would suit each dialogue, and how much they may count (arXiv 2508.05657).

    Args:
        scorer: who scores the retrieved items: `teacher`, `encoder` (similarity alone), or the directory of a local
            scorer (recipes/tune_scorer.py).
        num_candidates: items retrieved for each dialogue.
        min_label_score: keep items scored at least so high, on a scale of 0 to 4.
        trust: let labels count so much instead of measuring how often they find hidden true ones; needed where no
            truth is known.
        prior: how many hidden labels the source as a whole counts for in the trust of one dialogue.
        reasons: have the teacher give a short reason for every score.
        corrupt: share of the labels to replace by random items before trust is measured: an experiment on what a wrong
            teacher does.
    """

    output_dir: str = field(default="runs/labels", metadata={"help": "Folder for the results."})
    window: int = field(default=50, metadata={"help": "Items in one request."})
    scorer: str = field(default="teacher", metadata={"help": "teacher, encoder, or a local scorer's directory."})
    num_candidates: int = field(default=50, metadata={"help": "Items retrieved for each dialogue."})
    min_label_score: float = field(
        default=MIN_LABEL_SCORE, metadata={"help": "Keep items scored at least this (0 to 4)."}
    )
    trust: float | None = field(default=None, metadata={"help": "Use this trust instead of measuring it."})
    prior: float = field(default=PRIOR, metadata={"help": "Hidden labels that the source as a whole counts for."})
    reasons: bool = field(default=True, metadata={"help": "Ask for a short reason of every score."})
    corrupt: float = field(default=0.0, metadata={"help": "Share of labels to replace at random (an experiment)."})


@dataclass
class RewardArguments(DataArguments):
    """Stage 2: what a rank is rewarded with, and who makes use of it.

    Args:
        trainer: `package.module:Class`, a subclass of `RankGRPOTrainer` with a rule of your own (docs/extend.md).
        reward: `exp` or `log` (arXiv 2510.20150, section on returns).
        gamma: discount of `exp`, above 1; infinity rewards a rank with its own item alone.
        year_tolerance: accept a truth item whose year is off by so many years.
        unknown_limit: largest share of truth items that may be missing from the catalogue.
        fuzzy_min_score: also accept misspelt titles from this score (0-100) on; by default only exact ones count.
        augmented_weight: what the gains of augmented labels (`augmented` in the dialogues) are multiplied by, 0 to 1; 0
            leaves them out. Below a full weight set `scale_rewards: batch`: scaling by group would blow a rank at which
            only augmented labels differ up to full size again.
        label_schedule: `constant`; `linear`: the weight falls to 0; `two_stage`: augmented labels alone, then true ones
            alone; `augmented_only`.
        stage_one_share: share of the steps after which `two_stage` changes over.
        popularity_power: pay less for popular items: a hit weighs 1 / popularity to this power; 0 pays all alike. It
            needs `scale_rewards: batch` too.
        popularity_cap: a hit pays at most so many times as much as one on the most popular item.
    """

    trainer: str | None = field(default=None, metadata={"help": "A trainer of your own, package.module:Class."})
    reward: ReturnKind = field(default="exp", metadata={"help": "Family of the return: exp or log."})
    gamma: float = field(default=math.inf, metadata={"help": "Discount of exp; inf: each rank its own item."})
    year_tolerance: int = field(default=0, metadata={"help": "Years by which a truth item may be off."})
    unknown_limit: float = field(default=0.5, metadata={"help": "Share of truth items that may be unknown."})
    fuzzy_min_score: float | None = field(
        default=None, metadata={"help": "Match misspelt titles at this score (0-100) or above."}
    )
    augmented_weight: float = field(default=0.0, metadata={"help": "Weight of augmented labels, 0 to 1."})
    label_schedule: ScheduleKind = field(
        default="constant", metadata={"help": "How the weight of labels changes over training."}
    )
    stage_one_share: float = field(default=0.5, metadata={"help": "Share of steps before two_stage changes over."})
    popularity_power: float = field(default=0.0, metadata={"help": "Pay less for popular items; 0: all alike."})
    popularity_cap: float = field(default=10.0, metadata={"help": "Largest weight of a rare item."})


@dataclass
class ValidationArguments:
    """Choosing among the checkpoints of stage 2, and stopping.

    Args:
        validation: validation dialogues, held out from training and from the test; none: no validation.
        validate_steps: score the policy every so many optimizer steps, before the first and after the last.
        validation_size: on so many of the dialogues, drawn once.
        validation_seed: seed of the draw.
        validate_batch_size: prompts decoded at once.
        patience: stop after so many validations in a row without a new best; never by default.
        keep_every: keep every checkpoint whose step is a multiple of this, beside the best and the newest
            `save_total_limit`.

    Raises:
        ValueError: for a number below 1, or `patience` without `validation`.
    """

    validation: str | None = field(default=None, metadata={"help": "Validation dialogues."})
    validate_steps: int = field(default=50, metadata={"help": "Steps from one validation to the next."})
    validation_size: int = field(default=512, metadata={"help": "Validation dialogues to draw."})
    validation_seed: int = field(default=0, metadata={"help": "Seed of the draw."})
    validate_batch_size: int = field(default=64, metadata={"help": "Validation prompts decoded at once."})
    patience: int | None = field(default=None, metadata={"help": "Validations without a new best before stopping."})
    keep_every: int | None = field(default=None, metadata={"help": "Keep checkpoints at multiples of this step."})

    def __post_init__(self) -> None:
        for name in ("validate_steps", "validation_size", "validate_batch_size", "patience", "keep_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more.")
        if self.patience is not None and self.validation is None:
            raise ValueError(
                f"patience is {self.patience}, but nothing is validated; name validation dialogues (validation), or "
                "leave patience out."
            )


@dataclass(kw_only=True)
class ScorerArguments(DialogueArguments):
    """Augmented labels: what a small model learns to score like (arXiv 2508.05657).

    Args:
        scores: a teacher's scores of candidates (JSONL, see `rankrl.labels.scores_file`).
        held_out: share of the dialogues that the scorer is measured on and does not learn from.
        min_label_score: from which score on an item becomes a label.
        max_length: tokens of dialogue and item together; what is longer loses the start of its dialogue.
        tiny_vocab_size: vocabulary of `--model_name_or_path tiny-gpt2`.
    """

    scores: str = field(metadata={"help": "A teacher's scores (JSONL)."})
    held_out: float = field(default=0.2, metadata={"help": "Share of the dialogues to measure on."})
    min_label_score: float = field(
        default=MIN_LABEL_SCORE, metadata={"help": "Items scored at least this (0 to 4) are labels."}
    )
    max_length: int = field(default=1024, metadata={"help": "Tokens of dialogue and item."})
    tiny_vocab_size: int = field(default=2048, metadata={"help": "Vocabulary of tiny-gpt2."})


@dataclass(kw_only=True)
class WriterArguments(PromptArguments):
    """A model that writes lists.

    Args:
        model_name_or_path: a model, or the directory of a stage.
        prompt_template: for a model without a prompt of its own, `movie` by default; a trained stage brings its own.
        max_completion_length: tokens a list may take; proposed from the catalogue by default.
        num_ranks: K of a model without a prompt of its own; 20 by default.
        dtype: what the weights are loaded in.
    """

    model_name_or_path: str = field(default="", metadata={"help": "A model, or the directory of a stage."})
    prompt_template: str | None = field(  # type: ignore[assignment]  # None: that of the checkpoint
        default=None, metadata={"help": "For a base model: movie, book, generic, or a jinja2 file."}
    )
    max_completion_length: int | None = field(default=None, metadata={"help": "Tokens a list may take."})
    num_ranks: int | None = field(
        default=None, metadata={"help": "K, items in a list; by default as the model was trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "Precision of the weights."})


@dataclass(kw_only=True)
class EvaluationArguments(WriterArguments, DataArguments):
    """Scores of one model on held-out dialogues.

    Args:
        output: the JSON file the scores go to.
        batch_size: prompts decoded at once.
        year_tolerance: accept a truth item whose year is off by so many years.
        popularity_from: training dialogues; also score the one list of what is wanted most often in them, and how
            popular the lists are: share and recall of the tail. All of them are read, whatever `limit` says.
        popularity_split: their split of a Hugging Face dataset, if it has several.
        shuffle_requests: seed; swap the requests between users, to see whether the model reads them.
    """

    output: str = field(default="", metadata={"help": "JSON file for the scores."})
    batch_size: int = field(default=64, metadata={"help": "Prompts decoded at once."})
    year_tolerance: int = field(default=0, metadata={"help": "Years by which a truth item may be off."})
    popularity_from: str | None = field(default=None, metadata={"help": "Training dialogues for the yardstick."})
    popularity_split: str | None = field(default=None, metadata={"help": "Their split of a Hugging Face dataset."})
    shuffle_requests: int | None = field(default=None, metadata={"help": "Seed; swap requests between users."})
