from __future__ import annotations

import hashlib
import json
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import AtLook, line, make_trainer, resume, run_python, stop_at, train, weights
from torch import nn

from engine.errors import RunError, TrainingError
from engine.training.checkpoint import Checkpoint, Checkpoints, load
from engine.training.control import Control


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def damage(checkpoint: Checkpoint, name: str = "model.safetensors") -> None:
    path = checkpoint.path / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


class TestSave:
    def test_weights_and_state_come_back(self, checkpoints: Checkpoints) -> None:
        saved = checkpoints.save(2, 30, model(), {"position": {"step": 30}, "random": torch.arange(3)}, 0.5)

        tensors, state = load(saved)

        assert torch.equal(tensors["weight"], model().weight)
        assert state["position"] == {"step": 30}
        assert torch.equal(state["random"], torch.arange(3))
        assert checkpoints.all() == [saved]

    def test_the_last_two_and_the_best_are_kept(self, checkpoints: Checkpoints) -> None:
        for epoch, score in enumerate([0.1, 0.9, 0.3, 0.2, 0.4], start=1):
            checkpoints.save(epoch, epoch * 10, model(), {}, score)

        assert [checkpoint.epoch for checkpoint in checkpoints.all()] == [2, 4, 5]
        best = checkpoints.best()
        assert best is not None
        assert best.epoch == 2

    def test_without_a_score_there_is_no_best(self, checkpoints: Checkpoints) -> None:
        for step in (1, 2, 3):
            checkpoints.save(0, step, model(), {}, None)

        assert checkpoints.best() is None
        assert [checkpoint.step for checkpoint in checkpoints.all()] == [2, 3]

    def test_a_whole_one_of_the_same_position_stays_and_a_damaged_one_is_written_anew(
        self, checkpoints: Checkpoints
    ) -> None:
        saved = checkpoints.save(1, 10, model(), {"first": True}, None)
        checkpoints.save(1, 10, model(), {"first": False}, None)
        assert load(saved)[1] == {"first": True}

        damage(saved)
        checkpoints.save(1, 10, model(), {"first": False}, None)

        assert load(saved)[1] == {"first": False}

    def test_the_prefix_of_a_compiled_model_is_left_out(self, checkpoints: Checkpoints) -> None:
        compiled = torch.compile(model())
        assert all(name.startswith("_orig_mod.") for name in compiled.state_dict())

        tensors, _ = load(checkpoints.save(1, 1, compiled, {}, None))

        assert set(tensors) == {"weight", "bias"}

    def test_tied_and_transposed_weights_survive(self, checkpoints: Checkpoints) -> None:
        tied = nn.Sequential(OrderedDict(one=nn.Linear(3, 3), two=nn.Linear(3, 3)))
        tied.two.weight = tied.one.weight
        tied.register_buffer("turned", torch.arange(6.0).view(2, 3).T)
        fresh = nn.Sequential(OrderedDict(one=nn.Linear(3, 3), two=nn.Linear(3, 3)))
        fresh.two.weight = fresh.one.weight
        fresh.register_buffer("turned", torch.zeros(3, 2))

        tensors, _ = load(checkpoints.save(1, 1, tied, {}, None))
        fresh.load_state_dict(tensors)

        assert fresh.two.weight is fresh.one.weight
        assert torch.equal(fresh.one.weight, tied.one.weight)
        assert torch.equal(fresh.turned, tied.turned)

    def test_state_of_a_module_that_is_no_tensor_comes_back_on_resume(self, root: Path) -> None:
        class Counting(nn.Linear):
            calls = 0

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                self.calls += 1
                return super().forward(inputs)

            def get_extra_state(self) -> dict[str, int]:
                return {"calls": self.calls}

            def set_extra_state(self, state: Mapping[str, int]) -> None:
                self.calls = state["calls"]

        trained, fresh = Counting(1, 1), Counting(1, 1)
        trainer = make_trainer(line(), trained, root)
        trainer.run()
        (folder,) = root.iterdir()

        make_trainer(line(), fresh, root).restore(*load(Checkpoints(folder / "checkpoints").all()[-1]))

        assert fresh.calls == trained.calls - 1  # the test after the last checkpoint
        assert torch.equal(fresh.weight, trained.weight)


class TestInterruptedSave:
    class Cut(Checkpoints):
        """Loses its process at the third save, after the files are written and before they have their name."""

        saves = 0

        def save(self, epoch: int, step: int, model: nn.Module, state: Mapping[str, Any], score: float | None) -> Any:
            self.saves += 1
            if self.saves == 3:
                aside = self.folder / ".writing-1"
                aside.mkdir()
                (aside / "model.safetensors").write_bytes(b"half")
                raise KeyboardInterrupt
            return super().save(epoch, step, model, state, score)

    def test_the_previous_one_is_readable_and_nothing_half_has_a_final_name(self, tmp_path: Path) -> None:
        cut = self.Cut(tmp_path / "checkpoints")
        cut.save(1, 1, model(), {}, None)
        cut.save(2, 2, model(), {}, None)

        with pytest.raises(KeyboardInterrupt):
            cut.save(3, 3, model(), {}, None)

        checkpoint, tensors, _ = Checkpoints(cut.folder).load_newest(pytest.fail)
        assert checkpoint.epoch == 2
        assert torch.equal(tensors["weight"], model().weight)

    def test_what_a_killed_process_left_is_gone_after_the_next_save(self, tmp_path: Path) -> None:
        self.test_the_previous_one_is_readable_and_nothing_half_has_a_final_name(tmp_path)
        folder = tmp_path / "checkpoints"
        assert ".writing-1" in files(folder)

        Checkpoints(folder).save(3, 3, model(), {}, None)

        assert files(folder) == {"epoch-00002-step-000000002", "epoch-00003-step-000000003"}

    def test_state_that_cannot_be_written_leaves_the_previous_one(self, checkpoints: Checkpoints) -> None:
        class FullDisk:
            def __reduce__(self) -> Any:
                raise OSError(28, "No space left on device")

        checkpoints.save(1, 1, model(), {}, None)

        with pytest.raises(TrainingError, match=r"the disk is full: no checkpoint was written\. Free some space"):
            checkpoints.save(2, 2, model(), {"full": FullDisk()}, None)

        assert files(checkpoints.folder) == {"epoch-00001-step-000000001"}
        assert checkpoints.load_newest(pytest.fail)[0].epoch == 1

    def test_a_run_directory_that_is_gone_is_not_made_again(self, tmp_path: Path) -> None:
        checkpoints = Checkpoints(tmp_path / "gone" / "checkpoints")

        with pytest.raises(TrainingError, match="a checkpoint can't be written"):
            checkpoints.save(1, 1, model(), {}, None)

        assert not (tmp_path / "gone").exists()

    def test_training_goes_on_over_a_full_disk_and_says_so(self, root: Path) -> None:
        code = """
import json, resource, sys
from pathlib import Path
from small_runs import AtLook, line, train
from engine.training.checkpoint import Checkpoints, load

def limit(size):
    return lambda control: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

# 400 KB of weights don't fit into files of at most 150 KB; the metrics do. Five steps and seven looks an epoch.
recipe = line({"model.layers.0.out_features": 33_000, "training.epochs": 6, "optimizer.lr": 1e-6})
control = AtLook({10: limit(150_000), 10 + 3 * 7: limit(resource.RLIM_INFINITY)})
job = train(recipe, Path(sys.argv[1]), control)
folder = job.directory.checkpoints
kept = Checkpoints(folder).all()
print(json.dumps({
    "state": job.directory.status().state,
    "trouble": [event.text for event in job.history.events if event.kind == "trouble"],
    "files": sorted(path.name for path in folder.iterdir()),
    "readable": [checkpoint.epoch for checkpoint in kept if load(checkpoint)],
}))
"""
        ran = run_python(code, str(root))

        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout)
        assert told["state"] == "done"
        assert len(told["trouble"]) == 3
        assert all("no checkpoint was written" in text or "can't be written" in text for text in told["trouble"])
        assert [name[:11] for name in told["files"]] == [f"epoch-0000{epoch}" for epoch in told["readable"]]
        assert told["readable"][-2:] == [5, 6]


class TestDamage:
    @pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
    def test_one_flipped_bit_is_refused(self, name: str, checkpoints: Checkpoints) -> None:
        saved = checkpoints.save(1, 1, model(), {}, None)
        damage(saved, name)

        with pytest.raises(RunError, match=rf"{name} does not match its hash"):
            load(saved)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 9, "epoch": 1, "step": 1}'])
    def test_a_manifest_of_nonsense_is_no_checkpoint(self, text: str, checkpoints: Checkpoints) -> None:
        checkpoints.save(1, 1, model(), {}, None)
        saved = checkpoints.save(2, 2, model(), {}, None)
        (saved.path / "manifest.json").write_text(text)

        assert checkpoints.load_newest(lambda line: None)[0].epoch == 1
        with pytest.raises(RunError):
            load(saved)

    def test_a_missing_file_is_refused(self, checkpoints: Checkpoints) -> None:
        saved = checkpoints.save(1, 1, model(), {}, None)
        (saved.path / "state.pt").unlink()

        with pytest.raises(RunError, match="can't be read"):
            load(saved)

    def test_code_in_a_checkpoint_is_refused_and_not_run(self, checkpoints: Checkpoints, tmp_path: Path) -> None:
        class Code:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "ran",)

        saved = checkpoints.save(1, 1, model(), {"state": Code()}, None)

        with pytest.raises(RunError, match="holds something else than weights and plain state, and is not loaded"):
            load(saved)
        assert not (tmp_path / "ran").exists()

    def test_a_bare_pickle_with_a_fitting_hash_is_refused_too(self, checkpoints: Checkpoints) -> None:
        saved = checkpoints.save(1, 1, model(), {}, None)
        content = pickle.dumps(print, protocol=2)
        (saved.path / "state.pt").write_bytes(content)
        manifest = json.loads((saved.path / "manifest.json").read_text())
        manifest["files"]["state.pt"]["sha256"] = hashlib.sha256(content).hexdigest()
        (saved.path / "manifest.json").write_text(json.dumps(manifest))

        with pytest.raises(RunError):
            load(saved)

    def test_without_a_whole_one_it_says_so(self, checkpoints: Checkpoints) -> None:
        damage(checkpoints.save(1, 1, model(), {}, None))

        with pytest.raises(RunError, match="has no checkpoint that can be read"):
            checkpoints.load_newest(lambda line: None)

    def test_a_damaged_one_is_said_once_and_the_run_goes_on_from_the_one_before(self, root: Path) -> None:
        whole = train(line({"training.epochs": 3}), root)
        cut = train(line({"training.epochs": 3}), root, stop_at(13))  # five steps and two looks an epoch
        newest = Checkpoints(cut.directory.checkpoints).all()[-1]
        damage(newest)

        job = resume(cut.directory)

        notices = [text for text in job.history.log if "does not match its hash" in text]
        assert len(notices) == 1
        assert notices[0].endswith("The one before is used.")
        assert torch.equal(weights(job.directory)["0.weight"], weights(whole.directory)["0.weight"])

    def test_a_damaged_one_at_an_epochs_end_is_replaced_when_the_epoch_ends_again(self, root: Path) -> None:
        cut = train(line({"training.epochs": 3}), root, stop_at(14))
        newest = Checkpoints(cut.directory.checkpoints).all()[-1]
        assert (newest.epoch, newest.step) == (2, 10)
        damage(newest)

        job = resume(cut.directory)

        assert job.history.error is None
        load(newest)

    def test_a_damaged_best_one_is_said_and_the_last_weights_are_tested(self, root: Path) -> None:
        def damage_best(control: Control) -> None:
            best = Checkpoints(next(root.iterdir()) / "checkpoints").best()
            assert best is not None
            assert best.epoch == 1
            damage(best)

        # Nothing is learned after the first epoch, so that it stays the best of three.
        control = AtLook({7: lambda control: control.set_learning_rate(1e-30), 21: damage_best})

        job = train(line({"training.epochs": 3}), root, control)

        trouble = [event.text for event in job.history.events if event.kind == "trouble"]
        assert len(trouble) == 1
        assert trouble[0].endswith("does not match its hash. The last weights are used.")
        assert job.history.progress.state == "done"
