from __future__ import annotations

import copy
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from kept import equal
from torch import nn

from engine.checkpoints.checkpoint import Checkpoints, load
from engine.checkpoints.snapshot import Snapshots, _buffer, plain_name


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(16, 4)).square().sum().backward()
    optimizer.step()


class TestIsolation:
    def test_training_on_does_not_change_what_was_taken(self) -> None:
        model, optimizer = trained()
        state = {"optimizer": optimizer.state_dict(), "log": [1, {"losses": [0.5]}], "random": torch.get_rng_state()}
        weights, before = copy.deepcopy(model.state_dict()), copy.deepcopy(state)

        snapshot = Snapshots().take({"model": model.state_dict()}, state)
        step(model, optimizer)
        state["log"][1]["losses"].append(0.4)  # type: ignore[index]
        state["optimizer"]["param_groups"][0]["lr"] = 7.0  # type: ignore[index]

        assert equal(snapshot.files["model"], dict(weights))
        assert equal(snapshot.state, before)

    def test_without_a_snapshot_training_on_does_change_it(self) -> None:
        model, optimizer = trained()
        weights, before = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
        at_hand, state = model.state_dict(), optimizer.state_dict()

        step(model, optimizer)

        assert not equal(at_hand, weights)
        assert not equal(state, before)

    def test_a_second_snapshot_does_not_touch_the_first(self) -> None:
        snapshots, weight = Snapshots(), torch.zeros(5)
        first = snapshots.take({"model": {"w": weight}}, {})
        second = snapshots.take({"model": {"w": weight + 1}}, {})

        assert first.files["model"]["w"].tolist() == [0.0] * 5
        assert second.files["model"]["w"].tolist() == [1.0] * 5

    def test_buffers_are_used_again_after_release_and_only_then(self) -> None:
        snapshots, weight = Snapshots(), torch.zeros(5)
        first = snapshots.take({"model": {"w": weight}}, {})
        address = first.files["model"]["w"].data_ptr()
        held = snapshots.take({"model": {"w": weight}}, {})
        first.release()
        first.release()

        again = snapshots.take({"model": {"w": weight}}, {})

        assert again.files["model"]["w"].data_ptr() == address
        assert held.files["model"]["w"].data_ptr() != address
        assert first.files == {}

    def test_no_more_than_three_exist_at_once(self) -> None:
        snapshots = Snapshots()
        three = [snapshots.take({"model": {"w": torch.zeros(1)}}, {}) for _ in range(3)]

        with pytest.raises(AssertionError, match="not released"):
            snapshots.take({"model": {}}, {})

        three[1].release()
        snapshots.take({"model": {}}, {})

    def test_shapes_that_are_gone_leave_no_buffers_behind(self) -> None:
        snapshots = Snapshots()
        for size in range(1, 50):
            snapshots.take({"model": {}}, {"growing": torch.zeros(size)}).release()

        assert sum(len(buffers) for buffers in snapshots._spare.values()) == 1

    def test_after_close_no_buffer_is_kept_and_one_that_is_out_goes_when_it_is_released(self) -> None:
        snapshots, weights = Snapshots(), {"w": torch.ones(5)}
        out, back = (snapshots.take({"model": weights}, {}) for _ in range(2))
        buffers = [weakref.ref(snapshot.files["model"]["w"]) for snapshot in (out, back)]
        back.release()
        assert buffers[1]() is not None, "a buffer is kept for the next snapshot"

        snapshots.close()

        assert buffers[1]() is None
        assert out.files["model"]["w"].tolist() == [1.0] * 5
        out.release()
        assert buffers[0]() is None
        with pytest.raises(AssertionError, match="closed"):
            snapshots.take({"model": weights}, {})

    def test_a_snapshot_taken_in_inference_mode_lets_the_next_one_be_taken_outside(self) -> None:
        snapshots = Snapshots()
        with torch.inference_mode():
            snapshots.take({"model": {"w": torch.ones(3)}}, {}).release()

        again = snapshots.take({"model": {"w": torch.zeros(3, requires_grad=True)}}, {})

        assert again.files["model"]["w"].tolist() == [0.0] * 3
        assert not again.files["model"]["w"].requires_grad

    def test_release_in_another_thread_while_taking_loses_no_buffer(self) -> None:
        snapshots, weights = Snapshots(), {str(number): torch.full((100,), float(number)) for number in range(20)}
        for _ in range(50):
            snapshot = snapshots.take({"model": weights}, {})
            other = snapshots.take({"model": weights}, {})
            thread = threading.Thread(target=snapshot.release)
            thread.start()
            last = snapshots.take({"model": weights}, {})
            thread.join()
            assert equal(last.files["model"], weights)
            assert equal(other.files["model"], weights)
            other.release()
            last.release()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="memory can be pinned here")
    def test_where_memory_cannot_be_pinned_there_is_a_buffer_all_the_same(self) -> None:
        assert _buffer((torch.Size([2]), torch.float32, True)).shape == (2,)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
    def test_weights_on_a_gpu_are_in_pinned_host_memory_and_whole_when_take_returns(self) -> None:
        weight = torch.arange(10_000_000, device="cuda", dtype=torch.float32)
        expected = weight.cpu()

        snapshot = Snapshots().take({"model": {"w": weight}}, {"random": torch.get_rng_state()})
        weight.zero_()

        assert snapshot.files["model"]["w"].is_pinned()
        assert equal(snapshot.files["model"]["w"], expected)


class TestKinds:
    def test_what_is_no_tensor_is_kept_as_it_is(self) -> None:
        state = {
            "int": 10**30, "float": 0.1, "text": "ä", "bytes": b"\0", "none": None, "yes": True,
            "tuple": (1, (2, [3])), "ordered": OrderedDict(b=1, a=2), "size": torch.Size([1]), "kind": torch.float,
            7: {1, 2},
        }  # fmt: skip

        taken = Snapshots().take({"model": {}}, state).state

        assert equal(taken, state)
        assert taken is not state
        assert taken["ordered"] is not state["ordered"]
        assert taken[7] is not state[7]

    def test_a_state_that_holds_itself_ends(self) -> None:
        state: dict[str, Any] = {"list": []}
        state["list"].append(state)

        taken = Snapshots().take({"model": {}}, state).state

        assert taken["list"][0] is taken

    def test_one_tensor_in_two_places_of_the_state_stays_one(self) -> None:
        tensor = torch.ones(2)

        taken = Snapshots().take({"model": {}}, {"a": tensor, "b": [tensor]}).state

        assert taken["a"] is taken["b"][0]
        assert taken["a"] is not tensor

    @pytest.mark.parametrize(
        ("name", "plain"),
        [
            ("_orig_mod.weight", "weight"),
            ("0._orig_mod.weight", "0.weight"),
            ("_orig_mod.a._orig_mod.b.bias", "a.b.bias"),
            ("_orig_mod._orig_mod.w", "w"),
            ("my_orig_mod.w", "my_orig_mod.w"),
            ("a._orig_mod", "a._orig_mod"),
        ],
    )
    def test_names_lose_what_compiling_adds_wherever_it_is(self, name: str, plain: str) -> None:
        assert plain_name(name) == plain
        assert list(Snapshots().take({"model": {name: torch.ones(1)}}, {}).files["model"]) == [plain]

    def test_every_kind_of_tensor_comes_back_to_the_bit(self, tmp_path: Path) -> None:
        shared = torch.randn(3, 3)
        tensors = {
            "half": torch.randn(5).half(), "bf16": torch.randn(2, 3).bfloat16(), "double": torch.randn(3).double(),
            "int64": torch.tensor([2**62, -1]), "uint8": torch.arange(5, dtype=torch.uint8), "int": torch.ones(2).int(),
            "bool": torch.tensor([True, False]), "scalar": torch.tensor(3), "empty": torch.empty(0, 4),
            "nan": torch.tensor([float("nan"), float("inf"), -0.0]), "turned": torch.arange(6.0).view(2, 3).T,
            "cut": torch.arange(100.0)[10:90:7], "spread": torch.ones(1).expand(4),
            "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "tied": shared, "tied_too": shared, "part": shared[1], "needs_grad": nn.Parameter(torch.randn(2)),
            "complex": torch.randn(3, dtype=torch.complex64).conj(),
        }  # fmt: skip
        snapshot = Snapshots().take({"model": tensors, "average": tensors}, {"tensors": tensors})

        loaded = load(Checkpoints(tmp_path / "checkpoints").write(snapshot, 1, 1, prove=True))

        assert all(tensor.is_contiguous() for tensor in snapshot.files["model"].values())
        assert loaded.weights.keys() == tensors.keys()
        assert loaded.average is not None
        for name, tensor in tensors.items():
            plain = tensor.detach().resolve_conj()
            assert equal(loaded.weights[name], plain), name
            assert equal(loaded.average[name], plain), name
            assert equal(loaded.state["tensors"][name], plain), name
