"""`python -m rankrl.data.simulation OUT_DIR`: write the demo's catalogue, dialogues and true choice probabilities."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rankrl.data.simulation.simulator import simulate


def main(arguments: Sequence[str] | None = None) -> None:
    """Write catalog.jsonl, train.jsonl, validation.jsonl, test.jsonl and truth.npz into a directory."""
    parser = argparse.ArgumentParser(prog="python -m rankrl.data.simulation", description=main.__doc__)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--train", type=int, default=2000, help="training dialogues")
    parser.add_argument("--validation", type=int, default=200, help="validation dialogues")
    parser.add_argument("--test", type=int, default=500, help="test dialogues")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-ranks", type=int, default=10, help="length of the teacher's lists")
    options = parser.parse_args(arguments)

    data = simulate(options.train, options.validation, options.test, seed=options.seed, num_ranks=options.num_ranks)
    data.save(options.out_dir)
    num_dialogues = len(data.choices.ids)
    print(f"{len(data.catalog)} films and {num_dialogues} dialogues in {options.out_dir}")


if __name__ == "__main__":
    main()
