"""Keras on the torch backend: arrays into `fit`, as its MNIST example has it, and a DataLoader where samples are drawn.

The model is the same torch module, in a TorchModuleWrapper.
https://keras.io/examples/vision/mnist_convnet · https://keras.io/api/layers/backend_specific_layers/torch_module_wrapper
"""

from __future__ import annotations

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = "cpu"

import keras
from torch import Tensor, nn

from benchmarks.contestants.race import Race, Stopwatch


class Classifier(keras.Model):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.wrapped = keras.layers.TorchModuleWrapper(model)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.wrapped(inputs, training=training)


class Timer(keras.callbacks.Callback):
    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.watch = watch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.watch.step()


race = Race.entered()
keras.utils.set_random_seed(race.seed)
watch = Stopwatch(race)
model = race.work.make()
classifier = Classifier(model)
classifier.compile(
    optimizer=keras.optimizers.SGD(learning_rate=0.01, momentum=0.9),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
settings: dict[str, Any] = {"epochs": race.epochs, "verbose": 0, "callbacks": [Timer(watch)]}
if race.work.augment:
    classifier.fit(race.batches(), **settings)
else:
    inputs, targets = (part.numpy() for part in race.tensors())
    classifier.fit(inputs, targets, batch_size=race.work.batch, steps_per_epoch=race.steps, **settings)
race.finish(watch.samples_per_second, model, "keras")
