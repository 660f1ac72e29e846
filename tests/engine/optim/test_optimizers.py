"""Every optimizer of torch, its groups, and two optimizers as one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from optim_runs import gradients_of, make, network
from small_runs import line
from torch import Tensor, nn

from engine import catalog
from engine.check import check
from engine.errors import RecipeError
from engine.optim.optim import Optim
from engine.optim.optimizers import Both, make_optimizer

NAMES = sorted(catalog.optimizers())


def sizes(model: nn.Module, **changes: Any) -> list[int]:
    optimizer = make_optimizer(line({"optimizer": {"name": "AdamW", **changes}}), model)
    return [len(group["params"]) for group in optimizer.param_groups]


class TestEveryOptimizer:
    @pytest.mark.parametrize("name", NAMES)
    def test_lowers_the_loss_or_is_refused_in_words(self, name: str) -> None:
        model = network()
        recipe = line({"optimizer": {"name": name, "lr": 0.02}})
        if name == "SparseAdam":
            with pytest.raises(RecipeError, match=r"optimizer: SparseAdam can't train this: .*dense gradients"):
                make(recipe, model)
            return
        optim = make(recipe, model)
        first = float(gradients_of(model, optim)())

        for _ in range(20):
            optim.step(gradients_of(model, optim))

        assert float(gradients_of(model, optim)()) < first

    @pytest.mark.parametrize("name", sorted(set(NAMES) - {"SparseAdam"}))
    @pytest.mark.parametrize("cut", [1, 3])
    def test_goes_on_to_the_bit_from_a_state_in_a_file(self, name: str, cut: int, tmp_path: Path) -> None:
        changes = {"name": name, "lr": 0.02, "warmup": "4 steps"}
        recipe = line({"optimizer": changes, "scheduler": {"name": "CosineAnnealingLR", "every": "step"}})
        whole, broken, resumed = network(), network(), network()
        optim = make(recipe, whole)
        for _ in range(6):
            optim.step(gradients_of(whole, optim))
        before = make(recipe, broken)
        for _ in range(cut):
            before.step(gradients_of(broken, before))
        torch.save([before.state(), broken.state_dict()], tmp_path / "state.pt")
        state, weights = torch.load(tmp_path / "state.pt", weights_only=True)
        resumed.load_state_dict(weights)
        after = make(recipe, resumed)
        after.load_state(state)
        for _ in range(6 - cut):
            after.step(gradients_of(resumed, after))

        assert after.learning_rate == optim.learning_rate
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))

    def test_without_its_state_the_weights_differ(self) -> None:
        whole, resumed = network(), network()
        recipe = line({"optimizer": {"name": "AdamW", "lr": 0.02}})
        optim = make(recipe, whole)
        optim.step(gradients_of(whole, optim))
        resumed.load_state_dict(whole.state_dict())
        optim.step(gradients_of(whole, optim))
        fresh = make(recipe, resumed)
        fresh.step(gradients_of(resumed, fresh))

        assert not torch.equal(whole[0].weight, resumed[0].weight)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_check_accepts_all_but_one(self, name: str) -> None:
        state = torch.get_rng_state()
        recipe = line(
            {
                "optimizer": {"name": name},
                "model.layers": [
                    {"name": "Linear", "out_features": 8},
                    {"name": "Linear", "out_features": 8},
                    {"name": "Linear", "out_features": "targets"},
                ],
            }
        )

        problems = [str(each) for each in check(recipe).problems]

        assert [each for each in problems if "optim" in each] == (problems if name == "SparseAdam" else [])
        assert len(problems) == (name == "SparseAdam")
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_check_names_a_warm_up_by_time(self) -> None:
        assert any("optimizer.warmup" in str(each) for each in check(line({"optimizer.warmup": "30 s"})).problems)

    def test_cuda_graphs_are_not_refused_for_want_of_a_gpu_in_the_trial(self) -> None:
        make_optimizer(line({"optimizer": {"name": "Adam", "capturable": True}}), network())

    def test_an_unknown_name_or_parameter_names_the_nearest(self) -> None:
        with pytest.raises(RecipeError, match=r"optimizer\.name: .*'AdamX'.*Did you mean 'Adam"):
            make_optimizer(line({"optimizer.name": "AdamX"}), network())
        with pytest.raises(RecipeError, match=r"optimizer\.momentun: .*Did you mean 'momentum'"):
            make_optimizer(line({"optimizer.momentun": 0.9}), network())

    def test_a_model_without_a_trained_parameter_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="has no parameter to train"):
            make_optimizer(line(), nn.ReLU())


class TestGroups:
    def test_norms_and_biases_are_not_decayed(self) -> None:
        model = network()
        optimizer = make_optimizer(line({"optimizer": {"name": "AdamW"}}), model)

        decayed, bare = optimizer.param_groups
        assert [id(p) for p in decayed["params"]] == [id(model[i].weight) for i in (0, 3, 5)]
        assert (decayed["weight_decay"], bare["weight_decay"]) == (0.01, 0.0)
        assert len(bare["params"]) == 5

    def test_a_norm_of_matrices_and_an_embedding_are_told_apart(self) -> None:
        model = nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm((3, 4)), nn.Linear(4, 1, bias=False))

        decayed, bare = make_optimizer(line({"optimizer": {"name": "AdamW"}}), model).param_groups

        assert {tuple(p.shape) for p in bare["params"]} == {(3, 4)}
        assert len(bare["params"]) == 2
        assert len(decayed["params"]) == 2

    def test_there_is_one_group_where_nothing_differs(self) -> None:
        assert sizes(network(), weight_decay_on_norms=True) == [8]
        assert sizes(network(), weight_decay=0.0) == [8]
        assert sizes(nn.Linear(1, 1, bias=False)) == [1]
        assert sizes(network()) == [3, 5]  # the twin: something differs

    def test_the_backbone_learns_at_its_share_and_the_head_comes_first(self) -> None:
        model = network()
        optim = make(line({"optimizer": {"name": "AdamW", "lr": 0.1, "backbone_lr_factor": 0.1}}), model)

        rates = {id(p): group["lr"] for group in optim.optimizer.param_groups for p in group["params"]}

        assert {rates[id(p)] for p in model[5].parameters()} == {0.1}
        assert {round(rates[id(p)], 9) for p in model[:5].parameters()} == {0.01}
        assert optim.learning_rate == 0.1
        assert optim.about == "AdamW · 3 tensors decayed, 5 not · backbone at 0.1 of the rate"
        optim.set_learning_rate(0.5)
        assert sorted({round(group["lr"], 9) for group in optim.optimizer.param_groups}) == [0.05, 0.5]

    @pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
    def test_the_backbone_keeps_its_share_under_schedules_with_rates_of_their_own(self, name: str) -> None:
        scheduler: dict[str, Any] = {"name": name, "every": "step"}
        if name == "CyclicLR":
            scheduler |= {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3}
        model = network()
        optim = make(
            line({"optimizer.momentum": 0.9, "optimizer.backbone_lr_factor": 0.25, "scheduler": scheduler}), model
        )

        for _ in range(5):
            head, backbone = (group["lr"] for group in optim.optimizer.param_groups)
            assert backbone == pytest.approx(head * 0.25)
            optim.step(gradients_of(model, optim))

    def test_tied_and_frozen_parameters_are_there_once_and_not_at_all(self) -> None:
        model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.Linear(4, 3, bias=False))
        model[2].weight = model[0].weight
        model[1].requires_grad_(False)

        assert sizes(model) == [1]

    def test_lbfgs_has_one_rate(self) -> None:
        with pytest.raises(RecipeError, match=r"optimizer\.backbone_lr_factor: LBFGS has one rate"):
            make_optimizer(line({"optimizer": {"name": "LBFGS", "backbone_lr_factor": 0.1}}), network())


class TestFused:
    def fused(self, model: nn.Module, name: str = "AdamW", **more: Any) -> object:
        return make_optimizer(line({"optimizer": {"name": name, **more}}), model).param_groups[0].get("fused")

    @pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
    def test_a_step_is_one_kernel_where_torch_has_one(self, name: str) -> None:
        assert self.fused(network(), name) is True
        assert self.fused(network(), "RMSprop") is None

    @pytest.mark.parametrize("said", [{"fused": False}, {"foreach": True}])
    def test_what_the_recipe_says_is_left_alone(self, said: dict[str, bool]) -> None:
        assert self.fused(network(), **said) in (False, None)

    def test_sparse_gradients_have_no_kernel(self) -> None:
        words = nn.Sequential(nn.Embedding(3, 4, sparse=True), nn.Linear(4, 2))
        optimizer = make_optimizer(line({"optimizer": {"name": "SGD"}}), words)
        words(torch.tensor([0, 2])).sum().backward()
        optimizer.step()
        assert not optimizer.param_groups[0]["fused"]

    def test_weights_with_gaps_are_not_walked(self) -> None:
        model = nn.Linear(4, 2)
        assert self.fused(model)
        model.weight = nn.Parameter(torch.randn(2, 8)[:, ::2])
        assert not self.fused(model)

    @pytest.mark.parametrize("name", ["SGD", "AdamW"])
    def test_weights_laid_channels_last_are_walked_with_their_own_moments_after_resuming_too(self, name: str) -> None:
        def made(channels_last: bool) -> tuple[nn.Module, Optim]:
            torch.manual_seed(0)
            model: nn.Module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
            model = model.to(memory_format=torch.channels_last) if channels_last else model
            momentum = {"momentum": 0.9} if name == "SGD" else {}
            said = {"name": name, "lr": 0.1, **momentum, **({} if channels_last else {"fused": False})}
            return model, make(line({"optimizer": said}), model)

        def step(model: nn.Module, optim: Optim, seed: int) -> None:
            pictures = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(seed))

            def gradients() -> Tensor:
                optim.zero_grad()
                loss: Tensor = model(pictures).square().mean()
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optim.step(gradients)

        plain, ours = made(False), made(True)
        assert ours[1].optimizer.param_groups[0]["fused"]
        assert not ours[0].get_parameter("0.weight").is_contiguous()
        for seed in range(2):
            step(*plain, seed)
            step(*ours, seed)
        resumed = made(True)
        resumed[0].load_state_dict(ours[0].state_dict())
        state = copy.deepcopy(ours[1].state())
        for moments in state["optimizer"]["state"].values():
            moments.update({key: value.contiguous() for key, value in moments.items() if value.ndim == 4})
        resumed[1].load_state(state)
        for each in (plain, ours, resumed):
            step(*each, 2)
        mine, again, theirs = (model.state_dict() for model, _ in (ours, resumed, plain))
        for key in theirs:
            torch.testing.assert_close(mine[key], theirs[key])
            assert torch.equal(mine[key], again[key])

    def test_sgd_in_fp16_is_not_fused_since_its_first_step_may_overflow(self) -> None:
        for precision, fused in (("fp16", False), ("bf16", True)):
            recipe = line({"optimizer": {"name": "SGD", "momentum": 0.9}, "training.precision": precision})
            assert bool(make_optimizer(recipe, network()).param_groups[0]["fused"]) is fused

    def test_steps_are_counted_as_a_fused_step_counts_them_wherever_they_come_from(self) -> None:
        model = network()
        plain = make(line({"optimizer": {"name": "AdamW", "fused": False}}), model)
        plain.step(gradients_of(model, plain))
        state = copy.deepcopy(plain.state())
        for values in state["optimizer"]["state"].values():
            values["step"] = values["step"].double()
        optim = make(line({"optimizer": {"name": "AdamW"}}), model)
        optim.load_state(state)
        for parameter, values in optim.optimizer.state.items():
            assert (values["step"].dtype, values["step"].device) == (torch.float32, parameter.device)
        optim.step(gradients_of(model, optim))
        assert {float(values["step"]) for values in optim.optimizer.state.values()} == {2}

    def test_a_state_from_elsewhere_does_not_decide_how_a_step_is_done(self) -> None:
        plain, ours = network(), network()
        saved = make(line({"optimizer": {"name": "AdamW", "fused": False}}), plain).state()
        optim = make(line({"optimizer": {"name": "AdamW"}}), ours)
        optim.load_state(saved)
        assert {group["fused"] for group in optim.optimizer.param_groups} == {True}

    def test_it_comes_to_the_same_as_torchs_plain_step(self) -> None:
        ours, theirs = network(), network()
        optim = make(line({"optimizer": {"name": "AdamW", "lr": 0.05, "weight_decay_on_norms": True}}), ours)
        plain = torch.optim.AdamW(theirs.parameters(), lr=0.05, fused=False)
        for _ in range(3):
            optim.step(gradients_of(ours, optim))
            gradients_of(theirs, optim)()
            plain.step()
            plain.zero_grad()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b)


class TestMatricesOnly:
    def recipe(self, **more: Any) -> Any:
        return line({"optimizer": {"name": "Muon", "lr": 0.05, **more}})

    def test_hidden_matrices_go_to_muon_and_all_else_to_adamw(self) -> None:
        model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))

        optim = make(self.recipe(weight_decay=0.2), model)

        assert isinstance(optim.optimizer, Both)
        adamw, muon = optim.optimizer.parts
        assert isinstance(adamw, torch.optim.AdamW)
        assert isinstance(muon, torch.optim.Muon)
        assert [id(p) for g in muon.param_groups for p in g["params"]] == [id(model[1].weight)]
        assert sum(len(g["params"]) for g in adamw.param_groups) == 6
        assert {g["lr"] for g in optim.optimizer.param_groups} == {0.05}
        assert {g["weight_decay"] for g in optim.optimizer.param_groups} == {0.0, 0.2}
        assert optim.about.startswith("Muon for 1 of 7 tensors, AdamW for the others · 3 tensors decayed, 4 not")

    def test_both_do_what_each_does_alone(self) -> None:
        ours, theirs = network(), network()
        optim = make(self.recipe(weight_decay_on_norms=True), ours)
        matrices = [theirs[0].weight, theirs[3].weight]
        others = [p for p in theirs.parameters() if all(p is not m for m in matrices)]
        alone = [torch.optim.Muon(matrices, lr=0.05), torch.optim.AdamW(others, lr=0.05, weight_decay=0.1, fused=True)]
        for _ in range(3):
            optim.step(gradients_of(ours, optim))
            gradients_of(theirs, optim)()
            for each in alone:
                each.step()
                each.zero_grad()

        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))

    def test_parts_see_the_groups_and_the_state_that_were_loaded(self) -> None:
        model = network()
        optim = make(self.recipe(), model)
        optim.step(gradients_of(model, optim))
        optim.load_state(optim.state())
        optim.set_learning_rate(0.5)

        assert isinstance(optim.optimizer, Both)
        assert all(group["lr"] == 0.5 for part in optim.optimizer.parts for group in part.param_groups)
        assert all(part.state is optim.optimizer.state for part in optim.optimizer.parts)

    def test_a_model_without_a_hidden_matrix_is_refused_with_what_to_use(self) -> None:
        with pytest.raises(RecipeError, match=r"optimizer\.name: Muon trains hidden matrices only.*Use AdamW"):
            make_optimizer(self.recipe(), nn.Linear(1, 1))
        make_optimizer(self.recipe(), network())  # the twin has one
