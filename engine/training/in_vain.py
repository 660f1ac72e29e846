"""Settings that have no effect in a run: said, and not ignored."""

from __future__ import annotations

from engine.optim.schedules import warmup_steps
from engine.recipe import Average, EarlyStopping, Recipe, Training


def in_vain(recipe: Recipe, steps: int) -> list[str]:
    """A line for each setting that a run of the recipe, `steps` an epoch, does not come to. Raises RecipeError."""
    training = recipe.training
    average, stopping, epochs = training.average, training.early_stopping, training.epochs
    lines = {
        "training.average: no weights are averaged. Set its kind.": average.kind == "none" and average != Average(),
        f"training.average.start: the run ends with epoch {epochs}, so there are no averaged weights": (
            average.kind == "swa" and average.start >= epochs
        ),
        "training.early_stopping: it is off. Set its patience.": not stopping.patience and stopping != EarlyStopping(),
        "training.nan_lr_factor: only on_nan = 'rollback' lowers the rate": (
            training.on_nan != "rollback" and training.nan_lr_factor != Training().nan_lr_factor
        ),
        f"optimizer.warmup: the run ends with step {epochs * steps}, before the rate has risen": (
            warmup_steps(recipe, steps) > epochs * steps
        ),
    }
    return [line for line, said in lines.items() if said]
