"""Blocks of real models: attention, concatenation, gates, and whatever goes to the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from weft.host import frontend, interpreter
from weft.host.ir import MatMul
from weft.host.views import canonical

from .torch_models import Function, compare_layers, conv, export, kinds, trained_norm

torch.set_num_threads(1)


class Attention(nn.Module):
    """Self-attention spelled out, scores scaled and dropped out as training code has it."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
        self.norm = nn.LayerNorm(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.view(batch, tokens, 4, 8).permute(0, 2, 1, 3)

        scores = torch.matmul(split(self.q(x)), split(self.k(x)).transpose(-1, -2)) / 8**0.5
        scores = F.dropout(F.softmax(scores, dim=-1), 0.1, self.training)
        context = torch.matmul(scores, split(self.v(x))).permute(0, 2, 1, 3).contiguous()
        return self.norm(self.o(context.view(batch, tokens, width)) + x)


class Vision(nn.Module):
    """A vision transformer of one layer, with a class token and learned positions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.positions = nn.Parameter(torch.randn(1, 5, 32) * 0.1)
        self.layer = nn.TransformerEncoderLayer(
            32, 4, 64, batch_first=True, activation="gelu", norm_first=True
        )
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.layer(x)[:, 0])


class Window(nn.Module):
    """Attention within windows of a map."""

    def __init__(self):
        super().__init__()
        self.qkv, self.project = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).view(b, h // 4, 4, w // 4, 4, c).transpose(2, 3)
        q, k, v = self.qkv(x.reshape(-1, 16, c)).reshape(-1, 16, 3, 4, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 16, c)
        y = self.project(y).view(b, h // 4, w // 4, 4, 4, c).transpose(2, 3).reshape(b, h, w, c)
        return y.permute(0, 3, 1, 2)


def dense_block() -> nn.Module:
    def forward(m, x):
        features = [x]
        for layer in m.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)

    layers = [
        nn.Sequential(trained_norm(4 + 4 * i), nn.ReLU(), conv(4 + 4 * i, 4, 3, padding=1))
        for i in range(3)
    ]
    return Function(forward, layers=nn.ModuleList(layers))


def fire(m, x):
    x = F.relu(m.s(x))
    return torch.cat([F.relu(m.a(x)), F.relu(m.b(x))], 1)


def gate(m, x):
    y = F.hardswish(m.c(x))
    z = F.relu(m.a(F.adaptive_avg_pool2d(y, 1)))
    return m.o(y * torch.sigmoid(m.b(z)))


def shuffle(m, x):
    a, b = m.c(x).chunk(2, 1)
    y = torch.cat([a, m.d(b)], 1)
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def up(m, x):
    a = F.relu(m.a(x))
    b = F.relu(m.b(a))
    wide = F.interpolate(b, scale_factor=2, mode="bilinear")
    return m.o(torch.cat([a, m.t(b), F.interpolate(b, scale_factor=2), wide], 1))


def convnext(m, x):
    y = m.d(x).permute(0, 2, 3, 1)
    y = m.q(F.gelu(m.p(m.n(y)))) * m.n.weight
    return x + y.permute(0, 3, 1, 2)


def masked(_, x):
    mask = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1) > 0, -5.0)
    return F.softmax(x @ x.transpose(1, 2) + mask, -1) @ x


def causal(_, x):
    y = x.unflatten(2, (2, 4)).transpose(1, 2)
    return F.scaled_dot_product_attention(y, y, y, is_causal=True).transpose(1, 2).flatten(2)


def hidden(_, x):
    mask = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).tril(-2) > 0, -1e9)
    return F.softmax(x @ x.transpose(1, 2) + mask, -1) @ x


def chosen(_, x):
    return F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(5) + torch.ones(1, 5) > 1)


def on(function, *sizes: int, size: int = 5):
    """A function of the result of a 1×1 convolution."""
    channels, *_ = sizes or (4,)
    return lambda: Function(lambda m, x: function(m.c(x)), c=conv(3, channels, 1)), (3, size, size)


def mish(y):
    return y * torch.tanh(F.softplus(y))


#: name: (model, input shape, kinds of the IR nodes in order)
MODELS: dict[str, tuple] = {
    "attention": (
        Attention, (6, 32),
        "linear linear matmul host:softmax linear matmul linear host:layer_norm",
    ),
    "packed attention": (
        lambda: Function(
            lambda m, x: x + m.a(x, x, x, need_weights=False)[0],
            a=nn.MultiheadAttention(32, 4, batch_first=True),
        ), (6, 32), "linear linear matmul host:softmax linear matmul linear conv",
    ),
    "vision transformer": (
        Vision, (3, 8, 8),
        "conv host:aten.cat.default host:add host:layer_norm linear linear matmul host:softmax "
        "linear matmul linear conv host:layer_norm linear table:gelu linear host:gather linear",
    ),
    "windows": (
        Window, (16, 8, 8),
        "host:gather linear host:gather host:gather matmul host:softmax host:gather matmul "
        "host:gather linear host:gather host:gather",
    ),
    "mask": (lambda: Function(masked), (5, 8), "matmul host:add host:softmax matmul"),
    "causal": (lambda: Function(causal), (5, 8), "matmul host:softmax matmul"),
    "hidden scores": (lambda: Function(hidden), (5, 8), "matmul host:softmax matmul"),
    "chosen scores": (lambda: Function(chosen), (5, 8), "matmul host:softmax matmul"),
    "fire": (
        lambda: Function(fire, s=conv(4, 3, 1), a=conv(3, 5, 1), b=conv(3, 6, 3, padding=1)),
        (4, 6, 6), "conv conv conv concat",
    ),
    "dense": (dense_block, (4, 6, 6), "conv conv concat conv conv concat conv conv concat"),
    "gate": (
        lambda: Function(
            gate, c=conv(4, 8, 3), a=conv(8, 2, 1), b=conv(2, 8, 1), o=conv(8, 4, 1)
        ), (4, 6, 6), "conv table:hardswish avg conv conv table:sigmoid host:mul conv",
    ),
    "channel shuffle": (
        lambda: Function(shuffle, c=conv(4, 8, 3, padding=1), d=conv(4, 4, 1)), (4, 6, 6),
        "conv conv conv concat host:gather",
    ),
    "upsampling": (
        lambda: Function(
            up, a=conv(3, 8, 3, padding=1), b=conv(8, 8, 3, padding=1, stride=2),
            t=nn.ConvTranspose2d(8, 8, 2, 2), o=conv(32, 3, 1),
        ), (3, 8, 8),
        "conv conv host:aten.upsample_bilinear2d.vec host:aten.conv_transpose2d.input "
        "host:gather concat conv",
    ),
    "convnext": (
        lambda: Function(
            convnext, d=conv(8, 8, 7, padding=3, groups=8), n=nn.LayerNorm(8), p=nn.Linear(8, 32),
            q=nn.Linear(32, 8),
        ), (8, 8, 8), "conv host:layer_norm linear table:gelu linear host:mul conv",
    ),
    "flatten then add": (
        lambda: Function(
            lambda m, x: torch.flatten(m.c(x), 1) + m.l(torch.flatten(x, 1)), c=conv(2, 3, 3),
            l=nn.Linear(72, 48),
        ), (2, 6, 6), "conv host:gather linear",
    ),
    "flatten last": (
        lambda: nn.Sequential(conv(2, 3, 3), nn.Flatten()), (2, 6, 6), "conv host:gather"
    ),
    "zeros then convolution": (
        lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv(3, 4, 3, stride=2)), (3, 8, 8),
        "conv",
    ),
    "zeros": (
        lambda: nn.Sequential(conv(3, 4, 3), nn.ZeroPad2d((0, 1, 2, 1)), nn.ReLU()), (3, 8, 8),
        "conv host:gather avg",
    ),
    "reflection": (
        lambda: nn.Sequential(nn.ReflectionPad2d(1), conv(3, 4, 3)), (3, 8, 8), "host:gather conv"
    ),
    "arithmetic": (*on(lambda y: y * y.sum(1, keepdim=True) - y), "conv host:aten.sum.dim_IntList "
        "host:mul host:sub"),
    "linear function": (*on(lambda y: (y * 2 + 1) / 3), "conv conv"),
    "falling function": (*on(lambda y: 1 - torch.relu(y)), "conv conv"),
    "mish": (*on(mish), "conv table:softplus+tanh+mul"),
    "piecewise": (*on(lambda y: torch.where(y > 0, y, 0.1 * y)), "conv table:gt+mul+where"),
    "gelu silu": (*on(lambda y: F.silu(F.gelu(y))), "conv table:gelu+silu"),
    "prelu": (
        lambda: nn.Sequential(conv(3, 4, 1), nn.PReLU(4)), (3, 5, 5), "conv host:aten.prelu.default"
    ),
    "norms": (
        lambda: nn.Sequential(nn.InstanceNorm2d(4), nn.GroupNorm(2, 4)), (4, 5, 5),
        "host:aten.instance_norm.default host:aten.group_norm.default",
    ),
    "layer norm of two axes": (
        lambda: nn.LayerNorm([4, 5]), (4, 5), "host:aten.layer_norm.default"
    ),
    "rms norm": (lambda: nn.RMSNorm(8), (5, 8), "host:aten.rms_norm.default"),
    "response norm": (
        lambda: nn.LocalResponseNorm(3), (8, 5, 5),
        "table:mul host:gather host:aten.avg_pool3d.default table:mul+add+pow host:div",
    ),
    "sequence": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(4, 4, 3, groups=4), nn.AvgPool1d(2, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        ), (3, 16), "host:gather conv max conv avg avg",
    ),
    "mean of tokens": (
        lambda: Function(lambda m, x: m.l(m.l(x).mean(1)), l=nn.Linear(8, 8)), (5, 8),
        "linear avg linear",
    ),
    "mean kept": (
        lambda: Function(lambda m, x: m.l(x) - m.l(x).mean(1, keepdim=True), l=nn.Linear(4, 4)),
        (3, 4), "linear linear avg host:sub",
    ),
    "softmax of channels": (*on(lambda y: F.softmax(y, 1)), "conv host:softmax"),
    "softmax of columns": (*on(lambda y: F.softmax(y, 2)), "conv host:gather host:softmax "
        "host:gather"),
    "broadcast": (
        *on(lambda y: y + y.mean((2, 3), keepdim=True)), "conv avg host:add"
    ),
    "norm of a vector": (
        lambda: nn.Sequential(nn.ReLU(), trained_norm(6, nn.BatchNorm1d)), (6,), "avg conv"
    ),
    "matrix": (
        lambda: Function(lambda m, x: torch.tanh(x) @ m.l.weight, l=nn.Linear(5, 7)), (4, 7),
        "table:tanh linear",
    ),
    "addmm": (
        lambda: Function(lambda m, x: torch.addmm(m.l.bias, x, m.l.weight.t()), l=nn.Linear(5, 7)),
        (5,), "linear",
    ),
    "glu": (*on(lambda y: F.glu(y, 1), 8), "conv host:aten.glu.default"),
    "pixel shuffle": (*on(nn.PixelShuffle(2), 8), "conv host:gather"),
    "resize": (*on(lambda y: F.interpolate(y, size=(7, 9))), "conv host:gather"),
    "large average": (lambda: nn.AvgPool2d(20), (2, 20, 20), "avg"),
    "average without padding": (
        lambda: nn.AvgPool2d(3, padding=1, count_include_pad=False), (2, 9, 9),
        "host:aten.avg_pool2d.default",
    ),
    "average beyond": (
        lambda: nn.AvgPool2d(3, 2, ceil_mode=True), (2, 8, 8), "host:aten.avg_pool2d.default"
    ),
    "uneven average": (
        lambda: nn.AdaptiveAvgPool2d(5), (2, 8, 8), "host:aten.adaptive_avg_pool2d.default"
    ),
    "dilated pool": (
        lambda: nn.MaxPool2d(2, 1, dilation=2), (2, 8, 8), "host:aten.max_pool2d.default"
    ),
    "transposed sum": (*on(lambda y: y.transpose(2, 3) + y), "conv host:gather conv"),
    "weighted sum": (
        *on(lambda y: torch.add(y, torch.relu(y), alpha=2)), "conv table:clamp+mul+add"
    ),
    "one token": (
        lambda: Function(lambda m, x: m.l(m.l(x)[:, 0]), l=nn.Linear(8, 8)), (5, 8),
        "linear host:gather linear",
    ),
    "stack": (
        lambda: Function(
            lambda m, x: m.b(torch.stack([m.a(x), x], 2).flatten(1, 2)), a=conv(3, 3, 1),
            b=conv(6, 2, 1),
        ), (3, 5, 5), "conv host:cat host:gather conv",
    ),
    "squeezed": (
        lambda: Function(lambda m, x: m.c(x).squeeze(), c=conv(3, 4, 5)), (3, 5, 5), "conv"
    ),
    "pool of a vector": (lambda: nn.AvgPool1d(2), (12,), "host:aten.avg_pool1d.default"),
    "maps without channels": (lambda: nn.MaxPool2d(2), (6, 6), "host:aten.max_pool2d.default"),
    "bmm": (
        lambda: Function(lambda _, x: torch.bmm(x, x.transpose(1, 2))), (5, 8), "matmul",
    ),
    "addmm with a factor": (
        lambda: Function(lambda m, x: torch.addmm(m.l.bias, x, m.l.weight.t(), beta=2),
                         l=nn.Linear(5, 7)), (5,), "host:aten.addmm.default",
    ),
    "number with a factor": (*on(lambda y: torch.add(y, 1.5, alpha=2)), "conv host:add"),
    "factor first": (*on(lambda y: torch.ops.aten.mul.Tensor(2.0, y)), "conv"),
    "real mask": (
        lambda: Function(lambda _, x: F.scaled_dot_product_attention(
            x, x, x, attn_mask=torch.eye(5) * -1e9)), (5, 8), "matmul host:softmax matmul",
    ),
    "constant by activations": (
        lambda: Function(lambda m, x: m.l.weight @ torch.relu(x), l=nn.Linear(5, 7)), (5, 8),
        "avg host:aten.matmul.default",
    ),
    "heads that share": (
        lambda: Function(lambda _, x: x.unflatten(2, (2, 4)).transpose(1, 2)
                         @ x[:, :, :4].transpose(1, 2).unsqueeze(1)), (5, 8),
        "host:aten.matmul.default",
    ),
    "mask for each query": (
        lambda: Function(lambda _, x: F.softmax(
            x.mean(2, keepdim=True) + torch.eye(5) * -1e9, -1)), (5, 8),
        "host:gather avg host:add host:softmax",
    ),
    "scores added": (
        lambda: Function(lambda m, x: F.softmax(m.a(x) + m.b(x), -1), a=nn.Linear(8, 8),
                         b=nn.Linear(8, 8)), (5, 8), "linear linear host:softmax",
    ),
    "mean of channels": (*on(lambda y: y.mean(1, keepdim=True)), "conv host:aten.mean.dim"),
    "mean of a pixel": (*on(lambda y: y.mean((2, 3), keepdim=True), size=1), "conv"),
    "mean of pixels, channels last": (
        lambda: Function(lambda m, x: m.l(m.c(x).permute(0, 2, 3, 1)).mean((1, 2), keepdim=True),
                         c=conv(3, 4, 1), l=nn.Linear(4, 6)), (3, 5, 5),
        "conv linear avg host:gather",
    ),
    "replication of a sequence": (
        lambda: Function(lambda _, x: F.pad(x, (1, 2), mode="replicate")), (4, 7),
        "host:aten.pad.default",
    ),
    "padding with ones": (
        *on(lambda y: F.pad(y, (1, 1), value=1.0)), "conv host:aten.constant_pad_nd.default",
    ),
    "cropping by padding": (*on(lambda y: F.pad(y, (-1, 0, 0, -1))), "conv host:gather"),
    "padding of channels": (*on(lambda y: F.pad(y, (0, 0, 0, 0, 1, 0))), "conv host:gather"),
    "doubled": (*on(lambda y: y + y), "conv conv"),
    "linear of columns": (
        lambda: Function(lambda m, x: m.l(x.transpose(1, 2)), l=nn.Linear(8, 5)), (8, 8),
        "host:gather linear",
    ),
    "linear between tokens": (
        lambda: Function(lambda m, x: m.l(x.flatten(1)[:, 4:36].unflatten(1, (4, 8))),
                         l=nn.Linear(8, 5)), (5, 8), "host:gather linear",
    ),
    "vector for each column": (
        lambda: Function(lambda m, x: m.c(x) + m.l.bias, c=conv(3, 4, 1), l=nn.Linear(2, 5)),
        (3, 5, 5), "conv host:add",
    ),
    "part of the tokens": (
        lambda: Function(lambda m, x: torch.cumsum(m.l(x)[:, 1:], 2), l=nn.Linear(8, 8)), (5, 8),
        "linear host:aten.cumsum.default",
    ),
    "half precision": (
        *on(lambda y: y.half().float()), "conv host:aten.to.dtype host:aten.to.dtype",
    ),
    "last axes joined": (*on(lambda y: y.view(y.size(0), 4, -1)), "conv host:gather"),
    "parametrized": (
        lambda: nn.utils.parametrizations.weight_norm(conv(3, 8, 1)), (3, 5, 5), "conv"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_block(name: str) -> None:
    make, size, want = MODELS[name]
    torch.manual_seed(len(name))
    model = make().eval()
    x = torch.randn(8, *size)
    asymmetric = len(name) % 2 == 0
    made = frontend.simulate(export(model, x), x, name="m", asymmetric=asymmetric)
    graph = made.graph
    assert kinds(graph) == want
    assert compare_layers(made, x) > 0
    for node in graph.nodes:
        if isinstance(node, MatMul):
            operands = graph.tensors[node.input], graph.tensors[node.other]
            assert [tensor.zero_point for tensor in operands] == [0, 0]

    levels = interpreter.run(graph, interpreter.quantize_input(graph, x.numpy()))
    with torch.no_grad():
        real = torch.stack([model(image) for image in x.split(1)]).numpy()
    got = interpreter.dequantize(graph, graph.output, levels)
    size = real.shape[1:]
    got = canonical(size if size[0] == 1 else (1, *size))[1].read(got).reshape(real.shape)
    assert np.sqrt(((got - real) ** 2).mean()) < 0.06 * real.std()


def test_a_clamp_behind_a_layer_is_not_part_of_a_function() -> None:
    model = Function(lambda m, x: torch.sigmoid(torch.relu(m.c(x))), c=conv(3, 4, 1))
    x = torch.randn(4, 3, 5, 5)
    graph = frontend.quantize(model, x, name="m")
    assert kinds(graph) == "conv table:sigmoid"
    assert graph.nodes[0].requant.low == 0
