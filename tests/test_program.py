"""Program files: what is saved is loaded; whatever else is refused in one sentence."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import save as container
from weft.hdl.config import PRESETS
from weft.hdl.isa import Instruction, Opcode, Segment
from weft.host.disasm import listing
from weft.host.errors import WeftError
from weft.host.golden import GoldenDevice
from weft.host.program import Layer, Port, Program, ProgramError, _digest, _parse, load

TINY = PRESETS["tiny"]
INPUT = Port("image", Segment.INPUT, 8, (2, 2, 3), 16, 4, 0.5, -3)
OUTPUT = Port("scores", Segment.OUTPUT, 0, (1, 1, 10), 16, 10, 0.25, 4)
DUMP = Port("features", Segment.SCRATCH, 8, (1, 2, 4), 8, 4)
END = Instruction(Opcode.END, {"tag": 9})
COPY = [
    Instruction(
        Opcode.LOAD,
        {"segment": 1, "offset": 8, "length": 12, "rows": 2, "dram_pitch": 16, "local_pitch": 12},
    ),
    Instruction(Opcode.DRAIN, {"dst": 512}),
    Instruction(Opcode.STORE, {"segment": 2, "length": 16}),
]


def make(**changes) -> Program:
    fields = {
        "name": "sample",
        "config": TINY,
        "code": b"".join(i.encode() for i in (*COPY, END)),
        "const": bytes(range(40)),
        "input_bytes": 40,
        "output_bytes": 16,
        "scratch_bytes": 24,
        "input": INPUT,
        "output": OUTPUT,
        "layers": (Layer("c1", "conv", 640, 12, (1,), DUMP), Layer("fc", "linear", 60, 9, (1,))),
    }
    return Program(**{**fields, **changes})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "sample.weft"
    make().save(path)
    return path


def refusal(action, *arguments) -> str:
    """The one sentence with which `action` fails."""
    with pytest.raises(ProgramError) as error:
        action(*arguments)
    assert isinstance(error.value, WeftError)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- use ---------------------------------------------------------------------------------------


def test_round_trip(saved):
    assert load(saved) == make()
    assert load(saved, dataclasses.replace(TINY, name="renamed")) == make()


def test_numpy_scalars_are_numbers(tmp_path):
    port = dataclasses.replace(INPUT, offset=np.int64(8), scale=np.float32(0.5))
    make(input=port).save(tmp_path / "p.weft")
    assert load(tmp_path / "p.weft") == make()


def test_empty_segments(tmp_path):
    program = make(const=b"", scratch_bytes=0, layers=())
    program.save(tmp_path / "p.weft")
    assert load(tmp_path / "p.weft") == program


def test_pack_and_unpack():
    program = make()
    x = np.arange(-6, 6, dtype=np.int8).reshape(2, 2, 3)
    packed = program.pack_input(x)
    expected = bytearray(40)
    for y in range(2):
        for z in range(2):
            for c in range(3):
                expected[8 + 16 * y + 4 * z + c] = int(x[y, z, c]) & 0xFF
    assert packed == bytes(expected)
    np.testing.assert_array_equal(program.unpack(INPUT, (b"", packed, b"", b"")), x)
    job = program.job(x)
    assert [len(s) for s in job.segments] == list(program.sizes) == [40, 40, 16, 24]
    assert job.segments[1] == packed
    assert not any(job.segments[2] + job.segments[3])


def test_runs_on_the_golden_machine(saved):
    program = load(saved)
    x = np.arange(12, dtype=np.int8).reshape(2, 2, 3)
    result = GoldenDevice(TINY).run(program.job(x)).require()
    assert result.tag == 9
    assert result.segments[2] == bytes([0, 1, 2, 0, 3, 4, 5, 0, 0, 0, 0, 0, 6, 7, 8, 0])
    assert program.unpack(OUTPUT, result.segments).tolist() == [[[0, 1, 2, 0, 3, 4, 5, 0, 0, 0]]]


@pytest.mark.parametrize(
    "x", [np.zeros((2, 2, 3)), np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2, 2), np.int8)]
)
def test_wrong_inputs(x):
    message = refusal(make().job, x)
    assert message == f"input 'image' must be int8 (2, 2, 3), not {x.dtype} {x.shape}"


def test_short_segments():
    message = refusal(make().unpack, OUTPUT, (b"", b"", bytes(9), b""))
    assert message == "port 'scores' ends at byte 10 of OUTPUT, which has 9"


def test_macs():
    assert make().macs == 700


def test_listing():
    assert listing(make()).splitlines() == [
        "; sample for tiny",
        "; bytes: CONST 40, INPUT 40, OUTPUT 16, SCRATCH 24",
        "0  LOAD   memory=act segment=input offset=8 length=12 rows=2 dram_pitch=16 local_pitch=12",
        "1  DRAIN  dst=512 reduce=none",
        "; end of conv c1",
        "; end of linear fc",
        "2  STORE  segment=output length=16",
        "3  END    tag=9",
    ]


# -- contradictions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": b""}, "code must be whole instructions of 32 bytes, not 0 bytes"),
        ({"code": bytes(40)}, "code must be whole instructions of 32 bytes, not 40 bytes"),
        ({"output_bytes": -1}, "segment OUTPUT cannot have -1 bytes"),
        ({"scratch_bytes": 1 << 32}, "segment SCRATCH cannot have 4294967296 bytes"),
        ({"input": OUTPUT}, "port 'scores' must lie in INPUT, not in OUTPUT"),
        ({"output": INPUT}, "port 'image' must lie in OUTPUT, not in INPUT"),
        ({"input_bytes": 30}, "port 'image' ends at byte 31 of INPUT, which has 30"),
        ({"output_bytes": 9}, "port 'scores' ends at byte 10 of OUTPUT, which has 9"),
        ({"scratch_bytes": 15}, "port 'features' ends at byte 16 of SCRATCH, which has 15"),
    ],
)
def test_contradictions(changes, message):
    assert refusal(lambda: make(**changes)) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (2, 3)}, "port 'image' has no (height, width, channels): (2, 3)"),
        ({"shape": (2, 0, 3)}, "port 'image' has no (height, width, channels): (2, 0, 3)"),
        ({"offset": -1}, "port 'image' has a negative offset or pitch"),
        ({"row_pitch": -16}, "port 'image' has a negative offset or pitch"),
        ({"pixel_pitch": 2}, "port 'image' has pitches at which its elements overlap"),
        ({"row_pitch": 6}, "port 'image' has pitches at which its elements overlap"),
        ({"scale": 0.0}, "port 'image' has no positive scale: 0.0"),
        ({"scale": float("nan")}, "port 'image' has no positive scale: nan"),
        ({"zero_point": 128}, "port 'image' has no INT8 zero point: 128"),
    ],
)
def test_bad_ports(changes, message):
    assert refusal(lambda: dataclasses.replace(INPUT, **changes)) == message


# -- files -------------------------------------------------------------------------------------


def test_saving_replaces_and_leaves_nothing_else(saved):
    make(name="second").save(saved)
    assert load(saved).name == "second"
    assert list(saved.parent.iterdir()) == [saved]


def test_unwritable_targets(tmp_path):
    target = tmp_path / "p.weft"
    target.mkdir()
    message = refusal(make().save, target)
    assert message.startswith(f"cannot write {target}: ")
    assert list(tmp_path.iterdir()) == [target]
    missing = tmp_path / "none" / "p.weft"
    assert refusal(make().save, missing) == f"cannot write {missing}: No such file or directory"


def test_unreadable_files(tmp_path):
    missing = tmp_path / "none.weft"
    assert refusal(load, missing) == f"cannot read {missing}: No such file or directory"
    assert refusal(load, tmp_path) == f"cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize("part", range(16))
def test_truncated_files(saved, part):
    data = saved.read_bytes()
    saved.write_bytes(data[: len(data) * part // 16])
    assert refusal(load, saved) == f"{saved}: not a program file, or a damaged one"


def test_longer_files(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    assert refusal(load, saved) == f"{saved}: not a program file, or a damaged one"


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_any_damaged_byte_is_noticed(saved, mask):
    data = saved.read_bytes()
    for at in range(len(data)):
        refusal(_parse, data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])


def foreign(**metadata):
    return container({"code": np.zeros(32, np.uint8), "const": np.zeros(0, np.uint8)}, metadata)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04" + bytes(200),
        b"\x80\x04" + bytes(100),
        bytes(1 << 12),
        foreign(),
        foreign(weft="["),
        foreign(weft="[]"),
        foreign(weft="{}"),
        foreign(weft="[" * 100_000),
        foreign(other="{}"),
        container({"w": np.zeros(3, np.float32)}),
    ],
)
def test_foreign_files(tmp_path, data):
    path = tmp_path / "p.weft"
    path.write_bytes(data)
    assert refusal(load, path) == f"{path}: not a program file, or a damaged one"


def forge(path, program, tensors=None, *, sign=True, **changes):
    """Write a file with a valid digest and something wrong in its header."""
    header = {**json.loads(json.dumps(program._header([]))), **changes}
    header = {k: v for k, v in header.items() if v is not ...}
    digest = _digest(header, program.code, program.const) if sign else "0" * 64
    content = {"code": program.code, "const": program.const}
    content = {k: np.frombuffer(v, np.uint8) for k, v in content.items()}
    meta = {"weft": json.dumps({**header, "digest": digest})}
    path.write_bytes(container(content if tensors is None else tensors(content), meta))
    return path


HEADERS = [
    ({"format": 2}, "program format 2 is not format 3, the one this version reads; "),
    ({"format": "x"}, "program format 'x' is not format 3, the one this version reads"),
    ({"sign": False}, "the file is damaged: its digest does not match its contents"),
    ({"fingerprint": "0" * 16}, "the fingerprint is not that of the configuration beside it"),
    ({"config": {"rows": 5}}, "its configuration is not legal: rows must be a multiple of 4"),
    ({"config": {"height": 5}}, "its description is not complete: "),
    ({"config": None}, "its description is not complete: "),
    ({"sizes": [40, 40, 16]}, "segment sizes [40, 40, 16] contradict 40 bytes of constants"),
    ({"sizes": [39, 40, 16, 24]}, "segment sizes [39, 40, 16, 24] contradict 40 bytes"),
    ({"sizes": [40, 30, 16, 24]}, "port 'image' ends at byte 31 of INPUT, which has 30"),
    ({"sizes": [40, "40", 16, 24]}, "its description is not complete: '40' is not an integer"),
    ({"sizes": [40, True, 16, 24]}, "its description is not complete: True is not an integer"),
    ({"name": ...}, "its description is not complete: 'name'"),
    ({"name": 3}, "its description is not complete: 3 is not a name of 1 to 200 characters"),
    ({"input": ...}, "its description is not complete: 'input'"),
    ({"input": {"name": "x"}}, "its description is not complete: 'segment'"),
    ({"batch": ...}, "its description is not complete: 'batch'"),
    ({"batch": "2"}, "its description is not complete: '2' is not an integer"),
    ({"batch": 0}, "a batch has at least 1 image, not 0"),
    ({"batch": 2}, "port 'scores' has 1 rows, which do not make 2 images"),
    ({"layers": 7}, "its description is not complete: "),
    ({"layers": [{"name": "x"}]}, "its description is not complete: 'kind'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), HEADERS, ids=lambda x: str(x)[:30])
def test_forged_headers(tmp_path, changes, message):
    path = forge(tmp_path / "p.weft", make(), **changes)
    assert refusal(load, path).startswith(f"{path}: {message}")


def test_undefined_segments(tmp_path):
    port = {**dataclasses.asdict(INPUT), "segment": 4}
    path = forge(tmp_path / "p.weft", make(), input=port)
    assert (
        refusal(load, path) == f"{path}: its description is not complete: 4 is not a valid Segment"
    )


@pytest.mark.parametrize(
    "tensors",
    [
        lambda t: {"code": t["code"]},
        lambda t: {**t, "extra": t["const"]},
        lambda t: {**t, "code": t["code"].view(np.int8)},
        lambda t: {**t, "code": t["code"].reshape(2, -1)},
    ],
)
def test_forged_tensors(tmp_path, tensors):
    path = forge(tmp_path / "p.weft", make(), tensors)
    expected = f"{path}: not a program file: it must hold byte tensors 'code' and 'const'"
    assert refusal(load, path) == expected


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (bytes(32), "instruction 0 is not legal: undefined opcode 0"),
        (
            Instruction(Opcode.LOAD, {"offset": 4}).encode() + END.encode(),
            "instruction 0 is not legal: LOAD.offset must be a multiple of 8 bytes, not 4",
        ),
        (COPY[0].encode(), "the code must have one END, at instruction 0, not none"),
        (END.encode() * 2, "the code must have one END, at instruction 1, not [0, 1]"),
        (
            END.encode() + COPY[0].encode(),
            "the code must have one END, at instruction 1, not [0]",
        ),
        (
            COPY[1].encode() * 2 + END.encode(),
            "layer 'c1' ends with VECTOR instruction 3 of 2",
        ),
    ],
)
def test_code_that_cannot_run(tmp_path, code, message):
    program = make(code=code, layers=(Layer("c1", "conv", 1, 1, (3,)),))
    program.save(tmp_path / "p.weft")
    assert refusal(load, tmp_path / "p.weft") == f"{tmp_path / 'p.weft'}: {message}"


def test_other_machines(saved):
    small = PRESETS["small"]
    assert refusal(load, saved, small) == (
        f"{saved}: compiled for configuration 'tiny' ({TINY.fingerprint:016x}), "
        f"not for 'small' ({small.fingerprint:016x}); compile it again"
    )
