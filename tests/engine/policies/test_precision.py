from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import line, train, weights
from torch import nn

from engine.errors import DeviceError
from engine.policies.precision import Precision

CPU = torch.device("cpu")


class TestAutocast:
    @pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
    def test_products_are_computed_in_the_named_precision(self, name: str, dtype: torch.dtype) -> None:
        layer = nn.Linear(2, 2)

        with Precision(name, CPU).autocast():
            outputs = layer(torch.ones(1, 2))

        assert outputs.dtype == dtype
        assert layer.weight.dtype == torch.float32

    def test_gradients_are_those_of_the_loss(self) -> None:
        weight = nn.Parameter(torch.tensor(3.0))

        Precision("fp32", CPU).backward(weight * 2)

        assert weight.grad == torch.tensor(2.0)


class TestRun:
    def test_bf16_learns_the_line_and_keeps_its_weights_in_fp32(self, root: Path) -> None:
        job = train(line({"training.precision": "bf16", "training.epochs": 20}), root)

        assert job.history.summary is not None
        assert job.history.summary.test["r2"] > 0.9
        assert {tensor.dtype for tensor in weights(job.directory).values()} == {torch.float32}

    def test_bf16_differs_from_fp32(self, root: Path) -> None:
        rough, fine = train(line({"training.precision": "bf16"}), root), train(line(), root)

        assert not torch.equal(weights(rough.directory)["0.weight"], weights(fine.directory)["0.weight"])

    def test_fp16_on_the_cpu_is_refused_with_what_to_use(self, root: Path) -> None:
        with pytest.raises(DeviceError, match=r"training\.precision: fp16 needs a GPU\. Use bf16 or fp32"):
            Precision("fp16", CPU)

        job = train(line({"training.precision": "fp16"}), root)
        assert isinstance(job.history.error, DeviceError)
