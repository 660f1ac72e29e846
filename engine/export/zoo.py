"""A model of torchvision's zoo as Python: for the data's classes, channels and size, as engine.models.zoo."""

from __future__ import annotations

import re

from torchvision.models import VisionTransformer

from engine.code import block, call, literal
from engine.data.prepare import Facts
from engine.models.rows import count_parameters
from engine.models.zoo.building import COLOURS, ZooPlan, first_convolution


def zoo_code(plan: ZooPlan, facts: Facts) -> tuple[str, ...]:
    """The function `make_model`."""
    about = f"{type(plan.twin).__name__} of torchvision, {count_parameters(plan.twin):,} parameters."
    made = call(f"models.{plan.zoo.name}", [f"{name}={literal(value)}" for name, value in plan.options.items()])
    more = [*_channels(plan, facts), *_weights(plan, facts)]
    body = [f"model = {made}", *more, "return model"] if more else [f"return {made}"]
    return ("def make_model() -> nn.Module:", *block([f'"""{about}"""', *body]))


def _channels(plan: ZooPlan, facts: Facts) -> list[str]:
    """The lines that replace the first convolution where the data's channels are not red, green and blue."""
    if facts.shape[0] == COLOURS:
        return []
    name, first = first_convolution(plan.twin)
    place = re.sub(r"\.(\d+)", r"[\1]", f".{name}")
    return [f"# torchvision's own takes {COLOURS} channels.", f"model{place} = nn.{first!r}"]


def _weights(plan: ZooPlan, facts: Facts) -> list[str]:
    """The lines that put pretrained weights everywhere but into the head."""
    weights, twin = plan.weights, plan.twin
    if weights is None:
        return []
    written = [f"weights={literal(weights.name)}"]
    if plan.options.get("aux_logits"):  # of none torchvision does not want to hear beside weights
        written.append("aux_logits=True")
    lines = [
        f"# Trained on {weights.dataset or 'other pictures'}, {weights.megabytes:.0f} MB, which are downloaded once.",
        f"weights = {call(f'models.{plan.zoo.name}', written)}.state_dict()",
    ]
    if facts.shape[0] != COLOURS:
        first = literal(f"{first_convolution(twin)[0]}.weight")
        lines.append("# As if grey pictures came three times, in red, green and blue.")
        lines.append(f"weights[{first}] = weights[{first}].sum(1, keepdim=True)")
    if isinstance(twin, VisionTransformer):
        lines.append(f"weights = interpolate_embeddings({twin.image_size}, {twin.patch_size}, weights)")
    head = tuple(dict.fromkeys(f"{name.rpartition('.')[0]}." for name in sorted(plan.head)))
    outside = literal(head if head[1:] else head[0])
    lines += [
        "state = model.state_dict()  # of which the head keeps what was drawn for it",
        "for name, value in weights.items():",
        f"    if name in state and not name.startswith({outside}):",
        "        state[name] = value",
        "model.load_state_dict(state)",
    ]
    return lines
