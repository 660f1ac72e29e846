"""Pretrained weights from a real server on this machine: downloaded, resumed, proved, put all but in the head."""

from __future__ import annotations

import hashlib
import http.server
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import finish, resume, same, start, stop_at, train
from small_runs import weights as final
from torch import Tensor, nn
from torchvision import models

from engine.data.prepare import Facts
from engine.errors import ModelError, RecipeError
from engine.models.build import build_model
from engine.models.zoo import catalogue
from engine.models.zoo.catalogue import find
from engine.models.zoo.weights import fetch, path_of
from engine.recipe import Recipe

COLOURS = Facts((3, 32, 32), 7)
SMALL = "shufflenet_v2_x0_5"


@dataclass
class Mirror:
    """A server of one file, which can be told to misbehave."""

    url: str = ""
    content: bytes = b""
    asked: list[str] = field(default_factory=list)
    cut: int = 0
    ranges: bool = True


class Handler(http.server.BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        mirror, wanted = self.mirror, self.headers.get("Range")
        mirror.asked.append(wanted or "all")
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and mirror.ranges else 0
        if first and first >= len(mirror.content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(mirror.content) - first))
        self.end_headers()
        end = mirror.cut or len(mirror.content)
        self.wfile.write(mirror.content[first:end])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.mirror = Mirror(f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield Handler.mirror
    server.shutdown()
    server.server_close()
    catalogue._pictures_to_numbers.cache_clear()


def publish(
    name: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any] | None = None
) -> nn.Module:
    """Serve made weights of `name` in place of torchvision's; the model that has them."""
    torch.manual_seed(7)
    model = models.get_model(name, weights=None, **(options or {}))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    mirror.content = file.getvalue()
    url = f"{mirror.url}/{name}-{hashlib.sha256(mirror.content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(models.get_model_weights(name).DEFAULT.value, "url", url)
    catalogue._pictures_to_numbers.cache_clear()
    return model


def recipe(name: str = SMALL, **model: Any) -> Recipe:
    return Recipe.from_values({"data": {"name": "CIFAR10"}, "model": {"zoo": name, "weights": "DEFAULT", **model}})


def quiet(what: str, done: int, total: int) -> None:
    pass


def fetched(name: str = SMALL, progress: Any = quiet) -> Path:
    model = find(name)
    assert model.standard is not None
    return fetch(model, model.standard, progress)


def refusal(name: str = SMALL) -> str:
    with pytest.raises(ModelError) as caught:
        fetched(name)
    return str(caught.value)


class TestDownload:
    def test_it_lies_where_torch_hub_looks_and_is_fetched_once(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        publish(SMALL, mirror, monkeypatch)
        seen: list[tuple[str, int, int]] = []
        path = fetched(progress=lambda *values: seen.append(values))
        assert path.parent == tmp_path / "torch" / "hub" / "checkpoints" == Path(torch.hub.get_dir()) / "checkpoints"
        assert path.read_bytes() == mirror.content
        assert seen[-1] == (path.name, len(mirror.content), len(mirror.content))
        assert len(seen) > 5
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        fetched()
        assert mirror.asked == ["all"]

    def test_a_download_that_was_cut_goes_on_where_it_ended(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(SMALL, mirror, monkeypatch)
        mirror.cut = 1_000_000
        assert "it ends after 1,000,000 of" in refusal()
        mirror.cut = 0
        assert fetched().read_bytes() == mirror.content
        assert mirror.asked == ["all", "bytes=1000000-"]

    def test_so_does_one_that_was_cancelled_and_a_server_without_ranges_begins_anew(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(SMALL, mirror, monkeypatch)

        def cancel(what: str, done: int, total: int) -> None:
            if done > 500_000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetched(progress=cancel)
        mirror.ranges = False
        assert fetched().read_bytes() == mirror.content
        assert mirror.asked[1].startswith("bytes=")

    def test_a_part_that_is_whole_already_is_taken(self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(SMALL, mirror, monkeypatch)
        path = path_of(find(SMALL).weights[0])
        path.parent.mkdir(parents=True)
        path.with_name(f"{path.name}.part").write_bytes(mirror.content)
        assert fetched().read_bytes() == mirror.content

    def test_what_is_not_what_its_name_says_is_refused_and_not_kept(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(SMALL, mirror, monkeypatch)
        mirror.content = b"<html>please log in</html>"
        assert "does not give what its name says" in refusal()
        assert list(path_of(find(SMALL).weights[0]).parent.iterdir()) == []

    def test_a_damaged_file_in_the_cache_is_named(self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(SMALL, mirror, monkeypatch)
        path = fetched()
        path.write_bytes(path.read_bytes()[:-1])
        assert f"{path} is damaged or another file. Remove it, and it is downloaded again." in refusal()

    def test_offline_it_says_the_choices(self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(SMALL, mirror, monkeypatch)
        entry = models.get_model_weights(SMALL).DEFAULT.value
        monkeypatch.setattr(entry, "url", entry.url.replace(mirror.url, "http://127.0.0.1:9"))
        catalogue._pictures_to_numbers.cache_clear()
        path = path_of(find(SMALL).weights[0])
        assert refusal() == (
            f"model.weights: {SMALL} IMAGENET1K_V1: can't be downloaded (Connection refused). Connect and try again,"
            f' train from scratch with weights = "", or put {entry.url} at {path}.'
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mirror.content)  # the last of the choices
        assert fetched() == path
        assert mirror.asked == []


class TestLoaded:
    # With auxiliary heads and without, a head that is a convolution, names that changed over the years, a transformer.
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            (SMALL, {}),
            ("squeezenet1_1", {}),
            ("mobilenet_v3_small", {}),
            ("densenet121", {}),
            ("mnasnet0_5", {}),
            ("googlenet", {"init_weights": False, "aux_logits": True}),
        ],
    )
    def test_all_but_the_head_is_that_of_the_file(
        self, name: str, options: dict[str, Any], mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = publish(name, mirror, monkeypatch, options).state_dict()
        model = build_model(recipe(name), COLOURS, quiet)
        own = model.state_dict()
        new = [key for key, value in own.items() if not torch.equal(value, source[key])]
        assert 1 <= len(new) <= 2
        assert all(own[key].shape[0] == 7 and source[key].shape[0] == 1000 for key in new)
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)

    def test_without_them_nothing_is_downloaded_and_everything_is_fresh(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = publish(SMALL, mirror, monkeypatch).state_dict()
        model = build_model(recipe(weights=""), COLOURS, quiet)
        assert not torch.equal(model.state_dict()["conv1.0.weight"], source["conv1.0.weight"])
        assert mirror.asked == []

    def test_grey_pictures_give_what_they_would_give_in_three_equal_colours(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(SMALL, mirror, monkeypatch)
        colours, grey = (
            build_model(recipe(), Facts((channels, 32, 32), 7), quiet).get_submodule("conv1").eval()
            for channels in (3, 1)
        )
        pictures = torch.randn(4, 1, 32, 32)
        assert torch.allclose(grey(pictures), colours(pictures.expand(-1, 3, -1, -1)), atol=1e-5)
        assert not torch.allclose(grey(pictures), colours(pictures.expand(-1, 3, -1, -1) / 3), atol=1e-5)

    @pytest.mark.parametrize(("name", "channels"), [(SMALL, 4), ("googlenet", 1)])
    def test_other_channels_are_refused_before_anything_is_downloaded(
        self, name: str, channels: int, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(name, mirror, monkeypatch, {"init_weights": False} if name == "googlenet" else None)
        with pytest.raises(ModelError, match="for pictures of three colours") as caught:
            build_model(recipe(name), Facts((channels, 32, 32), 7), quiet)
        assert '{ name = "Grayscale", num_output_channels = 3 }' in str(caught.value)
        assert mirror.asked == []

    # Other shapes than the file's; fewer weights than the file's.
    @pytest.mark.parametrize("options", [{"width_per_group": 128}, {"norm_layer": nn.Identity}])
    def test_options_that_change_the_model_are_refused_with_weights(
        self, options: dict[str, Any], mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish("resnet50", mirror, monkeypatch)
        with pytest.raises(ModelError, match="resnet50 IMAGENET1K_V2 does not fit") as caught:
            build_model(recipe("resnet50", options=options), COLOURS, quiet)
        assert caught.value.where == "model.options"

    def test_a_transformer_gets_its_positions_at_the_pictures_size(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = publish("vit_b_32", mirror, monkeypatch).state_dict()
        own = build_model(recipe("vit_b_32"), Facts((3, 64, 64), 7), quiet).state_dict()
        assert own["encoder.pos_embedding"].shape == (1, 5, 768)
        assert torch.equal(own["encoder.pos_embedding"][:, 0], source["encoder.pos_embedding"][:, 0])
        corners: Tensor = source["encoder.pos_embedding"][0, 1:].unflatten(0, (7, 7))[::6, ::6].flatten(0, 1)
        assert torch.allclose(own["encoder.pos_embedding"][0, 1:], corners, atol=1e-5)

    def test_weights_without_a_zoo_model_are_refused(self) -> None:
        with pytest.raises(RecipeError, match="has weights, which only zoo takes"):
            Recipe.from_values({"data": {"name": "CIFAR10"}, "model": {"weights": "DEFAULT"}})


def grey_digits(changes: dict[str, Any] | None = None) -> Recipe:
    """Digits of 32 pixels through a small pretrained network whose head alone learns: two steps an epoch."""
    values = {
        "title": "transfer",
        "data": {
            "name": "mnist5k",
            "batch_size": 32,
            "split": {"train": 0.0128, "val": 0.005, "test": 0.005},
            "transforms": [{"name": "Resize", "size": [32, 32]}],
        },
        "model": {"zoo": SMALL, "weights": "DEFAULT", "freeze": "backbone"},
        "training": {"epochs": 2, "device": "cpu"},
    }
    return Recipe.from_values(values).override(changes or {})


class TestRun:
    def test_a_run_downloads_says_what_it_begins_with_and_trains_its_head(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, root: Path
    ) -> None:
        publish(SMALL, mirror, monkeypatch)
        job = train(grey_digits(), root)
        assert job.history.error is None
        log = (job.directory.path / "log.txt").read_text(encoding="utf-8")
        assert f"{SMALL} begins with IMAGENET1K_V1 (ImageNet-1K, 224×224 pictures with Normalize" in log
        assert "frozen: " in log
        assert mirror.asked == ["all"]

    def test_a_run_that_cannot_download_fails_with_the_choices(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, root: Path
    ) -> None:
        publish(SMALL, mirror, monkeypatch)
        mirror.cut = 10
        job = train(grey_digits(), root)
        assert "train from scratch with weights" in str(job.history.error)

    def test_a_resumed_run_needs_no_file_and_ends_with_the_same_bits(
        self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, root: Path
    ) -> None:
        publish(SMALL, mirror, monkeypatch)
        whole = train(grey_digits(), root / "whole")
        cut = finish(start(grey_digits(), root / "cut", stop_at(3)))
        path_of(find(SMALL).weights[0]).unlink()
        mirror.content = b""
        job = resume(cut.directory)
        assert job.history.error is None
        assert same(final(job.directory), final(whole.directory))
