"""Two workers of a local Ray do a run's shards: the output of one process, though a worker is killed on the way."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog
from rankrl.data import save_dialogues
from rankrl.data.simulation import simulate
from rankrl.run import demonstration_work, shards
from rankrl.shards import OtherShards, Shard
from rankrl.teachers import TeacherConfig
from rankrl.teachers.shard_file import AnswerFile
from recipes import augment_labels, demonstrations
from tests.recipes.runs import Files, run
from tests.recipes.teaching import Teacher, asks, make, rate_by_length
from tests.teachers.server import serving

CONCURRENCY = 2


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'rankrl[ray]'")
    for attempt in range(3):  # a busy machine does not start it within the 30 seconds that Ray allows itself
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            break
        except Exception as error:
            ray.shutdown()
            if attempt == 2 or "timed out" not in str(error):
                raise
    yield ray
    ray.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    data = simulate(12, 0, 0, seed=0, num_ranks=3, num_items=50)
    files = Files(tmp_path / "catalog.jsonl", tmp_path / "train.jsonl", tmp_path, tmp_path)
    data.catalog.save(files.catalog)
    save_dialogues(files.train, data.train)
    return files


def test_the_output_of_one_process_though_a_worker_is_killed(
    ray: Any, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "killed"
    add, run_shard = AnswerFile.add, demonstration_work.run_shard

    def killed_once(args: Any, teacher_args: TeacherConfig) -> None:
        """The worker that has the second shard dies with its third answer on disk."""
        if args.shard == "2/3" and not marker.exists():
            kept = []

            def add_and_die(self: AnswerFile, *answer: Any) -> None:
                add(self, *answer)
                kept.append(answer)
                if len(kept) == 3:
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            AnswerFile.add = add_and_die  # type: ignore[method-assign]
        run_shard(args, teacher_args)

    monkeypatch.setattr(demonstrations, "run_shard", killed_once)
    catalog = Catalog.load(files.catalog)
    with serving(Teacher(catalog)) as server, serving(Teacher(catalog)) as other:
        make(files, tmp_path / "one", **asks(server, tmp_path / "one"))
        cluster = asks(other, tmp_path / "many", teacher_concurrency=CONCURRENCY)
        make(files, tmp_path / "many", **cluster, ray_shards=3)
        assert marker.exists()
        assert set(other.asked()) == set(server.asked())
        assert len(other.calls) <= len(server.calls) + CONCURRENCY, "only what was under way is asked again"
    for name in ("demonstrations.jsonl", "adjustment.npz", "metrics.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name


def test_labels_are_those_of_one_process(ray: Any, files: Files, tmp_path: Path) -> None:
    settings = {**files.training, "num_candidates": 15, "describe": "all"}
    teacher = Teacher(Catalog.load(files.catalog), judge=rate_by_length)
    with serving(teacher) as server, serving(teacher) as other:
        run(augment_labels, **settings, **asks(server, tmp_path / "one"), output_dir=tmp_path / "one")
        cluster = asks(other, tmp_path / "many")
        run(augment_labels, **settings, **cluster, output_dir=tmp_path / "many", ray_shards=2)
        assert Counter(other.asked()) == Counter(server.asked()), "each request once, whoever asks it"
    for name in ("labels.jsonl", "scores.jsonl", "metrics.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name


def test_workers_that_share_no_disk_do_not_wait_for_ever(ray: Any, files: Files) -> None:
    def waits(args: Any, teacher_args: TeacherConfig) -> None:
        raise OtherShards(Shard.parse(args.shard), 7, "answers")

    args = demonstrations.DemonstrationArguments(**files.training, ray_shards=2)
    with pytest.raises(RuntimeError, match=r"shard 1/2 has done its share, and waits for 7 answers .* share the file"):
        shards.run_on_ray(waits, args, TeacherConfig())


def test_a_teacher_that_cannot_go_on_stops_the_run_in_words(ray: Any, files: Files, tmp_path: Path) -> None:
    with serving(Teacher(Catalog.load(files.catalog))) as server:
        limited = asks(server, tmp_path, teacher_max_calls=2)
        with pytest.raises(
            SystemExit, match=r"(?s)2 of 2 shards stopped. shard 1/2: the next call would pass .* goes on"
        ):
            make(files, tmp_path / "run", **limited, ray_shards=2)
        assert len(server.calls) == 4, "a limit is that of each shard"


def test_without_ray(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    args = demonstrations.DemonstrationArguments(**files.training, ray_shards=2)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rankrl\[ray\]'; or use --shard i/n"):
        shards.run_on_ray(demonstration_work.run_shard, args, TeacherConfig())
