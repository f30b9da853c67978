"""A recipe of a user's own: the options of `recipes.rank_grpo`, and a line of its own beside the model."""

import sys
from pathlib import Path

from recipes import rank_grpo


def cli() -> None:
    rank_grpo.cli()
    (Path(sys.argv[sys.argv.index("--output_dir") + 1]) / "own.txt").write_text("trained by own_recipe\n", "utf-8")
