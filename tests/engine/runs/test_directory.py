from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from nursery import Nursery, call
from small_runs import AtLook, line, stop_at, train

from engine.errors import RecipeError, RunError
from engine.job import Job
from engine.runs.directory import RunDirectory, all_runs, owner_facts
from engine.runs.writer import MetricsWriter


def create(root: Path, name: str = "line") -> RunDirectory:
    return RunDirectory.create(root, name, line(), "cpu")


def record(run: RunDirectory, **facts: object) -> None:
    writer = MetricsWriter(run.metrics_file, pytest.fail)
    writer.facts(facts)
    writer.close()


class TestCreate:
    def test_it_holds_the_recipe_and_the_environment(self, root: Path) -> None:
        run = create(root)

        assert run.recipe() == line()
        environment = json.loads(run.environment_file.read_text())
        assert environment["versions"]["torch"].startswith("2.")
        assert {"command", "python", "host", "device", "git_commit", "created"} <= set(environment)
        assert run.checkpoints.is_dir()

    def test_runs_of_the_same_second_have_names_of_their_own(self, root: Path) -> None:
        assert len({create(root).name for _ in range(5)}) == 5

    @pytest.mark.parametrize("name", ["a b/c", "../up", "", "ünï 数", "-rf", "..."])
    def test_any_name_is_a_folder_directly_under_the_root(self, name: str, root: Path) -> None:
        assert create(root, name).path.parent == root

    def test_the_folder_of_runs_may_be_a_link_to_another_disk(self, tmp_path: Path) -> None:
        (tmp_path / "large disk").mkdir()
        (tmp_path / "runs").symlink_to(tmp_path / "large disk")

        run = create(tmp_path / "runs")

        assert (tmp_path / "large disk" / run.name / "recipe.toml").is_file()

    def test_a_file_in_the_way_is_one_clear_message(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")

        for root in (tmp_path / "file", tmp_path / "file" / "deeper"):
            with pytest.raises(RunError, match=r"a run can't be written there: .*Choose another folder with --runs"):
                create(root)


class TestOpen:
    @pytest.fixture
    def run(self, root: Path) -> RunDirectory:
        create(root, "digits-cnn")
        return create(root, "line-fit")

    def test_by_name_by_path_and_by_the_beginning_of_its_name(self, root: Path, run: RunDirectory) -> None:
        for name in (run.name, run.path, str(run.path), "line"):
            assert RunDirectory.open(name, root).path.resolve() == run.path.resolve()

    def test_an_ambiguous_beginning_names_the_candidates(self, root: Path, run: RunDirectory) -> None:
        other = create(root, "line-fat")

        with pytest.raises(RunError) as caught:
            RunDirectory.open("line-f", root)

        assert other.name in str(caught.value)
        assert run.name in str(caught.value)

    def test_a_name_that_is_too_long_for_a_file_is_cut(self, root: Path) -> None:
        run = RunDirectory.create(root, "ü" * 400, line(), "cpu")
        assert run.name.startswith("ü" * 100 + "-")

    def test_a_misspelt_name_offers_the_nearest(self, root: Path, run: RunDirectory) -> None:
        wrong = run.name.replace("line", "lime")

        with pytest.raises(RunError, match=f"Did you mean '{run.name}'"):
            RunDirectory.open(wrong, root)

    def test_without_runs_it_says_where_it_looked(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match=f"is no run in {tmp_path}"):
            RunDirectory.open("anything", tmp_path)

    def test_a_damaged_recipe_names_its_file(self, root: Path, run: RunDirectory) -> None:
        run.recipe_file.write_text("data = [")

        with pytest.raises(RecipeError, match=r"recipe\.toml: is not TOML"):
            run.recipe()


class TestListing:
    def test_the_newest_is_first(self, root: Path) -> None:
        runs = [create(root, name) for name in ("b", "c", "a")]
        for age, run in enumerate(runs):
            os.utime(run.recipe_file, (1_000_000 + age,) * 2)

        assert [run.name for run in all_runs(root)] == [run.name for run in reversed(runs)]

    def test_what_is_no_run_is_left_out(self, root: Path) -> None:
        run = create(root)
        (root / "notes").mkdir()
        (root / "file.txt").write_text("")

        assert [each.name for each in all_runs(root)] == [run.name]

    def test_without_a_folder_there_is_none(self, tmp_path: Path) -> None:
        assert list(all_runs(tmp_path / "nowhere")) == []


def tell_who_owns() -> None:
    print(json.dumps(owner_facts()))


class TestStatus:
    def test_a_run_of_this_process_is_as_it_says(self, root: Path) -> None:
        run = create(root)
        record(run, state="training", started=5.0, **owner_facts())

        assert run.status().state == "training"
        assert run.status().started == 5.0

    def test_a_run_whose_process_died_is_interrupted(self, nursery: Nursery, root: Path) -> None:
        run = create(root)
        gone = call(nursery, "test_directory", "tell_who_owns")
        record(run, state="training", **json.loads(gone))

        assert run.status().state == "interrupted"

    def test_another_process_with_the_same_number_is_not_taken_for_it(self, root: Path) -> None:
        run = create(root)
        record(run, **{**owner_facts(), "state": "validating", "process_started": time.time() - 10_000})

        assert run.status().state == "interrupted"

    def test_a_run_on_another_host_is_taken_to_live(self, root: Path) -> None:
        run = create(root)
        record(run, state="training", host="elsewhere", pid=1, process_started=0.0)

        assert run.status().state == "training"

    def test_a_run_that_nobody_trains_yet_is_no_live_one(self, root: Path) -> None:
        run = create(root)
        record(run)

        assert run.status().state == "interrupted"

    def test_whose_a_run_is_stands_on_disk_before_the_first_step(self, root: Path) -> None:
        states = []
        control = AtLook({1: lambda control: states.append(next(all_runs(root)).status().facts["pid"])})

        train(line(), root, control)

        assert states == [os.getpid()]

    @pytest.mark.parametrize("state", ["done", "failed", "stopped"])
    def test_a_run_that_ended_stays_what_it_was_when_its_process_is_gone(self, state: str, root: Path) -> None:
        run = create(root)
        record(run, state=state, reason="because", **{**owner_facts(), "process_started": 0.0})

        assert (run.status().state, run.status().reason) == (state, "because")


class TestHistory:
    def test_curves_events_summary_and_log_are_those_of_the_live_run(self, root: Path) -> None:
        job = train(line(), root)

        read = job.directory.history()

        assert set(read.series) == set(job.history.series)
        for name, series in job.history.series.items():
            assert [column.tolist() for column in series.curve()] == [
                column.tolist() for column in read.series[name].curve()
            ]
        assert read.summary == job.history.summary
        assert read.events == job.history.events
        assert [entry[-20:] for entry in read.log] == [entry[-20:] for entry in job.history.log]
        assert read.progress.state == "done"
        assert (read.progress.step, read.progress.steps, read.progress.epochs) == (10, 10, 2)

    def test_of_a_stopped_run_it_says_how_far_it_came(self, root: Path) -> None:
        read = train(line(), root, stop_at(9)).directory.history()  # two looks after the five steps of an epoch

        assert (read.progress.state, read.progress.step, read.progress.epoch) == ("stopped", 7, 1)


class TestClaim:
    def test_a_run_belongs_to_one_trainer_at_a_time(self, root: Path) -> None:
        run = create(root)
        with run.claim(), pytest.raises(RunError, match=r"is being trained by another process\. Stop it there"):
            run.claim()
        run.claim().close()

    def test_of_two_that_resume_at_once_one_trains_and_the_other_is_told(self, root: Path) -> None:
        run = train(line({"training.epochs": 40}), root, stop_at(4)).directory
        jobs = [Job.resumed(run) for _ in range(2)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(60)
        assert sorted(job.history.progress.state for job in jobs) == ["done", "failed"]
        refused = next(job for job in jobs if job.history.error)
        assert f"is being trained by process {os.getpid()} on" in str(refused.history.error)
        assert run.status().state == "done"

    @pytest.mark.parametrize("summary", [["a list"], {"unknown": 1}, "text"])
    def test_damaged_facts_are_one_clear_message(self, root: Path, summary: object) -> None:
        run = create(root)
        record(run, state="done", summary=summary)
        with pytest.raises(RunError, match="is damaged"):
            run.status()
