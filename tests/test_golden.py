"""The golden machine against independent loops: plain layers, and the contract word by word."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS, Config
from weft.hdl.isa import (
    FORMATS,
    SEMAPHORE_MAX,
    Instruction,
    Memory,
    Opcode,
    Reduce,
    Segment,
    Unit,
    post_bit,
    wait_bit,
)
from weft.hdl.numerics import PARAMETER_FIELDS, Parameter
from weft.hdl.registers import Error
from weft.host.device import DeviceError, Job, open_device
from weft.host.golden import GoldenDevice, GoldenMachine, parameters

TINY = PRESETS["tiny"]
DEFAULT = PRESETS["default"]
#: Small enough that every address wraps.
SMALLEST = Config(
    name="smallest", rows=4, cols=8, bus_bits=64, act_bytes=256, act_banks=2, wgt_bytes=64,
    acc_depth=32, par_entries=64, vector_lanes=4, read_beats=128,
)  # fmt: skip
END = Instruction(Opcode.END, {"tag": 5})
NO_SEGMENTS = (b"", b"", b"", b"")


def fill(machine: GoldenMachine, seed: int) -> np.random.Generator:
    """Random contents in every memory."""
    rng = np.random.default_rng(seed)
    machine.act[:] = rng.integers(-128, 128, machine.act.shape)
    machine.tbl[:] = rng.integers(-128, 128, machine.tbl.shape)
    machine.wgt[:] = rng.integers(-128, 128, machine.wgt.shape)
    machine.acc[:] = rng.integers(-(2**31), 2**31, machine.acc.shape)
    for entry in machine.par:
        entry[:] = np.frombuffer(random_parameter(rng).encode(), np.uint8)
    return rng


def random_parameter(rng: np.random.Generator) -> Parameter:
    shift = int(rng.integers(0, 64))
    low, high = sorted(rng.integers(-128, 128, 2).tolist())
    return Parameter(
        bias=int(rng.integers(-(2**31), 2**31)),
        multiplier=int(rng.integers(-(2**31), 2**31)) >> int(rng.integers(0, 32)),
        shift=shift,
        residual_shift=int(rng.integers(0, shift + 1)),
        residual_multiplier=int(rng.integers(-(2**17), 2**17)),
        zero_point=int(rng.integers(-128, 128)),
        residual_zero=int(rng.integers(-128, 128)),
        low=low,
        high=high,
    )


def run(machine: GoldenMachine, *stream: Instruction, segments=NO_SEGMENTS):
    return machine.execute(b"".join(i.encode() for i in (*stream, END)), segments)


def wrap(value: int, bits: int) -> int:
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def requantize_exactly(acc: int, p: Parameter, residual: int | None, bits: int) -> int:
    """The formula of the numeric contract on Python integers."""
    total = (acc + p.bias) * wrap(p.multiplier, bits)
    if residual is not None:
        term = (residual - p.residual_zero) * p.residual_multiplier
        total += term << (p.shift - p.residual_shift)
    total = wrap(total + (1 << p.shift >> 1), 64)
    return max(p.low, min(p.high, (total >> p.shift) + p.zero_point))


# -- the contract, loop by loop ----------------------------------------------------------------


def matmul_loops(machine: GoldenMachine, i: Instruction) -> np.ndarray:
    """ACC after MATMUL, as docs/architecture.md says it, one lane at a time."""
    config, acc = machine.config, machine.acc.copy()
    lanes, total = config.act_lanes, i.ky * i.kx * i.kc

    def taps(k):
        return k // i.kc // i.kx, k // i.kc % i.kx, k % i.kc

    def koff(k):
        ky, kx, c = taps(k)
        return ky * i.dy * i.row_pitch + kx * i.dx * i.pixel_pitch + c

    tiles = -(-total // config.rows)
    for n in range(i.blocks):
        for t in range(tiles):
            for y in range(i.oy):
                for x in range(i.ox):
                    psum = [0] * config.cols
                    p = i.act + y * i.sy * i.row_pitch + x * i.sx * i.pixel_pitch
                    p += koff(t * config.rows)
                    for lane in range(config.rows):
                        k = t * config.rows + lane
                        if k >= total:
                            continue
                        ky, kx, _ = taps(k)
                        row, col = i.iy0 + y * i.sy + ky * i.dy, i.ix0 + x * i.sx + kx * i.dx
                        jump = (koff(k) - koff(t * config.rows) - lane) // lanes
                        value = int(machine.act[(p + lane + lanes * jump) % config.act_bytes])
                        if not (0 <= row < i.height and 0 <= col < i.width):
                            value = i.fill
                        at = i.wgt + (n * tiles + t) * config.rows + lane
                        for column in range(config.cols):
                            psum[column] += value * int(machine.wgt[at % config.wgt_rows, column])
                    entry = (i.acc + n * i.oy * i.ox + y * i.ox + x) % config.acc_depth
                    for column in range(config.cols):
                        old = int(acc[entry, column]) if t or i.accumulate else 0
                        acc[entry, column] = wrap(old + psum[column], 32)
    return acc


def vector_loops(machine: GoldenMachine, i: Instruction) -> np.ndarray:
    """ACT after DRAIN or POOL, one channel at a time."""
    config, act = machine.config, machine.act.copy()

    def drain_source(c, y, x, j, k):
        at = i.src + c // config.cols * i.src_block + (y * i.sy + j) * i.src_row + x * i.sx + k
        return int(machine.acc[at % config.acc_depth, c % config.cols])

    def pool_source(c, y, x, j, k):
        row, col = i.iy0 + y * i.sy + j, i.ix0 + x * i.sx + k
        if not (0 <= row < i.height and 0 <= col < i.width):
            return i.fill
        at = i.src + (y * i.sy + j) * i.src_row + (x * i.sx + k) * i.src_pixel + c
        return int(machine.act[at % config.act_bytes])

    source = drain_source if i.opcode == Opcode.DRAIN else pool_source
    for first in range(0, i.channels, config.vector_lanes):
        for y in range(i.oy):
            for x in range(i.ox):
                for c in range(first, min(first + config.vector_lanes, i.channels)):
                    window = [source(c, y, x, j, k) for j in range(i.ry) for k in range(i.rx)]
                    value = max(window) if i.reduce == Reduce.MAX else wrap(sum(window), 32)
                    entry = machine.par[(i.par + c) % config.par_entries].tobytes()
                    residual = None
                    if i.opcode == Opcode.DRAIN and i.residual:
                        at = i.res + y * i.res_row + x * i.res_pixel + c
                        residual = int(machine.act[at % config.act_bytes])
                    result = requantize_exactly(
                        value, Parameter.decode(entry), residual, config.multiplier_bits
                    )
                    if i.table:
                        result = machine.tbl[i.table - 1, result + 128]
                    at = i.dst + y * i.dst_row + x * i.dst_pixel + c
                    if i.opcode == Opcode.DRAIN:
                        at += c * config.act_lanes * i.dst_jump
                    act[at % config.act_bytes] = result
    return act


def fields_of(opcode: Opcode, **small: int):
    """Random fields, those named at most as large as given."""
    return st.fixed_dictionaries(
        {
            f.name: st.integers(f.minimum, min(f.maximum, small.get(f.name, f.maximum)))
            for f in FORMATS[opcode][1:]
            if f.name not in ("wait", "post", "weight_wait", "weight_post")
        }
    )


MATMULS = fields_of(Opcode.MATMUL, blocks=3, kc=9, ky=3, kx=3, oy=6, ox=7, height=12, width=12).map(
    lambda f: {**f, "iy0": f["iy0"] % 7 - 3, "ix0": f["ix0"] % 7 - 3}
)
DRAINS = fields_of(Opcode.DRAIN, channels=20, oy=4, ox=4, ry=3, rx=3, table=1).map(
    lambda f: {**f, "dst_jump": (0, f["dst_jump"] % 9, f["dst_jump"])[f["dst_jump"] % 3]}
)
POOLS = fields_of(Opcode.POOL, channels=10, oy=4, ox=4, ry=3, rx=3, height=9, width=9, table=1).map(
    lambda f: {**f, "iy0": f["iy0"] % 7 - 3, "ix0": f["ix0"] % 7 - 3}
)


@settings(max_examples=60, deadline=None)
@given(MATMULS, st.sampled_from([TINY, SMALLEST]), st.integers(0, 9))
@example({"blocks": 2, "oy": 6, "ox": 7, "kc": 9, "accumulate": 0}, SMALLEST, 1)
@example({"blocks": 2, "oy": 6, "ox": 7, "kc": 9, "accumulate": 1}, SMALLEST, 1)
def test_matmul_is_the_contract(fields, config, seed):
    machine = GoldenMachine(config)
    fill(machine, seed)
    instruction = Instruction(Opcode.MATMUL, fields)
    expected = matmul_loops(machine, instruction)
    assert run(machine, instruction).error == Error.NONE
    np.testing.assert_array_equal(machine.acc, expected)


def without_reduction(fields):
    """`fields` with a window that `reduce` allows."""
    return {**fields, "ry": 1, "rx": 1} if fields["reduce"] == Reduce.NONE else fields


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        DRAINS.map(lambda f: (Opcode.DRAIN, without_reduction(f))),
        POOLS.map(lambda f: (Opcode.POOL, without_reduction(f))),
    ),
    st.sampled_from([TINY, SMALLEST]),
    st.integers(0, 9),
)
@example(
    (Opcode.DRAIN, {"channels": 20, "oy": 4, "ox": 4, "dst_row": 7, "dst_pixel": 3}), SMALLEST, 1
)
@example((Opcode.DRAIN, {"channels": 20, "ox": 9, "dst_pixel": 1, "dst_jump": 1}), SMALLEST, 1)
@example((Opcode.DRAIN, {"channels": 18, "ox": 4, "dst_pixel": 18, "dst_jump": 1}), SMALLEST, 1)
@example((Opcode.POOL, {"channels": 9, "ox": 4, "dst_pixel": 9, "table": 2}), SMALLEST, 1)
def test_drain_and_pool_are_the_contract(instruction, config, seed):
    machine = GoldenMachine(config)
    fill(machine, seed)
    instruction = Instruction(*instruction)
    expected = vector_loops(machine, instruction)
    assert run(machine, instruction).error == Error.NONE
    np.testing.assert_array_equal(machine.act, expected)


@given(st.integers(0, 1 << 32), st.sampled_from([8, 18, 31, 32]))
def test_parameters_decode_as_one_by_one(seed, bits):
    rng = np.random.default_rng(seed)
    entries = rng.integers(0, 256, (6, 16)).astype(np.uint8)
    entries[rng.integers(0, 6), 8] |= 63  # a shift of 63
    found = 0
    for part, parameter in parameters(entries, bits):
        for offset, entry in enumerate(entries[part]):
            alone = Parameter.decode(entry.tobytes())
            for name, _, _ in PARAMETER_FIELDS:
                value = np.broadcast_to(getattr(parameter, name), len(entries[part]))[offset]
                expected = getattr(alone, name)
                assert value == (wrap(expected, bits) if name == "multiplier" else expected), name
            found += 1
    assert found == 6


# -- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolution(stride, padding, dilation):
    machine = GoldenMachine(DEFAULT)
    rng = fill(machine, 1)
    x = rng.integers(-128, 128, (9, 8, 16))
    w = rng.integers(-128, 128, (32, 3, 3, 16))
    machine.act[4096 : 4096 + x.size] = x.reshape(-1)
    matrix = w.transpose(1, 2, 3, 0).reshape(144, 2, 16).transpose(1, 0, 2)
    machine.wgt[:288] = matrix.reshape(288, 16)
    oy = (9 + 2 * padding - 2 * dilation - 1) // stride + 1
    ox = (8 + 2 * padding - 2 * dilation - 1) // stride + 1
    act = (4096 - padding * (8 * 16 + 16)) % (1 << 20)
    result = run(
        machine,
        Instruction(
            Opcode.MATMUL,
            {
                "act": act, "kc": 16, "ky": 3, "kx": 3, "dy": dilation, "dx": dilation,
                "row_pitch": 128, "pixel_pitch": 16, "sy": stride, "sx": stride, "oy": oy,
                "ox": ox, "iy0": -padding, "ix0": -padding, "height": 9, "width": 8, "fill": 7,
                "blocks": 2, "acc": 100,
            },
        ),
    )  # fmt: skip
    assert result.error == Error.NONE
    padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)), constant_values=7)
    expected = np.zeros((2, oy, ox, 16), np.int64)
    for y in range(oy):
        for z in range(ox):
            patch = padded[
                y * stride : y * stride + 2 * dilation + 1 : dilation,
                z * stride : z * stride + 2 * dilation + 1 : dilation,
            ]
            expected[:, y, z] = np.einsum("ijc,nijc->n", patch, w).reshape(2, 16)
    got = machine.acc[100 : 100 + 2 * oy * ox].reshape(expected.shape)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("k", [1, 15, 16, 100, 1024, 1025, 4000])
def test_matrix_product_in_two_parts(k):
    machine = GoldenMachine(DEFAULT)
    rng = fill(machine, 2)
    a = rng.choice([-128, 127, 3], (5, k), p=[0.8, 0.1, 0.1])
    b = rng.choice([-128, 127, 5], (k, 16), p=[0.8, 0.1, 0.1])
    pitch = -(-k // 16) * 16
    machine.act[: 5 * pitch].reshape(5, pitch)[:, :k] = a
    machine.wgt[:k] = b
    part = {"kc": k, "oy": 5, "row_pitch": pitch, "height": 5, "width": 1}
    run(
        machine,
        Instruction(Opcode.MATMUL, part),
        Instruction(Opcode.MATMUL, {**part, "accumulate": 1}),
    )
    np.testing.assert_array_equal(machine.acc[:5], 2 * (a.astype(np.int64) @ b))


def test_accumulation_wraps():
    machine = GoldenMachine(TINY)
    machine.acc[0] = 2**31 - 1
    machine.act[:1] = machine.wgt[:1] = 1
    run(machine, Instruction(Opcode.MATMUL, {"kc": 1, "accumulate": 1}))
    np.testing.assert_array_equal(machine.acc[0], [-(2**31)] * 4)


def test_max_pool_with_padding():
    machine = GoldenMachine(DEFAULT)
    rng = fill(machine, 3)
    x = rng.integers(-128, 128, (8, 8, 24)).astype(np.int8)
    machine.act[: x.size] = x.reshape(-1)
    machine.par[:24] = np.frombuffer(Parameter(multiplier=1).encode(), np.uint8)
    fields = {
        "src": -(8 * 24 + 24) % (1 << 20), "src_row": 192, "src_pixel": 24, "channels": 24,
        "sy": 2, "sx": 2, "oy": 4, "ox": 4, "iy0": -1, "ix0": -1, "height": 8, "width": 8,
        "fill": -128, "ry": 3, "rx": 3, "reduce": Reduce.MAX, "dst": 8192, "dst_row": 96,
        "dst_pixel": 24,
    }  # fmt: skip
    run(machine, Instruction(Opcode.POOL, fields))
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-128)
    expected = [
        [padded[2 * y : 2 * y + 3, 2 * z : 2 * z + 3].max((0, 1)) for z in range(4)]
        for y in range(4)
    ]
    np.testing.assert_array_equal(machine.act[8192 : 8192 + 384].reshape(4, 4, 24), expected)


def test_drain_adds_residuals_in_place():
    machine = GoldenMachine(TINY)
    rng = fill(machine, 4)
    p = Parameter(
        bias=-9, multiplier=40000, shift=20, residual_shift=9, residual_multiplier=700,
        zero_point=3, residual_zero=-4,
    )  # fmt: skip
    machine.acc[:12] = rng.integers(-3000, 3000, (12, 4))
    machine.par[:6] = np.frombuffer(p.encode(), np.uint8)
    before = machine.act[:36].reshape(6, 6).copy()
    fields = {"dst": 0, "dst_pixel": 6, "res_pixel": 6, "ox": 6, "channels": 6, "src_block": 6}
    run(machine, Instruction(Opcode.DRAIN, {**fields, "residual": 1}))
    sums = machine.acc[:12].reshape(2, 6, 4)
    expected = [
        [
            requantize_exactly(int(sums[c // 4, x, c % 4]), p, int(before[x, c]), 18)
            for c in range(6)
        ]
        for x in range(6)
    ]
    np.testing.assert_array_equal(machine.act[:36].reshape(6, 6), expected)


def test_drain_writes_transposed_through_a_table():
    machine = GoldenMachine(DEFAULT)
    rng = fill(machine, 5)
    machine.acc[: 2 * 9] = rng.integers(-128, 128, (18, 16))
    machine.par[:24] = np.frombuffer(Parameter(multiplier=1).encode(), np.uint8)
    machine.tbl[1] = np.abs(np.arange(-128, 128)) // 2
    fields = {
        "ox": 9, "channels": 24, "src_block": 9, "dst": 5, "dst_pixel": 1, "dst_jump": 2, "table": 2
    }  # fmt: skip
    assert run(machine, Instruction(Opcode.DRAIN, fields)).error == Error.NONE
    sums = np.concatenate([machine.acc[:9], machine.acc[9:18]], axis=1)[:, :24]
    rows = machine.act[5 : 5 + 24 * 33].reshape(24, 33)[:, :9]
    np.testing.assert_array_equal(rows, np.abs(sums.T) // 2)


# -- transfers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", list(Memory))
def test_loads_scatter_rows(memory):
    machine = GoldenMachine(TINY)
    source = bytes(range(1, 129))
    fields = {
        "memory": memory, "segment": Segment.INPUT, "offset": 8, "length": 16, "rows": 3,
        "dram_pitch": 40, "local": 64, "local_pitch": 24,
    }  # fmt: skip
    before = machine.peek(0, 256, memory)
    assert run(machine, Instruction(Opcode.LOAD, fields), segments=(b"", source, b"", b"")).tag == 5
    expected = bytearray(before)
    for row in range(3):
        expected[64 + 24 * row : 80 + 24 * row] = source[8 + 40 * row : 24 + 40 * row]
    assert machine.peek(0, 256, memory) == bytes(expected)


def test_loads_wrap_and_later_rows_win():
    machine = GoldenMachine(SMALLEST)
    source = bytes(range(100, 132))
    fields = {"local": 254, "length": 5, "rows": 2, "dram_pitch": 16, "local_pitch": 3}
    run(machine, Instruction(Opcode.LOAD, fields), segments=(source, b"", b"", b""))
    assert machine.peek(254, 8) == bytes([100, 101, 102, 116, 117, 118, 119, 120])


def test_stores_gather_rows_and_touch_nothing_else():
    machine = GoldenMachine(SMALLEST)
    machine.act[:] = np.arange(-128, 128)
    fields = {
        "segment": Segment.OUTPUT, "offset": 8, "length": 5, "rows": 2, "dram_pitch": 16,
        "local": 253, "local_pitch": 10,
    }  # fmt: skip
    before = (b"abc", b"d" * 8, b"e" * 40, b"f")
    result = run(machine, Instruction(Opcode.STORE, fields), segments=before)
    assert result.segments[:2] == before[:2]
    assert result.segments[3] == before[3]
    expected = bytearray(b"e" * 40)
    expected[8:13] = np.array([125, 126, 127, -128, -127], np.int8).tobytes()
    expected[24:29] = np.arange(-121, -116, dtype=np.int8).tobytes()
    assert result.segments[2] == bytes(expected)
    assert before[2] == b"e" * 40


# -- traps -------------------------------------------------------------------------------------

POST = {"post": post_bit(Unit.LOAD, Unit.STORE, 0)}
LOAD = Instruction(Opcode.LOAD, {"length": 16})
FILLER = (bytes(range(16)), b"", bytes(16), b"")


@pytest.mark.parametrize(
    ("fields", "room"),
    [
        ({"length": 16}, 16),
        ({"length": 9}, 9),
        ({"offset": 8, "length": 1}, 9),
        ({"rows": 3, "dram_pitch": 8}, 17),
        ({"offset": 2**32 - 8, "length": 8, "rows": 2, "dram_pitch": 8}, None),
    ],
)
@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.STORE])
def test_windows(opcode, fields, room):
    instruction = Instruction(opcode, {"segment": Segment.SCRATCH, **fields})
    machine = GoldenMachine(TINY)
    machine.act[:] = 1
    if room is not None:
        segments = (b"", b"", b"", bytes(room))
        assert run(machine, instruction, segments=segments).error == Error.NONE
    machine.act[:] = 1
    segments = (b"", b"", b"", bytes((room or 64) - 1))
    result = run(machine, Instruction(Opcode.LOAD), instruction, segments=(bytes(8), *segments[1:]))
    assert (result.error, result.error_pc, result.tag) == (Error.WINDOW, 32, 0)
    assert result.segments[3] == segments[3]
    assert machine.peek(1, 63) == b"\1" * 63


@pytest.mark.parametrize(
    ("word", "error"),
    [
        (bytes(32), Error.OPCODE),
        (b"\x07" + bytes(31), Error.OPCODE),
        (LOAD.encode()[:31] + b"\x80", Error.RESERVED),
        (b"\x02" + bytes(31), Error.FIELD),
        (Instruction(Opcode.LOAD, {"offset": 4}).encode(), Error.ALIGNMENT),
        (Instruction(Opcode.END, {"wait": 1}).encode(), Error.FIELD),
    ],
)
def test_illegal_words_trap_after_what_precedes_them(word, error):
    machine = GoldenMachine(TINY)
    result = machine.execute(LOAD.encode() + word + END.encode(), FILLER)
    assert (result.error, result.error_pc, result.tag) == (error, 32, 0)
    assert machine.peek(0, 16) == FILLER[0]
    with pytest.raises(DeviceError, match=f"stopped with {error.name} at instruction 1: "):
        result.require()


def test_nothing_after_end_is_looked_at():
    machine = GoldenMachine(TINY)
    result = machine.execute(END.encode() + bytes(32), NO_SEGMENTS)
    assert (result.error, result.error_pc, result.tag) == (Error.NONE, 0, 5)
    assert result.require() is result


@pytest.mark.parametrize("count", [0, 2])
def test_missing_end(count):
    result = GoldenMachine(TINY).execute(LOAD.encode() * count, FILLER)
    assert (result.error, result.error_pc) == (Error.PROGRAM_END, 32 * count)


def test_half_an_instruction_is_refused():
    with pytest.raises(ValueError, match="whole instructions, not 33 bytes"):
        GoldenMachine(TINY).execute(bytes(33), NO_SEGMENTS)


def test_waiting_in_vain_is_the_watchdogs():
    waiting = Instruction(Opcode.STORE, {"wait": wait_bit(Unit.STORE, Unit.LOAD, 0)})
    result = run(GoldenMachine(TINY), LOAD, waiting, segments=FILLER)
    assert (result.error, result.error_pc) == (Error.WATCHDOG, 32)


def test_semaphores_left_at_end():
    result = run(GoldenMachine(TINY), Instruction(Opcode.LOAD, POST), segments=FILLER)
    assert (result.error, result.error_pc, result.tag) == (Error.SEMAPHORE_LEFT, 32, 0)


def test_semaphore_overflow():
    posts = [Instruction(Opcode.LOAD, POST)] * SEMAPHORE_MAX
    waits = [
        Instruction(
            Opcode.STORE,
            {"segment": Segment.OUTPUT, "wait": wait_bit(Unit.STORE, Unit.LOAD, 0)},
        )
    ] * SEMAPHORE_MAX
    machine = GoldenMachine(TINY)
    assert run(machine, *posts, *waits, segments=FILLER).error == Error.NONE
    result = run(machine, *posts, posts[0], *waits, waits[0], segments=FILLER)
    assert (result.error, result.error_pc) == (Error.SEMAPHORE_OVERFLOW, 32 * SEMAPHORE_MAX)


def test_weight_semaphores_belong_to_weight():
    load = Instruction(Opcode.LOAD, {"post": post_bit(Unit.LOAD, Unit.WEIGHT, 1)})
    matmul = Instruction(Opcode.MATMUL, {"weight_wait": 2, "weight_post": 1})
    back = Instruction(Opcode.LOAD, {"wait": wait_bit(Unit.LOAD, Unit.WEIGHT, 0)})
    assert run(GoldenMachine(TINY), load, matmul, back, segments=FILLER).error == Error.NONE
    result = run(GoldenMachine(TINY), matmul, segments=FILLER)
    assert (result.error, result.error_pc) == (Error.WATCHDOG, 0)


# -- the device --------------------------------------------------------------------------------


def test_device_keeps_memories_between_runs():
    device = open_device("golden", TINY, latency=3)
    assert isinstance(device, GoldenDevice)
    device.run(Job(LOAD.encode() + END.encode(), FILLER)).require()
    store = Instruction(Opcode.STORE, {"segment": Segment.OUTPUT, "length": 16})
    result = device.run(Job(store.encode() + END.encode(), FILLER)).require()
    assert result.segments[2] == FILLER[0]
    assert result.counters == {}
    assert result.completions(Unit.STORE).shape == (0,)
    device.close()
