"""The nodes beside convolution and pooling: products, joins, tables, and what the host computes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from weft.host import arrays, interpreter, norms, operators, verify
from weft.host.errors import VerifyError
from weft.host.ir import Concat, Graph, Host, MatMul, Requant, Table, Tensor, sources
from weft.host.views import View, canonical


def single(node, *tensors: Tensor) -> Graph:
    """A graph of `node`; the first of `tensors` is its input, the last its output."""
    table = {tensor.name: tensor for tensor in tensors}
    return Graph("g", tensors[0].name, tensors[-1].name, table, (node,))


def alike(channels: int, shift: int = 40) -> Requant:
    return Requant(*(np.full(channels, value) for value in (0, 1 << 30, shift)))


@settings(max_examples=40, deadline=None)
@given(*[st.integers(1, 5)] * 4, st.booleans(), st.sampled_from([1, 1100]))
def test_product_equals_its_definition(
    heads: int, m: int, n: int, depth: int, transposed: bool, scale: int
) -> None:
    """Up to 5 · 1100 products of −128 · −128 sum to 90 million, which float32 cannot hold."""
    rng = np.random.default_rng(heads + 10 * m + 100 * n + 1000 * depth)
    k = depth * scale
    if transposed:
        shapes = (1, m, heads * k), (1, n, heads * k), (heads, m, n)
    else:
        shapes = (heads, m, k), (1, k, heads * n), (1, m, heads * n)
    a, b, y = (Tensor(name, *shape, 1.0) for name, shape in zip("aby", shapes, strict=True))
    node = MatMul("p", "a", "b", "y", alike(y.channels), heads, transposed)
    graph = dataclasses.replace(single(node, a, b, y))
    x, other = (rng.integers(-128, -100, (2, *t.shape)).astype(np.int8) for t in (a, b))
    got = interpreter.product(node, x, other)
    want = np.zeros((2, *y.shape), np.int64)
    for h in range(heads):
        for i in range(m):
            for j in range(n):
                if transposed:
                    part = slice(h * k, h * k + k)
                    left, right, at = x[:, 0, i, part], other[:, 0, j, part], (h, i, j)
                else:
                    left, right = x[:, h, i], other[:, 0, :, h * n + j]
                    at = 0, i, h * n + j
                want[:, *at] = (left.astype(np.int64) * right).sum(axis=-1)
    assert np.array_equal(got, want)
    values = {"a": x, "b": other}
    assert np.array_equal(
        interpreter.evaluate(graph, node, values), interpreter.requantize(want, node.requant)
    )


def test_concat_and_table() -> None:
    a, b, y = (
        Tensor("a", 2, 3, 4, 0.5, 1),
        Tensor("b", 2, 3, 1, 0.5, 1),
        Tensor("y", 2, 3, 9, 0.5, 1),
    )
    join = Concat("c", ("a", "b", "a"), "y")
    z = Tensor("z", 2, 3, 9, 0.1)
    negate = Table("t", "y", "z", np.arange(127, -129, -1).astype(np.int8))
    assert sources(join) == ("a", "b", "a")
    graph = Graph("g", "a", "z", {t.name: t for t in (a, b, y, z)}, (join, negate))
    x = np.arange(-128, 112, dtype=np.int16).astype(np.int8).reshape(10, 2, 3, 4)
    values = {"a": x, "b": x[..., :1]}
    values["y"] = interpreter.evaluate(graph, join, values)
    assert np.array_equal(values["y"], np.concatenate([x, x[..., :1], x], axis=3))
    assert np.array_equal(interpreter.evaluate(graph, negate, values), -1 - values["y"])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200), st.floats(1e-4, 1), st.sampled_from([1 / 256, 1 / 128, 0.003]),
    st.sampled_from([0, -128]), st.integers(0, 1000),
)  # fmt: skip
def test_softmax_rounds_the_real_one(n: int, scale: float, to: float, zero: int, seed: int) -> None:
    x, y = Tensor("x", 2, 3, n, scale, 7), Tensor("y", 2, 3, n, to, zero)
    node = norms.softmax("s", x, y)
    graph = single(node, x, y)
    verify.verify(graph)
    values = np.random.default_rng(seed).integers(-128, 128, (2, *x.shape)).astype(np.int8)
    real = np.exp(values * scale - values.max(-1, keepdims=True) * scale)
    real /= real.sum(-1, keepdims=True) * to
    got = interpreter.run(graph, values)
    within = np.clip(real + zero, -128, 127)
    assert np.abs(got - within).max() <= 0.5 + 1 / 256


def test_softmax_of_what_it_sees() -> None:
    x, y = Tensor("x", 2, 5, 6, 0.2), Tensor("y", 2, 5, 6, 1 / 128, -3)
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 2, x.shape).astype(np.int8)
    seen[..., 0] = 1
    values = rng.integers(-128, 128, (3, *x.shape)).astype(np.int8)
    values[..., 1] = 127  # largest, and not always seen
    graph = single(norms.softmax("s", x, y, seen), x, y)
    verify.verify(graph)
    real = np.where(seen, np.exp(values * x.scale), 0)
    real = real / real.sum(-1, keepdims=True) / y.scale - 3
    got = interpreter.run(graph, values)
    assert np.abs(got - real.clip(-128, 127)).max() <= 0.5 + 1 / 256
    assert (got[:, seen == 0] == -3).all()
    seen[1, 2] = 0
    with pytest.raises(VerifyError, match="s: softmax must see a value in every row"):
        verify.verify(single(norms.softmax("s", x, y, seen), x, y))
    with pytest.raises(VerifyError, match="s: softmax has at most one mask"):
        verify.verify(single(norms.softmax("s", x, y, seen[0]), x, y))


@pytest.mark.parametrize("regular", [True, False])
def test_gather_moves_bytes_and_adds_zeros(regular: bool) -> None:
    x, y = Tensor("x", 2, 3, 4, 0.5, 9), Tensor("y", 3, 2, 2, 0.5, 9)
    index = np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2)[:, :, 1:3].copy()
    if not regular:
        index[1, 1] = -1, 5
    node = arrays.gather("g", x, y, index)
    assert bool(node.constants) != regular
    graph = single(node, x, y)
    verify.verify(graph)
    values = np.random.default_rng(0).integers(-128, 128, (2, *x.shape)).astype(np.int8)
    want = values.reshape(2, -1)[:, index]
    want[:, index < 0] = 9
    assert np.array_equal(interpreter.run(graph, values), want)


@pytest.mark.parametrize("name", arrays.BINARY)
def test_arithmetic_rounds_once(name: str) -> None:
    """A map [height, width, channels] with a vector of its channels, each as torch sees it."""
    x, v = Tensor("x", 2, 3, 4, 0.1, -3), Tensor("v", 1, 1, 4, 0.07, 5)
    y = Tensor("y", 2, 3, 4, 0.4, 2)
    big, small = canonical((1, 4, 2, 3))[1], canonical((1, 4, 1, 1))[1]
    node = arrays.logical("n", name, [(x, big), (v, small)], y, result=big.as_json())
    tensors = {"x": x, "v": v, "y": y}
    rng = np.random.default_rng(0)
    values = [rng.integers(-128, 128, (3, *t.shape)).astype(np.int8) for t in (x, v)]
    operators.check(node, tensors)
    with np.errstate(divide="ignore", invalid="ignore"):
        real = arrays.BINARY[name]((values[0] + 3.0) * 0.1, (values[1] - 5.0) * 0.07)
    want = np.clip(np.rint(np.nan_to_num(real / 0.4)) + 2, -128, 127)
    assert np.array_equal(operators.apply(node, tensors, values), want)


@settings(max_examples=60, deadline=None)
@example(2, 1.0, 0.0107, -5, 0)  # a level of variance, two hundred levels of gamma
@given(
    st.sampled_from([2, 7, 768, 4096]), st.floats(1e-3, 1), st.floats(0.01, 0.1),
    st.integers(-20, 20), st.integers(0, 1000),
)  # fmt: skip
def test_layer_norm_rounds_the_real_one(
    n: int, scale: float, to: float, zero: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gamma, beta = rng.uniform(-2, 2, n), rng.uniform(-1, 1, n)
    x, y = Tensor("x", 1, 3, n, scale, -3), Tensor("y", 1, 3, n, to, zero)
    graph = single(norms.layer_norm("n", x, y, gamma, beta, 1e-5), x, y)
    verify.verify(graph)
    values = rng.integers(-128, 128, (2, *x.shape)).astype(np.int8)
    values[0, 0, 0] = 5  # no variance: beta
    values[0, 0, 1] = 5
    values[0, 0, 1, 0] = 6
    real = (values.astype(int) + 3) * scale
    real -= real.mean(-1, keepdims=True)
    real /= np.sqrt(real.var(-1, keepdims=True) + 1e-5)
    within = np.clip((real * gamma + beta) / to + zero, -128, 127)
    assert np.abs(interpreter.run(graph, values) - within).max() <= 0.5 + 1 / 256


def test_root_has_as_many_bits_as_fit() -> None:
    x, y = Tensor("x", 1, 3, 768, 0.03), Tensor("y", 1, 3, 768, 0.02)
    node = norms.layer_norm("n", x, y, np.ones(768), np.zeros(768), 1e-5)
    assert node.attributes["root_bits"] == 13
    assert "13 at n = 768" in (Path(__file__).parents[1] / "docs/numerics.md").read_text()


def softmax_node(**fields) -> Host:
    node = norms.softmax("s", Tensor("a", 2, 3, 4, 0.1), Tensor("y", 2, 3, 4, 0.01))
    return dataclasses.replace(node, **fields)


A, B, Y = Tensor("a", 1, 3, 8, 0.5), Tensor("b", 1, 5, 8, 0.5), Tensor("y", 2, 3, 5, 0.5)
SAME = Tensor("y", 1, 3, 8, 0.5)
WIDE = Tensor("y", 1, 3, 13, 0.5)
SCORES = MatMul("m", "a", "b", "y", alike(5), 2, True)
UNLIKE = Requant(np.arange(5), np.full(5, 1 << 30), np.full(5, 40))
LONG = Tensor("a", 1, 3, 1 << 18, 0.5)
VIEW = canonical((1, 3, 8))[1]
BEYOND = dataclasses.replace(VIEW, offset=1)
REPEATED = View((1, 3, 8), (0, 0, 1), 0, (1, 3, 8))


def _negated(view: View, result: View, *constants: np.ndarray) -> Host:
    node = arrays.logical("h", "sub", [(A, view)], SAME, result=result.as_json(), constant=0)
    return dataclasses.replace(node, constants=constants)


def _by_torch(operator: str, *arguments, **more) -> Host:
    attributes = {"result": VIEW.as_json(), "arguments": [*arguments], "keywords": {}, **more}
    return arrays.logical("h", operator, [(A, VIEW)], SAME, **attributes)


def _softmax(**numbers: int) -> Host:
    """Softmax with other numbers in its tables."""
    exp, scaled = (table.copy() for table in softmax_node().constants)
    exp[0] += numbers.get("first", 0)
    scaled[3] += numbers.get("scaled", 0)
    return Host("h", ("a",), "y", "softmax", {}, (exp, scaled))


def _norm(epsilon: int, numbers: np.ndarray, bits: int = 8) -> Host:
    attributes = {"epsilon": epsilon, "root_bits": bits}
    return Host("h", ("a",), "y", "layer_norm", attributes, (numbers, numbers))


BROKEN = [
    (SCORES, (A, dataclasses.replace(B, zero_point=1), Y), "m: both operands must have zero point"),
    (dataclasses.replace(SCORES, heads=3), (A, B, Y), "m: 8 channels are not 3 heads"),
    (dataclasses.replace(SCORES, transposed=False), (A, B, Y), r"m: \[1, 3, 8\] and \[1, 5, 8\]"),
    (dataclasses.replace(SCORES, requant=UNLIKE), (A, B, Y), "m: every channel must be"),
    (SCORES, (LONG, dataclasses.replace(LONG, name="b", width=5), Y), "m: the accumulator of"),
    (Concat("c", ("a", "b"), "y"), (A, B, WIDE), "c: the inputs' channels do not add up to 13"),
    (Concat("c", ("a", "b"), "y"), (A, B, dataclasses.replace(WIDE, channels=16)), "c: 'b' is"),
    (
        Concat("c", ("a", "a"), "y"), (A, dataclasses.replace(WIDE, channels=16, scale=1.0)),
        "c: 'a' has not the output's scale",
    ),
    (Table("t", "a", "y", np.zeros(256, np.int8)), (A, Y), "t: a pointwise function keeps the"),
    (Table("t", "a", "y", np.zeros(255, np.int8)), (A, SAME), "t: the table must be int8"),
    (arrays.gather("h", A, SAME, np.arange(1, 25)), (A, SAME), "h: gather reads outside"),
    (arrays.gather("h", A, WIDE, np.zeros(39, int) - 1), (A, SAME), r"h: gather's index must be"),
    (
        arrays.gather("h", A, SAME, np.arange(24)), (A, dataclasses.replace(SAME, scale=1.0)),
        "h: gather keeps scale",
    ),
    (_negated(VIEW, VIEW), (A, SAME), "h: sub has two operands"),
    (_negated(VIEW, VIEW, np.zeros((1, 7, 8))), (A, SAME), "h: the operands of sub do not"),
    (_negated(BEYOND, VIEW, np.zeros(1)), (A, SAME), "h: a view of 'a' reaches outside"),
    (_negated(VIEW, REPEATED, np.zeros(1)), (A, SAME), "h: the result does not fill 'y'"),
    (
        Host("h", ("a",), "y", "aten.relu.default", {"views": [VIEW.as_json()],
             "result": VIEW.as_json(), "arguments": [{"input": 1}], "keywords": {}}),
        (A, SAME), "h: aten.relu.default has an argument that does not exist",
    ),
    (
        _by_torch("aten.relu.default", keywords=3), (A, SAME),
        "h: aten.relu.default has arguments and keywords",
    ),
    (_by_torch("aten.relu"), (A, SAME), "h: 'aten.relu' is not the name of an operator and its"),
    (
        _by_torch("aten.to.dtype", {"input": 0}, {"dtype": "save"}), (A, SAME),
        "h: aten.to.dtype has a type that does not exist",
    ),
    (
        _by_torch("aten.relu.default", {"input": 0}, views=[]), (A, SAME),
        "h: aten.relu.default has a view of each input",
    ),
    (
        _by_torch("aten.relu.default", {"input": 0}, views=[7]), (A, SAME), "h: 7 is not a view"
    ),
    (
        _by_torch("cat", axis=1, views=[canonical((1, 2, 8))[1].as_json()]), (A, SAME),
        "h: the inputs of cat do not give its output",
    ),
    (
        Host("h", ("a", "a"), "y", "gather", {"offset": 0, "strides": [0, 0, 0]}), (A, SAME),
        "h: gather reads one tensor",
    ),
    (_softmax(first=1), (A, SAME), "h: softmax's exponentials lie within"),
    (_softmax(scaled=1 << 62), (A, SAME), "h: softmax can overflow 64 bits"),
    (Host("h", ("a",), "y", "sofmax"), (A, SAME), "h: there is no host operator 'sofmax'"),
    (Host("h", ("a",), "y", "softmax"), (A, Y), "h: softmax maps one tensor to one of the same"),
    (Host("h", ("a",), "y", "softmax"), (A, SAME), "h: softmax has two tables"),
    (Host("h", ("a",), "y", "layer_norm"), (A, SAME), "h: layer norm has gamma and beta"),
    (
        _norm(-1, np.zeros(8, np.int64)),
        (A, SAME), "h: layer norm's epsilon",
    ),
    (
        _norm(1, np.zeros(8, np.int64), bits=21),
        (A, SAME), "h: layer norm's root has 0 to 20",
    ),
    (
        _norm(1 << 62, np.zeros(8, np.int64)),
        (A, SAME), "h: layer norm's variance can",
    ),
    (
        _norm(1, np.full(8, 1 << 45)),
        (A, SAME), "h: layer norm can overflow",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("node", "tensors", "message"), BROKEN, ids=[m for *_, m in BROKEN])
def test_verifier_names_the_broken_rule(node, tensors: tuple[Tensor, ...], message: str) -> None:
    graph = single(node, *tensors)
    ready = Host("made", ("a",), "b", "softmax")  # only so that b is written
    if len(tensors) == 3:
        graph = dataclasses.replace(graph, nodes=(ready, node))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(operators, "check", lambda *_: None)
            with pytest.raises(VerifyError, match=message):
                verify.verify(graph)
    else:
        with pytest.raises(VerifyError, match=message):
            verify.verify(graph)
