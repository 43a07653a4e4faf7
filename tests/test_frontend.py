"""Torch models to the integer IR: every operator, every refusal, and LeNet-5's accuracy.

Each layer is compared with torch's converted graph on the same INT8 inputs: that graph computes in
floating point, so the two may differ by one level.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from weft.host import datasets, frontend, interpreter
from weft.host.errors import ModelError, UnsupportedOperator
from weft.host.ir import Conv, Residual
from weft.host.models import lenet5

from .torch_models import Function, compare_layers, conv, export, kinds, trained_norm

torch.set_num_threads(1)


def residual_block() -> nn.Module:
    def forward(m, x):
        y = F.relu(m.n1(m.c1(x)), inplace=True)
        y = m.n2(m.c2(y))
        y += m.down(x)
        return F.relu(y, inplace=True)

    return Function(
        forward,
        c1=conv(4, 8, 3, stride=2, padding=1, bias=False), n1=trained_norm(8),
        c2=conv(8, 8, 3, padding=1, bias=False), n2=trained_norm(8),
        down=nn.Sequential(conv(4, 8, 1, stride=2, bias=False), trained_norm(8)),
    )  # fmt: skip


def bare_add(m, x):
    a = torch.relu(m.c1(x))
    b = F.max_pool2d(m.c2(x), 3, 1, 1)
    return m.c3(torch.relu(a + b) + b)


def spelled_silu(y):
    return y * torch.sigmoid(1.7 * y)


def flatten_by(view) -> nn.Module:
    return Function(lambda m, x: m.f(view(m.c(x))), c=conv(4, 3, 3), f=nn.Linear(300, 5))


#: name: (model, input shape, kinds of the IR nodes in order)
MODELS: dict[str, tuple] = {
    "conv": (lambda: conv(4, 6, 3), (4, 9, 8), "conv"),
    "conv stride dilation": (
        lambda: conv(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(2, 3)), (4, 12, 12),
        "conv",
    ),
    "conv groups": (lambda: conv(4, 8, 3, groups=2, padding=1), (4, 6, 6), "conv"),
    "depthwise": (lambda: conv(4, 4, 3, groups=4, padding="same"), (4, 6, 6), "conv"),
    "conv valid": (lambda: conv(4, 4, 3, padding="valid", bias=False), (4, 6, 6), "conv"),
    "relu": (lambda: nn.Sequential(conv(4, 6, 3), nn.ReLU()), (4, 9, 8), "conv"),
    "relu6": (
        lambda: nn.Sequential(conv(4, 6, 3), nn.ReLU6(inplace=True), conv(6, 4, 1)), (4, 9, 8),
        "conv conv",
    ),
    "hardtanh clamp": (
        lambda: Function(
            lambda m, x: m.h(torch.clamp(m.c(x), max=0.25).clamp_min(-0.5)), c=conv(4, 6, 3),
            h=nn.Hardtanh(),
        ), (4, 9, 8), "conv",
    ),
    "linear": (
        lambda: nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5, bias=False)), (20,),
        "linear linear",
    ),
    "linear norm": (
        lambda: nn.Sequential(nn.Linear(20, 16), trained_norm(16, nn.BatchNorm1d), nn.ReLU()),
        (20,), "linear",
    ),
    "max pool": (
        lambda: nn.Sequential(conv(4, 6, 3), nn.MaxPool2d(3, 2, padding=1)), (4, 9, 10), "conv max",
    ),
    "max pool ceil": (
        lambda: nn.Sequential(conv(4, 6, 3), nn.MaxPool2d(3, 2, ceil_mode=True)), (4, 10, 9),
        "conv max",
    ),
    "max pool ceil within padding": (
        lambda: nn.MaxPool2d(2, 3, padding=1, ceil_mode=True), (4, 4, 6), "max",
    ),
    "pool then relu": (
        lambda: Function(
            lambda m, x: m.d(F.relu(F.max_pool2d(m.d(m.c(x)), 2))), c=conv(4, 6, 3),
            d=nn.Dropout2d(),
        ), (4, 10, 10), "conv max",
    ),
    "average pool": (
        lambda: nn.Sequential(conv(4, 6, 3), nn.ReLU(), nn.AvgPool2d(2)), (4, 10, 8), "conv avg",
    ),
    "average pool padded": (
        lambda: nn.Sequential(nn.AvgPool2d(3, 2, padding=1), nn.ReLU()), (4, 9, 9), "avg",
    ),
    "average pool divisor": (
        lambda: nn.AvgPool2d(2, divisor_override=3, ceil_mode=True), (4, 8, 8), "avg",
    ),
    "global average": (
        lambda: nn.Sequential(
            conv(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 3)
        ), (4, 9, 8), "conv avg linear",
    ),
    "mean": (
        lambda: Function(lambda m, x: m.f(m.c(x).mean((2, 3))), c=conv(4, 6, 3), f=nn.Linear(6, 3)),
        (4, 9, 8), "conv avg linear",
    ),
    "mean keepdim": (
        lambda: Function(
            lambda m, x: m.f(m.c(x).mean((-1, -2), keepdim=True)), c=conv(4, 6, 3), f=conv(6, 3, 1)
        ), (4, 9, 8), "conv avg conv",
    ),
    "adaptive": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), nn.AdaptiveAvgPool2d((3, 2))),
        (4, 9, 8), "avg",
    ),
    "flatten": (lambda: flatten_by(lambda y: torch.flatten(y, 1)), (4, 12, 12), "conv linear"),
    "view": (lambda: flatten_by(lambda y: y.view(y.size(0), -1)), (4, 12, 12), "conv linear"),
    "reshape": (lambda: flatten_by(lambda y: y.reshape(-1, 300)), (4, 12, 12), "conv linear"),
    "flatten then relu": (
        lambda: flatten_by(lambda y: torch.relu(torch.flatten(y, 1))), (4, 12, 12), "conv linear",
    ),
    "flatten the input": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 7)), (3, 4, 4), "linear",
    ),
    "residual": (residual_block, (4, 10, 10), "conv conv conv"),
    "bare add": (
        lambda: Function(bare_add, c1=conv(4, 5, 1), c2=conv(4, 5, 1), c3=conv(5, 3, 1)), (4, 6, 6),
        "conv conv max conv conv conv",
    ),
    "add to itself": (
        lambda: Function(lambda m, x: (m.c(x) + m.c(x)).relu_(), c=conv(4, 4, 1)), (4, 6, 6),
        "conv conv",
    ),
    "add input": (lambda: Function(lambda m, x: x + x), (4, 6, 6), "conv"),
    "linear residual": (
        lambda: Function(lambda m, x: torch.relu(x + m.f(x)), f=nn.Linear(12, 12)), (12,), "linear",
    ),
    "norm first": (
        lambda: nn.Sequential(trained_norm(4), nn.ReLU(), conv(4, 6, 3)), (4, 6, 6), "conv conv",
    ),
    "relu first": (lambda: nn.Sequential(nn.ReLU(), conv(4, 6, 3)), (4, 6, 6), "avg conv"),
    "sigmoid": (
        lambda: nn.Sequential(conv(4, 6, 3), nn.Sigmoid()), (4, 9, 8),
        "conv table:sigmoid",
    ),
    "spelled silu": (
        lambda: Function(lambda m, x: spelled_silu(m.c(x)), c=conv(4, 4, 1)), (4, 5, 5),
        "conv table:mul+sigmoid+mul",
    ),
    "one channel": (lambda: nn.Sequential(conv(1, 1, 3), nn.ReLU()), (1, 5, 5), "conv"),
}  # fmt: skip


@pytest.mark.parametrize("asymmetric", [False, True], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("name", MODELS)
def test_operator(name: str, asymmetric: bool) -> None:
    make, size, want = MODELS[name]
    torch.manual_seed(len(name))
    model = make().eval()
    x = torch.randn(32, *size) + 0.25
    bits = 24 if asymmetric else 32
    made = frontend.simulate(
        export(model, x), x, name="m", asymmetric=asymmetric, multiplier_bits=bits
    )
    graph = made.graph
    assert kinds(graph) == want
    assert compare_layers(made, x) > 0
    zero_points = {t.zero_point for t in graph.tensors.values()}
    assert (zero_points == {0}) != asymmetric
    for node in graph.nodes:
        requant = getattr(node, "requant", None)
        if requant is not None:
            assert requant.multiplier.max() >> (bits - 2) == 1

    got = interpreter.dequantize(
        graph, graph.output, interpreter.run(graph, interpreter.quantize_input(graph, x.numpy()))
    )
    with torch.no_grad():
        real = model(x).numpy()
    real = real[:, :, None, None] if real.ndim == 2 else real
    error = got.transpose(0, 3, 1, 2) - real
    assert np.sqrt((error**2).mean()) < 0.05 * real.std()


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load()


@pytest.mark.parametrize("asymmetric", [False, True], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", [32, 18])
def test_lenet_accuracy(digits: datasets.Dataset, asymmetric: bool, bits: int) -> None:
    model = lenet5()
    with torch.no_grad():
        real = model(torch.from_numpy(digits.images)).numpy().argmax(axis=1)
    graph = frontend.quantize(
        model, digits.calibration, name="lenet", asymmetric=asymmetric, multiplier_bits=bits
    )
    scores = interpreter.run(graph, interpreter.quantize_input(graph, digits.images))
    integer = scores.reshape(360, 10).argmax(axis=1)
    score, reference = ((guess == digits.labels).mean() for guess in (integer, real))
    assert reference >= 0.99
    assert score >= 0.985
    assert abs(score - reference) <= 0.005


def test_lenet_layers(digits: datasets.Dataset) -> None:
    images = torch.from_numpy(digits.images[:64])
    made = frontend.simulate(export(lenet5(), images), digits.calibration, name="lenet")
    compare_layers(made, images)
    names = " ".join(n.name for n in made.graph.nodes)
    assert names == "conv1 pool1 conv2 pool2 fc1 fc2 fc3"
    assert made.graph.nodes[4].weight.shape == (120, 5, 5, 16)
    assert [n.requant.low for n in made.graph.nodes if isinstance(n, Conv)] == [0] * 4 + [-128]


def test_quantize_leaves_the_model_alone() -> None:
    model = nn.Sequential(conv(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(1, 1, 5, 5))
    graph = frontend.quantize(model, x, name="m")
    assert kinds(graph) == "conv"
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_in_place_activation_changes_its_argument() -> None:
    def forward(m, x):
        y = m.c(x)
        y.relu_()
        return m.d(y) + y

    model = Function(forward, c=conv(4, 4, 1), d=conv(4, 4, 1))
    x = torch.randn(8, 4, 5, 5)
    graph = frontend.quantize(model, x, name="m")
    assert graph.nodes[0].requant.low == 0
    assert graph.nodes[1].residual is not None
    assert graph.nodes[1].residual.input == graph.nodes[0].output


def test_in_place_activation_of_a_view_is_refused() -> None:
    def forward(m, x):
        y = m.c(x)
        torch.flatten(y, 1).relu_()
        return m.c(y)

    with pytest.raises(UnsupportedOperator, match="at 'relu_' is not supported: it"):
        frontend.quantize(Function(forward, c=conv(4, 4, 1)), torch.randn(8, 4, 5, 5), name="m")


def test_fused_residual_takes_the_other_tensor() -> None:
    torch.manual_seed(0)
    graph = frontend.quantize(residual_block(), torch.randn(8, 4, 10, 10), name="m")
    first, down, last = graph.nodes
    assert (first.name, down.name, last.name) == ("c1", "down.0", "c2")
    assert isinstance(last.residual, Residual)
    assert last.residual.input == down.output
    assert (down.requant.low, last.requant.low) == (-128, 0)


def test_dead_channel_with_a_bias_stays_within_int32() -> None:
    """Weights of almost nothing beside a real bias: the channel is the constant it should be."""
    layer = conv(2, 3, 3)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight[0] *= 1e-12
        layer.weight[1] = 0
        layer.bias.copy_(torch.tensor([0.75, -0.5, 0.1]))
    x = torch.randn(16, 2, 6, 6) * 0.01
    graph = frontend.quantize(layer, x, name="m")
    assert np.abs(graph.nodes[0].requant.bias).max() == 1 << 30
    got = interpreter.run(graph, interpreter.quantize_input(graph, x.numpy()))
    real = interpreter.dequantize(graph, graph.output, got)
    half = graph.tensors[graph.output].scale / 2 * 1.001
    assert np.abs(real[..., 0] - 0.75).max() <= half
    assert np.abs(real[..., 1] + 0.5).max() <= half


def test_static_batch_and_saved_program(tmp_path) -> None:
    model = nn.Sequential(conv(2, 3, 3), nn.ReLU()).eval()
    x = torch.randn(7, 2, 6, 6)
    want = frontend.quantize(model, x, name="m")
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(model, (x[:3],)), path)
    got = frontend.quantize_exported(frontend.load_exported(path), x, name="m")
    assert got.tensors == want.tensors
    assert np.array_equal(got.nodes[0].weight, want.nodes[0].weight)
    assert np.array_equal(got.nodes[0].requant.multiplier, want.nodes[0].requant.multiplier)


def test_batch_of_one_and_no_other() -> None:
    model = Function(lambda m, x: m.f(m.c(x).view(1, 48)), c=conv(2, 3, 3), f=nn.Linear(48, 4))
    graph = frontend.quantize(model, torch.randn(5, 2, 6, 6), name="m")
    assert kinds(graph) == "conv linear"


def test_fixed_batch_in_a_shape_is_refused() -> None:
    model = Function(lambda m, x: m.f(m.c(x).view(3, 48)), c=conv(2, 3, 3), f=nn.Linear(48, 4))
    x = torch.randn(3, 2, 6, 6)
    with pytest.raises(UnsupportedOperator, match=r"for a batch of one it fails .* export the"):
        frontend.quantize_exported(torch.export.export(model.eval(), (x,)), x, name="m")


class Named(nn.Module):
    def __init__(self, **layers: nn.Module):
        super().__init__()
        self.body = nn.Sequential()
        for name, layer in layers.items():
            self.body.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def by(function) -> nn.Module:
    return Function(lambda m, x: function(m.c(x)), c=conv(2, 2, 3))


def first_of_topk(y: torch.Tensor) -> torch.Tensor:
    return torch.topk(y, 2, -1)[0]


def attention(y: torch.Tensor, **options) -> torch.Tensor:
    return F.scaled_dot_product_attention(y, y, y, **options)


REFUSED = [
    (Named(conv=conv(2, 2, 2, padding="same")), "padding 'same' needs an odd kernel"),
    (by(first_of_topk), "aten.topk.default at 'topk' is not supported: it returns several tensors"),
    (by(lambda y: y > 0), "aten.gt.Scalar at 'gt' is not supported: it makes torch.bool"),
    (by(lambda y: y + torch.zeros(6, 6).fill_diagonal_(1.0)), "fill_diagonal_.* another way"),
    (by(lambda y: attention(y, attn_mask=y @ y)), "the mask must be a constant"),
    (by(lambda y: attention(y, dropout_p=0.1)), "attention must be without dropout: call eval"),
    (by(lambda y: attention(y, enable_gqa=True)), "repeat the keys' and values' heads"),
    (by(lambda y: y.to("cpu", torch.float64)), "the host cannot keep its arguments: .* JSON"),
    (by(lambda y: y * y.amax().item()), "it makes a number out of a tensor"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_unsupported_operators_are_named(model: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedOperator, match=message):
        frontend.quantize(model, torch.randn(4, 2, 8, 8), name="m")


class TwoInputs(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def test_refuses_calibration_that_overflows_within():
    """The output is finite; what it is computed from is not."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Sigmoid())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    with pytest.raises(ModelError, match="its values on the calibration data are not finite"):
        frontend.quantize(model, np.full((2, 1, 8, 8), 1e38, np.float32), name="m")


def test_models_and_data_that_do_not_fit(tmp_path) -> None:
    x = torch.randn(4, 2, 8, 8)
    layer = conv(2, 2, 3)
    program = torch.export.export(TwoInputs(), (x, x))
    with pytest.raises(ModelError, match="one tensor and return one, not 2 and 1"):
        frontend.quantize_exported(program, x, name="m")
    with pytest.raises(ModelError, match="returns its input"):
        frontend.quantize(nn.Identity(), x, name="m")
    with pytest.raises(ModelError, match=r"torch cannot export m for inputs of shape \[3, 8, 8\]"):
        frontend.quantize(layer, torch.randn(4, 3, 8, 8), name="m")
    with pytest.raises(ModelError, match=r"takes inputs of shape \[2, 8, 8\], but .* \[2, 9, 8\]"):
        frontend.quantize_exported(export(layer, x), torch.randn(4, 2, 9, 8), name="m")
    with pytest.raises(ModelError, match="calibration data must be"):
        frontend.quantize(layer, np.zeros((0, 2, 8, 8)), name="m")
    with pytest.raises(ModelError, match="not finite"):
        frontend.quantize(layer, x / 0, name="m")
    for data in ("images", None, {"x": x}, [[1, 2], [3]], np.zeros((2, 2), complex)):
        with pytest.raises(ModelError, match="must be an array of real numbers, not "):
            frontend.quantize(layer, data, name="m")
    with pytest.raises(ModelError, match=r"m must be a torch\.nn\.Module, not function"):
        frontend.quantize(conv, x, name="m")
    with pytest.raises(ModelError, match=r"m must be a torch\.export program, not Conv2d"):
        frontend.quantize_exported(layer, x, name="m")
    for file, message in (("none.pt2", "cannot read"), ("text.pt2", "is not an archive of torch")):
        (tmp_path / "text.pt2").write_text("hello")
        with pytest.raises(ModelError, match=message):
            frontend.load_exported(tmp_path / file)
    broken = nn.Sequential(nn.Conv2d(2, 2, 3))
    nn.init.constant_(next(broken.parameters()), torch.nan)
    with pytest.raises(ModelError, match=r"m: 0\.weight contains a value that is not finite"):
        frontend.quantize(broken, x, name="m")
    with pytest.raises(ModelError, match="multiplier_bits must be 8 to 32, not 33"):
        frontend.quantize(layer, x, name="m", multiplier_bits=33)
    norm = nn.Sequential(layer, nn.BatchNorm2d(2)).train()
    with pytest.raises(ModelError, match="batch norm at '1' is in training mode"):
        frontend.quantize_exported(torch.export.export(norm, (x,)), x, name="m")


def test_lenet_weights_that_do_not_fit(tmp_path) -> None:
    with pytest.raises(ModelError, match="cannot read LeNet-5 weights"):
        lenet5(tmp_path / "none.safetensors")
    (tmp_path / "bad").write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot read LeNet-5 weights"):
        lenet5(tmp_path / "bad")
    with pytest.raises(ModelError, match="does not hold LeNet-5 weights"):
        lenet5(datasets.DIGITS)
