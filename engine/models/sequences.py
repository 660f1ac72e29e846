"""Recurrent and attention layers that take one tensor and give one, like any other layer.

They are torch's own, with torch's parameters and state_dict; what is added is which of their outputs goes on, and that
the padding of sequences takes no part where a `padding_idx` above says what it is.
"""

# B batch · T time · C width · D directions (2 if bidirectional) · H width of the hidden state

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Returns = Literal["sequence", "last", "mean"]
_RETURNS = """

    Args:
        returns: the whole ``sequence`` of outputs, the ``last`` one (of both directions, where there are two), or their
            ``mean``
"""


class _Recurrent(nn.RNNBase):
    takes_lengths = True
    returns: Returns
    torchs: Callable[..., Any]  # forward of the class of torch: torch.compile stumbles over super() here

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, C) → (B, T, D·H), or (B, D·H) for `last` and `mean`."""
        if lengths is None:
            sequence, state = self.torchs(inputs)
        else:
            # The one place where lengths leave the device: cuDNN wants them on the host.
            packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
            padded, state = self.torchs(packed)
            sequence, _ = pad_packed_sequence(padded, batch_first=True, total_length=inputs.shape[1])
        if self.returns == "sequence":
            return sequence  # type: ignore[no-any-return]
        if self.returns == "mean":
            return mean_over_time(sequence, lengths)
        hidden = state[0] if isinstance(state, tuple) else state  # (layers·D, B, H), an LSTM's cell state beside it
        directions = 2 if self.bidirectional else 1
        return hidden[-directions:].transpose(0, 1).flatten(1)  # type: ignore[no-any-return]


class RNN(_Recurrent, nn.RNN):  # type: ignore[misc]
    __doc__ = f"{nn.RNN.__doc__}{_RETURNS}"
    torchs = nn.RNN.forward

    def __init__(self, *args: Any, returns: Returns = "sequence", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.returns = returns


class LSTM(_Recurrent, nn.LSTM):  # type: ignore[misc]
    __doc__ = f"{nn.LSTM.__doc__}{_RETURNS}"
    torchs = nn.LSTM.forward

    def __init__(self, *args: Any, returns: Returns = "sequence", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.returns = returns


class GRU(_Recurrent, nn.GRU):  # type: ignore[misc]
    __doc__ = f"{nn.GRU.__doc__}{_RETURNS}"
    torchs = nn.GRU.forward

    def __init__(self, *args: Any, returns: Returns = "sequence", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.returns = returns


class MultiheadAttention(nn.MultiheadAttention):
    __doc__ = nn.MultiheadAttention.__doc__
    takes_lengths = True

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Self-attention: (B, T, C) → (B, T, C). Padding is not attended to."""
        mask = padding_mask(inputs, lengths)
        return super().forward(inputs, inputs, inputs, key_padding_mask=mask, need_weights=False)[0]


class TransformerEncoderLayer(nn.TransformerEncoderLayer):
    __doc__ = nn.TransformerEncoderLayer.__doc__
    takes_lengths = True

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(B, T, C) → (B, T, C). Padding is not attended to."""
        return super().forward(inputs, src_key_padding_mask=padding_mask(inputs, lengths))


class TransformerEncoder(nn.TransformerEncoder):
    """A stack of identical encoder layers (Vaswani et al., Attention Is All You Need, 2017).

    Args:
        d_model: width of the vectors that come in and go out
        nhead: heads of the attention; they share d_model among them
        num_layers: encoder layers on top of each other
        dim_feedforward: width of the feedforward network in each layer
        dropout: share of the activations that each layer sets to zero while it learns
        activation: `relu` or `gelu`, between the two halves of the feedforward network
        layer_norm_eps: added to the variance in layer normalisation
        norm_first: normalise before attention and feedforward instead of after, which learns without a warm-up
        bias: whether Linear and LayerNorm learn an additive bias
    """

    takes_lengths = True

    def __init__(
        self,
        d_model: int,
        nhead: int,
        num_layers: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Literal["relu", "gelu"] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias
        )
        super().__init__(layer, num_layers, enable_nested_tensor=False)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(B, T, C) → (B, T, C). Padding is not attended to."""
        return super().forward(inputs, src_key_padding_mask=padding_mask(inputs, lengths))


class PositionalEncoding(nn.Module):
    """Adds to each step of a sequence what tells its place (Vaswani et al., Attention Is All You Need, 2017, §3.5).

    Args:
        d_model: width of the vectors
        length: the most steps that a sequence has
        kind: `sinusoidal` adds the paper's sines and cosines, `learned` a vector for each place that is learned
        dropout: share of the sums that is set to zero while it learns
    """

    def __init__(
        self, d_model: int, length: int, kind: Literal["sinusoidal", "learned"] = "sinusoidal", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        if kind == "learned":
            self.places = nn.Parameter(torch.randn(length, d_model) * 0.02)  # as BERT and GPT-2 begin
        else:
            # Not in the state_dict: it follows from the settings.
            self.register_buffer("places", sinusoids(length, d_model), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        return self.dropout(inputs + self.places[: inputs.shape[1]])  # type: ignore[no-any-return]


class SequencePool(nn.Module):
    """One vector for a whole sequence.

    Args:
        keep: the `mean` of the steps, the greatest of each feature (`max`), or the `first` or `last` step
    """

    takes_lengths = True

    def __init__(self, keep: Literal["mean", "max", "first", "last"] = "mean") -> None:
        super().__init__()
        self.keep = keep

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, C) → (B, C). Padding takes no part."""
        if inputs.ndim != 3:
            raise ValueError(f"expected sequences (steps × features), got {inputs.ndim - 1} dimensions a sample")
        if self.keep == "first":
            return inputs[:, 0]
        if self.keep == "mean":
            return mean_over_time(inputs, lengths)
        if self.keep == "max":
            mask = padding_mask(inputs, lengths)
            return (inputs if mask is None else inputs.masked_fill(mask.unsqueeze(-1), -math.inf)).amax(1)
        if lengths is None:
            return inputs[:, -1]
        return inputs[torch.arange(len(inputs), device=inputs.device), lengths - 1]


class Permute(nn.Module):
    """Changes the order of a sample's dimensions.

    Args:
        dims: the dimensions of the input in their new order, counted from 0 without the batch: `[1, 0]` makes
            sequences (steps × channels) of series (channels × steps)
    """

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        if sorted(dims) != list(range(len(dims))):
            raise ValueError(f"dims must have each of {', '.join(map(str, range(len(dims))))} once")
        self.dims = dims

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) → (B, …), the dimensions after the first in another order."""
        return inputs.permute(0, *(dim + 1 for dim in self.dims))


def mean_over_time(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, T, C) → (B, C): the mean of the steps that are no padding."""
    mask = padding_mask(sequence, lengths)
    if mask is None or lengths is None:
        return sequence.mean(1)
    return sequence.masked_fill(mask.unsqueeze(-1), 0).sum(1) / lengths.unsqueeze(-1)


def padding_mask(inputs: Tensor, lengths: Tensor | None) -> Tensor | None:
    """(B, T), true where a step is padding; None where the lengths are unknown."""
    if lengths is None:
        return None
    return torch.arange(inputs.shape[1], device=inputs.device) >= lengths.unsqueeze(1)


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width): sin(t / 10000^(2i/width)) in the even places, the cosine in the odd ones."""
    angles = torch.arange(length).unsqueeze(1) * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :width]
