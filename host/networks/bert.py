"""An encoder layer of BERT-base."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

HEADS = 12


class EncoderLayer(nn.Module):
    """Self-attention of 12 heads and a feed-forward network four times as wide, norms behind.

    For sequences of 128 embedded tokens of 768 features. Source: Devlin et al., BERT: Pre-training
    of Deep Bidirectional Transformers for Language Understanding, 2019.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        width = shape[1]
        self.query, self.key, self.value, self.project = (nn.Linear(width, width) for _ in range(4))
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.widen = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU()
        self.narrow = nn.Linear(4 * width, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        """[N, tokens, width]."""
        query, key, value = (
            layer(x).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        context = functional.scaled_dot_product_attention(query, key, value)
        x = self.attention_norm(x + self.project(context.transpose(1, 2).flatten(2)))
        return self.output_norm(x + self.narrow(self.gelu(self.widen(x))))
