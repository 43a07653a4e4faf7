"""Random torch models: chains, residuals, concatenations, depthwise and dilated convolutions."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from weft.host import frontend
from weft.host.ir import Concat, Conv

from .torch_models import compare_layers, export

torch.set_num_threads(1)

ACTIVATIONS = {
    "none": nn.Identity, "relu": nn.ReLU, "relu6": nn.ReLU6, "tanh": nn.Hardtanh, "gelu": nn.GELU,
    "silu": nn.SiLU,
}  # fmt: skip


class Step(nn.Module):
    """A convolution and an activation, perhaps joined with an earlier map."""

    def __init__(self, inputs: int, draw):
        super().__init__()
        kind = draw(st.sampled_from(["plain", "plain", "depthwise", "grouped"]))
        groups = {"plain": 1, "depthwise": inputs, "grouped": 2 if inputs % 2 == 0 else 1}[kind]
        self.join = draw(st.sampled_from(["none", "none", "add", "cat", "cat first"]))
        outputs = inputs if self.join == "add" or groups > 1 else draw(st.integers(1, 6))
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (3, 1), (2, 3)]))
        stride = 1 if self.join != "none" else draw(st.integers(1, 2))
        dilation = draw(st.sampled_from([1, 1, 2]))
        same = self.join != "none" or draw(st.booleans())
        self.crop = tuple((k + 1) % 2 * dilation * same for k in kernel)  # even kernels grow
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, dilation=dilation, groups=groups,
            padding=tuple(dilation * (k // 2) * same for k in kernel), bias=draw(st.booleans()),
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(outputs) if draw(st.booleans()) else nn.Identity()
        self.act = ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]()
        self.act_last = draw(st.booleans())
        self.channels = outputs + (inputs if self.join.startswith("cat") else 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        if self.join != "none":
            y = y[:, :, : x.shape[2], : x.shape[3]] if any(self.crop) else y
        if not self.act_last:
            y = self.act(y)
        if self.join == "add":
            y = y + x
        elif self.join == "cat":
            y = torch.cat([y, x], 1)
        elif self.join == "cat first":
            y = torch.cat([x, y], 1)
        return self.act(y) if self.act_last else y


HEADS = {
    "none": nn.Identity,
    "max": lambda: nn.MaxPool2d(2, 1),
    "avg": lambda: nn.AvgPool2d(2, 1),
    "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(2)),
}


@settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.data(), st.integers(0, 2**31), st.booleans())
def test_random_models(data, seed: int, asymmetric: bool) -> None:
    torch.manual_seed(seed)
    channels = first = data.draw(st.integers(1, 4))
    steps = []
    for _ in range(data.draw(st.integers(1, 4))):
        step = Step(channels, data.draw)
        steps.append(step)
        channels = step.channels
    head = HEADS[data.draw(st.sampled_from(sorted(HEADS)))]()
    model = nn.Sequential(*steps, head)
    x = torch.randn(4, first, 24, 23)
    with torch.no_grad():
        model.train()(x)  # statistics of the norms
        model(x)
    made = frontend.simulate(
        export(model, x), x, name="m", asymmetric=asymmetric, multiplier_bits=24
    )
    assert compare_layers(made, x[:2]) > 0
    nodes = made.graph.nodes
    assert sum(isinstance(node, Conv) for node in nodes) >= len(steps)
    joins = sum(step.join.startswith("cat") for step in steps)
    assert sum(isinstance(node, Concat) for node in nodes) == joins
