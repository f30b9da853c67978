"""The shards of a run: one of a job array's, or all on Ray's workers, which does again what a lost worker had."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from rich.console import Console

from rankrl.run.arguments import JudgedArguments
from rankrl.shards import OtherShards
from rankrl.teachers import TeacherConfig, TeacherError

logger = logging.getLogger(__name__)

Arguments = TypeVar("Arguments", bound=JudgedArguments)


def run_shards(
    run_shard: Callable[[Arguments, TeacherConfig], None], args: Arguments, teacher_args: TeacherConfig
) -> bool:
    """Do what `--shard` or `--ray_shards` ask for, if anything.

    Args:
        run_shard: does the share of `args.shard`.
        args: the run.
        teacher_args: its teacher.

    Returns:
        Whether this process is to go on with what looks at all dialogues: not after one shard of a job array.
    """
    if args.shard is not None:
        run_shard(args, teacher_args)
        Console().print(f"Shard {args.shard} is done. When all are, run the same without --shard.", highlight=False)
        return False
    if args.ray_shards is not None:
        run_on_ray(run_shard, args, teacher_args)
    return True


def run_on_ray(
    run_shard: Callable[[Arguments, TeacherConfig], None], args: Arguments, teacher_args: TeacherConfig
) -> None:
    """Have Ray's workers do all shards of a run, as often as it takes until none waits for another.

    A running cluster is used (`RAY_ADDRESS`); where there is none, Ray starts one on this machine. All machines need
    this installation, the environment variables with keys, and a file system that they share, with the same paths.

    Args:
        run_shard: does the share of `args.shard`; raises `OtherShards` where it waits.
        args: the run; `ray_shards` of them.
        teacher_args: its teacher.

    Raises:
        ModuleNotFoundError: if Ray is not installed.
        RuntimeError: if the shards do not see what the others have done.
        TeacherError: if the teacher of a shard cannot go on; the others have done what they could.
    """
    try:
        import ray.data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--ray_shards needs Ray: pip install 'rankrl[ray]'; or use --shard i/n in a job array"
        ) from error
    number, folder = args.ray_shards or 1, os.getcwd()

    def waits_for(row: dict[str, Any]) -> dict[str, Any]:
        os.chdir(folder)  # relative paths are those of the run
        shard = f"{row['id'] + 1}/{number}"
        try:
            run_shard(replace(args, shard=shard, ray_shards=None), teacher_args)
        except OtherShards as waiting:
            return {"waits": str(waiting), "stopped": ""}
        except TeacherError as error:
            return {"waits": "", "stopped": f"shard {shard}: {error}"}
        return {"waits": "", "stopped": ""}

    before: list[str] | None = None
    while True:
        # One block for each shard: a block is what Ray hands to a worker, and does again if the worker is lost.
        done = ray.data.range(number, override_num_blocks=number).map(waits_for).take_all()
        if stopped := sorted(row["stopped"] for row in done if row["stopped"]):
            raise TeacherError(f"{len(stopped)} of {number} shards stopped. {stopped[0]}")
        waits = sorted(row["waits"] for row in done if row["waits"])
        logger.info("%d of %d shards are done", number - len(waits), number)
        if not waits:
            return
        if waits == before:
            raise RuntimeError(
                f"the shards do not see what the others have done: {waits[0]} Do all of Ray's machines share the file "
                "system with output_dir, teacher_cache and vector_cache?"
            )
        before = waits
