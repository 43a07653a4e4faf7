"""The checker: every kind of hazard is refused by name, and its repaired twin passes."""

import random
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weft.hdl.config import PRESETS
from weft.hdl.isa import SEMAPHORE_MAX, Instruction, Opcode, Unit
from weft.host.check import CheckError, check
from weft.host.disasm import assemble
from weft.host.errors import WeftError
from weft.host.regions import Region, RegionError, WrappedRegion, accesses

#: ACT has 4 banks of 8192 bytes, ACC halves of 256 entries, PAR 256 entries, WGT 4096 rows of 4.
TINY = PRESETS["tiny"]
SIZES = (4096, 4096, 4096, 4096)


def refusal(text: str, sizes=SIZES) -> CheckError:
    with pytest.raises(CheckError) as error:
        check(assemble(text), TINY, sizes)
    assert isinstance(error.value, WeftError)
    assert "\n" not in str(error.value)
    return error.value


def passes(text: str) -> None:
    check(assemble(text), TINY, SIZES)


# -- hazards between two units -----------------------------------------------------------------

#: Two instructions that touch the same thing, the first one's unit, the second's, what is said.
#: ACT is arranged so that only the hazard in question exists.
PAIRS = {
    "ACT load → matmul": (
        "LOAD length=64",
        "MATMUL kc=4 act=8 ox=2 width=2 pixel_pitch=16",
        "LOAD", "MATMUL",
        "reads ACT bytes 8 to 11 while instruction 0 (LOAD) may still write them",
    ),
    "ACT matmul → load": (
        "MATMUL kc=4 act=8",
        "LOAD length=64",
        "MATMUL", "LOAD",
        "writes ACT bytes 8 to 11 while instruction 0 (MATMUL) may still read them",
    ),
    "ACT load → store": (
        "LOAD length=8 rows=2 dram_pitch=8 local_pitch=16",
        "STORE segment=output local=16 length=8",
        "LOAD", "STORE",
        "reads ACT bytes 16 to 23 while instruction 0 (LOAD) may still write them",
    ),
    "ACT store → load": (
        "STORE segment=output length=8",
        "LOAD local=7 length=8",
        "STORE", "LOAD",
        "writes ACT bytes 7 to 7 while instruction 0 (STORE) may still read them",
    ),
    "ACT drain → matmul": (
        "DRAIN dst=40 channels=4",
        "MATMUL kc=4 acc=256 act=40",
        "VECTOR", "MATMUL",
        "reads ACT bytes 40 to 43 while instruction 0 (DRAIN) may still write them",
    ),
    "ACT drain → store": (
        "DRAIN dst=40 channels=4",
        "STORE segment=output local=40 length=1",
        "VECTOR", "STORE",
        "reads ACT bytes 40 to 40 while instruction 0 (DRAIN) may still write them",
    ),
    "ACT load → residual": (
        "LOAD local=8192 length=8",
        "DRAIN residual=1 res=8195",
        "LOAD", "VECTOR",
        "reads ACT bytes 8195 to 8195 while instruction 0 (LOAD) may still write them",
    ),
    "ACT load → pool": (
        "LOAD local=8192 length=8",
        "POOL src=8192 src_row=4 oy=2 height=2 dst_row=1",
        "LOAD", "VECTOR",
        "reads ACT bytes 8192 to 8192 while instruction 0 (LOAD) may still write them",
    ),
    "WGT load → weight": (
        "LOAD memory=wgt local=16 length=16 local_pitch=16",
        "MATMUL kc=5 act=8",
        "LOAD", "WEIGHT",
        "reads WGT bytes 16 to 31 while instruction 0 (LOAD) may still write them",
    ),
    "WGT weight → load": (
        "MATMUL kc=4 wgt=4 blocks=2",
        "LOAD memory=wgt local=40 length=16",
        "WEIGHT", "LOAD",
        "writes WGT bytes 40 to 47 while instruction 0 (MATMUL) may still read them",
    ),
    "PAR load → vector": (
        "LOAD memory=par local=64 length=64",
        "POOL src=16384 par=3 channels=2",
        "LOAD", "VECTOR",
        "reads PAR bytes 64 to 79 while instruction 0 (LOAD) may still write them",
    ),
    "PAR vector → load": (
        "DRAIN par=7",
        "LOAD memory=par local=64 length=64",
        "VECTOR", "LOAD",
        "writes PAR bytes 112 to 127 while instruction 0 (DRAIN) may still read them",
    ),
    "TBL load → drain": (
        "LOAD memory=tbl local=64 length=64",
        "DRAIN table=1",
        "LOAD", "VECTOR",
        "reads TBL bytes 64 to 127 while instruction 0 (LOAD) may still write them",
    ),
    "TBL pool → load": (
        "POOL src=16384 table=1",
        "LOAD memory=tbl local=248 length=8",
        "VECTOR", "LOAD",
        "writes TBL bytes 248 to 255 while instruction 0 (POOL) may still read them",
    ),
    "ACT transposed → store": (
        "DRAIN dst=8 dst_jump=2 dst_pixel=1 ox=5 channels=4",
        "STORE segment=output local=41 length=2",
        "VECTOR", "STORE",
        "reads ACT bytes 42 to 42 while instruction 0 (DRAIN) may still write them",
    ),
    "ACC matmul → drain": (
        "MATMUL kc=1 act=16384 ox=4 width=4",
        "DRAIN src=100",
        "MATMUL", "VECTOR",
        "reads an ACC half in which instruction 0 (MATMUL) may still accumulate",
    ),
    "ACC drain → matmul": (
        "DRAIN src=300",
        "MATMUL kc=1 act=16384 acc=500",
        "VECTOR", "MATMUL",
        "writes an ACC half in which instruction 0 (DRAIN) may still read",
    ),
    "DRAM store → load": (
        "STORE segment=scratch offset=64 length=8",
        "LOAD segment=scratch local=8192 length=80",
        "STORE", "LOAD",
        "reads SCRATCH bytes 64 to 71 while instruction 0 (STORE) may still write them",
    ),
    "DRAM load → store": (
        "LOAD segment=scratch local=8192 length=8 rows=2 dram_pitch=64",
        "STORE segment=scratch offset=64 length=5",
        "LOAD", "STORE",
        "writes SCRATCH bytes 64 to 68 while instruction 0 (LOAD) may still read them",
    ),
    "bank matmul and store": (
        "MATMUL kc=4 act=8192",
        "STORE segment=output local=16383 length=1",
        "MATMUL", "STORE",
        "reads ACT bank 1 (bytes 8192 to 16383) while instruction 0 (MATMUL) may still read it",
    ),
    "bank pool and store": (
        "POOL src=24575 dst=0",
        "STORE segment=output local=16384 length=1",
        "VECTOR", "STORE",
        "reads ACT bank 2 (bytes 16384 to 24575) while instruction 0 (POOL) may still read it",
    ),
    "bank residual and matmul": (
        "DRAIN residual=1 res=9000 src=256",
        "MATMUL kc=4 act=8192",
        "VECTOR", "MATMUL",
        "reads ACT bank 1 (bytes 8192 to 16383) while instruction 0 (DRAIN) may still read it",
    ),
    "bank load and drain": (
        "LOAD local=8000 length=193",
        "DRAIN dst=16000",
        "LOAD", "VECTOR",
        "writes ACT bank 1 (bytes 8192 to 16383) while instruction 0 (LOAD) may still write it",
    ),
}  # fmt: skip


def ordered(first: str, second: str, producer: str, consumer: str) -> str:
    """The two with a semaphore from the first to the second."""
    weight = {"WEIGHT": "weight_"}
    post = f"{weight.get(producer, '')}post={consumer.lower()}.0"
    wait = f"{weight.get(consumer, '')}wait={producer.lower()}.0"
    return f"{first} {post}\n{second} {wait}\nEND"


@pytest.mark.parametrize("name", PAIRS)
def test_hazards(name):
    first, second, producer, consumer, message = PAIRS[name]
    error = refusal(f"{first}\n{second}\nEND")
    assert str(error).startswith(f"instruction 1 ({second.split()[0]}) {message}")
    assert error.instructions == (0, 1)
    passes(ordered(first, second, producer, consumer))


@pytest.mark.parametrize("name", PAIRS)
def test_a_post_before_the_access_orders_nothing(name):
    first, second, producer, consumer, _ = PAIRS[name]
    idle = {
        "LOAD": "LOAD local=32760 length=8 segment=input offset=4088",
        "WEIGHT": "MATMUL act=32767 wgt=4092 acc=511",
        "MATMUL": "MATMUL act=32767 wgt=4092 acc=511",
        "VECTOR": "POOL src=32767 dst=32000 par=255",
        "STORE": "STORE local=32760 segment=output offset=4088",
    }[producer]
    pair = ordered(idle, second, producer, consumer).splitlines()
    error = refusal("\n".join([pair[0], first, *pair[1:]]))
    assert error.instructions == (1, 2)


def test_every_pair_of_communicating_units_appears():
    seen = {(Unit[p[2]], Unit[p[3]]) for p in PAIRS.values()}
    assert len(seen) >= 11


# -- what is no hazard -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        # Interleaved rows, interleaved pixels, other banks, other halves, two readers of DRAM.
        "LOAD length=8 rows=9 dram_pitch=8 local_pitch=32\n"
        "STORE segment=output local=8 length=24 rows=8 dram_pitch=24 local_pitch=32",
        "DRAIN dst=0 dst_pixel=8 ox=9 channels=4\n"
        "STORE segment=output local=4 length=4 rows=9 dram_pitch=8 local_pitch=8",
        # A transposed result among others: its 64 rows of 40 bytes lie 65 apart.
        "DRAIN dst_jump=8 dst_pixel=1 ox=40 channels=64\n"
        "STORE segment=output local=40 length=25 rows=64 dram_pitch=32 local_pitch=65",
        "DRAIN dst_jump=8 dst_row=7 dst_pixel=3 oy=2 ox=2 channels=9\n"
        "STORE segment=output local=1 length=2 rows=9 dram_pitch=8 local_pitch=65",
        # Its single channels leave banks out.
        "DRAIN dst_jump=2048 channels=2\nLOAD local=8192 length=4096",
        "LOAD memory=tbl length=256\nDRAIN",
        "MATMUL kc=4 act=8192\nSTORE segment=output local=16384",
        "MATMUL kc=1 act=16384 ox=4 width=4\nDRAIN src=256",
        "LOAD memory=par length=64\nDRAIN par=4",
        "LOAD memory=wgt length=64\nMATMUL wgt=16",
        "LOAD local=8184 length=8\nDRAIN dst=8192",
        "STORE segment=scratch length=8\nLOAD segment=output local=8192",
        "STORE segment=scratch length=8\nLOAD segment=scratch offset=8 local=8192",
        # Padding is not read.
        "LOAD length=8\nMATMUL kc=4 act=0 iy0=-1 oy=1 height=4 row_pitch=16 acc=256",
        "LOAD local=16 length=8\n"
        "MATMUL kc=4 act=1048568 ix0=-1 kx=4 pixel_pitch=8 width=2 height=1",
        # One unit's instructions are in order.
        "LOAD length=8\nLOAD length=8",
        "MATMUL act=0\nMATMUL act=0 accumulate=1",
        "DRAIN dst=0\nDRAIN dst=0 residual=1 res=0",
    ],
)  # fmt: skip
def test_disjoint_accesses_pass(text):
    passes(text + "\nEND")


def test_order_is_transitive():
    passes(
        """
        LOAD length=8 post=matmul.0
        MATMUL act=0 wait=load.0 post=vector.0
        DRAIN dst=8192 wait=matmul.0 post=store.0
        STORE segment=output local=0 wait=vector.0 post=load.1
        LOAD length=8 wait=store.1
        END
    """.replace("post=load.1", "post=load.0").replace("wait=store.1", "wait=store.0")
    )


def test_matmul_implies_its_weights():
    stream = """
        MATMUL wgt=0 act=16384 post=load.1
        {}
        LOAD memory=wgt length=16 wait=matmul.1
        END
    """
    passes(stream.format(""))
    assert refusal(stream.format("MATMUL wgt=0 act=16384")).instructions == (1, 2)


def test_weights_do_not_imply_their_matmul():
    error = refusal("""
        MATMUL act=0 weight_post=load.0
        LOAD length=8 wait=weight.0
        END
    """)
    assert "writes ACT bytes 0 to 0" in str(error)


def test_a_wait_holds_for_later_instructions_of_the_unit():
    passes("""
        LOAD length=8 post=store.0
        STORE segment=output local=16384 wait=load.0
        STORE segment=output local=0
        END
    """)


def test_a_post_covers_earlier_instructions_of_the_unit():
    passes("""
        LOAD length=8
        LOAD local=8 length=8 post=store.0
        STORE segment=output local=0 wait=load.0
        END
    """)


def test_tokens_match_in_order():
    stream = """
        LOAD local=0 length=8 post=store.0
        LOAD local=8 length=8 post=store.0
        STORE segment=output local={} wait=load.0
        STORE segment=output local={} wait=load.0
        END
    """
    passes(stream.format(0, 8))
    assert refusal(stream.format(8, 0)).instructions == (1, 2)


# -- semaphores --------------------------------------------------------------------------------


def test_waits_need_earlier_posts():
    error = refusal("STORE segment=output wait=load.1\nLOAD local=8192 post=store.1\nEND")
    assert str(error) == (
        "instruction 0 (STORE) waits for semaphore LOAD → STORE 1, "
        "which no earlier instruction posts: it would wait forever"
    )
    passes("LOAD local=8192 post=store.1\nSTORE segment=output wait=load.1\nEND")


def test_semaphores_end_at_zero():
    error = refusal("LOAD post=weight.1\nLOAD post=weight.1\nEND")
    assert str(error) == "semaphore LOAD → WEIGHT 1 is 2, not zero, at END"


def test_an_instruction_cannot_wait_for_itself():
    error = refusal("MATMUL weight_wait=load.0 post=load.0\nEND")
    assert "waits for semaphore LOAD → WEIGHT 0" in str(error)


def overflowing(posts: int, spacing: int) -> str:
    """LOAD posts to STORE, each taken `spacing` STOREs later, all dispatched side by side."""
    lines = []
    for k in range(posts + spacing):
        if k < posts:
            lines.append("LOAD local=0 length=8 post=store.0")
        if k >= spacing:
            lines.append("STORE segment=output local=8192 wait=load.0")
    return "\n".join([*lines, "END"])


def test_overflow_at_maximal_run_ahead():
    # While a post completes, as many STOREs as the queue holds may not have started.
    most = SEMAPHORE_MAX - TINY.queue_depth
    passes(overflowing(200, most - 1))
    error = refusal(overflowing(200, most + 1))
    assert "may post semaphore LOAD → STORE 0 beyond its maximum of 63" in str(error)
    passes(overflowing(SEMAPHORE_MAX, 2 * SEMAPHORE_MAX))
    refusal(overflowing(SEMAPHORE_MAX + 1, 2 * SEMAPHORE_MAX))


# -- bounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("LOAD local=32760 length=8", "LOAD local=32761 length=8", "ACT addresses 32761 to 32768"),
        (
            "LOAD memory=wgt local=16376 length=8",
            "LOAD memory=wgt local=16376 length=16",
            "WGT addresses 16376 to 16391 wrap around its 16384",
        ),
        (
            "LOAD memory=par local=4088 length=8",
            "LOAD memory=par local=4088 length=8 rows=2 local_pitch=8",
            "PAR addresses 4088 to 4103 wrap around its 4096",
        ),
        ("STORE local=32767", "STORE local=32767 length=2", "ACT addresses 32767 to 32768"),
        ("MATMUL act=32764 kc=4", "MATMUL act=32764 kc=5", "ACT addresses 32764 to 32768"),
        ("MATMUL wgt=4092", "MATMUL wgt=4093", "WGT addresses 16372 to 16387 wrap around its"),
        (
            "MATMUL wgt=4084 kc=5",
            "MATMUL wgt=4084 kc=5 blocks=2",
            "WGT addresses 16336 to 16399 wrap around its 16384",
        ),
        (
            "MATMUL acc=508 oy=2 ox=2",
            "MATMUL acc=509 oy=2 ox=2",
            "ACC addresses 509 to 512 wrap around its 512",
        ),
        (
            "MATMUL act=1048570 iy0=-1 row_pitch=6 oy=2 height=4",
            "MATMUL act=1048570 row_pitch=6 oy=2 height=4",
            "ACT addresses 1048570 to 1048576 wrap around its 32768",
        ),
        (
            "DRAIN src=508 dst_pixel=1 ox=4",
            "DRAIN src=508 dst_pixel=1 ox=5",
            "ACC addresses 508 to 512",
        ),
        (
            "DRAIN channels=8 src_block=511",
            "DRAIN channels=9 src_block=256",
            "ACC addresses 0 to 512",
        ),
        ("DRAIN par=254 channels=2", "DRAIN par=254 channels=3", "PAR addresses 4064 to 4111"),
        ("DRAIN dst=32767", "DRAIN dst=32767 channels=2", "ACT addresses 32767 to 32768"),
        (
            "DRAIN channels=4 dst=20476 dst_jump=512",
            "DRAIN channels=4 dst=20477 dst_jump=512",
            "ACT addresses 20477 to 32768 wrap around its 32768",
        ),
        ("LOAD memory=tbl length=256", "LOAD memory=tbl length=264", "TBL addresses 0 to 263"),
        (
            "DRAIN residual=1 res=32767 dst=9",
            "DRAIN residual=1 res=32767 ox=2 res_pixel=1 dst=9 dst_pixel=1",
            "ACT addresses 32767 to 32768",
        ),
        (
            "POOL src=32767 dst=9",
            "POOL src=32767 dst=9 rx=2 reduce=max width=2 src_pixel=1",
            "ACT addresses 32767 to 32768",
        ),
        ("LOAD offset=4088 length=8", "LOAD offset=4088 length=9", "ends at byte 4097 of CONST"),
        (
            "STORE segment=scratch rows=2 dram_pitch=4088 length=8",
            "STORE segment=scratch rows=3 dram_pitch=4088 length=8",
            "ends at byte 8184 of SCRATCH, which has 4096",
        ),
    ],
)  # fmt: skip
def test_bounds(good, bad, message):
    passes(f"{good}\nEND")
    error = refusal(f"{bad}\nEND")
    assert str(error).startswith(f"instruction 0 ({bad.split()[0]})")
    assert message in str(error)
    assert error.instructions == (0,)


def test_rounded_lanes_are_refused():
    passes("MATMUL kc=4 kx=2 pixel_pitch=5 width=2\nEND")
    passes("MATMUL kc=3 kx=2 pixel_pitch=11 width=2\nEND")
    error = refusal("MATMUL kc=3 kx=2 pixel_pitch=5 width=2\nEND")
    assert "multiples of 8 bytes" in str(error)


# -- within an instruction ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (
            "DRAIN channels=4 ox=3 dst_pixel=4",
            "DRAIN channels=4 ox=3 dst_pixel=3",
            "writes an ACT byte twice",
        ),
        (
            "DRAIN channels=4 ox=3 dst_pixel=8 oy=2 dst_row=4",
            "DRAIN channels=4 ox=3 dst_pixel=8 oy=2 dst_row=16",
            "writes an ACT byte twice",
        ),
        (
            "DRAIN residual=1 res=64 dst=64 channels=4 ox=2 dst_pixel=4 res_pixel=4",
            "DRAIN residual=1 res=60 dst=64 channels=4 ox=2 dst_pixel=4 res_pixel=4",
            "overwrites ACT bytes 64 to 67 that it may still have to read",
        ),
        (
            "DRAIN residual=1 res=64 dst=72 channels=4 ox=2 dst_pixel=4 res_pixel=4",
            "DRAIN residual=1 res=64 dst=64 channels=4 ox=2 dst_pixel=4 res_pixel=8",
            "overwrites ACT bytes 64 to 67 that it may still have to read",
        ),
        ("POOL src=8 dst=9", "POOL src=8 dst=8", "overwrites ACT bytes 8 to 8"),
        (
            "DRAIN dst_jump=1 ox=9 dst_pixel=1 channels=4",
            "DRAIN dst_jump=1 ox=10 dst_pixel=1 channels=4",
            "writes an ACT byte twice",
        ),
        (
            "DRAIN residual=1 res=8 dst=8 dst_jump=1 channels=1",
            "DRAIN residual=1 res=8 dst=8 dst_jump=1 channels=10",
            "overwrites ACT bytes 8 to 8 that",
        ),
    ],
)
def test_overlap_within_an_instruction(good, bad, message):
    passes(f"{good}\nEND")
    error = refusal(f"{bad}\nEND")
    assert str(error).startswith(f"instruction 0 ({bad.split()[0]}) {message}")


# -- the stream --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"", "the stream is 0 bytes, not whole instructions"),
        (bytes(33), "the stream is 33 bytes, not whole instructions"),
        (assemble("LOAD"), "the stream has no END"),
        (assemble("END\nLOAD\nEND"), "instruction 1 is never reached: END precedes it"),
        (assemble("LOAD") + bytes(32), "instruction 1 is not legal: undefined opcode 0"),
        (
            assemble("LOAD offset=4\nEND"),
            "instruction 0 is not legal: LOAD.offset must be a multiple of 8 bytes, not 4",
        ),
    ],
)
def test_streams(code, message):
    with pytest.raises(CheckError) as error:
        check(code, TINY, SIZES)
    assert str(error.value) == message


def long_stream(count: int) -> str:
    """Rounds of load, multiply, drain and store, double-buffered, `count` instructions in all."""
    lines = []
    rounds = count // 4
    for k in range(rounds):
        half = k % 2
        reuse = k >= 2
        more = k + 2 < rounds
        lines += [
            f"LOAD local={8192 * half} length=64 post=matmul.0" + " wait=matmul.0" * reuse,
            f"MATMUL act={8192 * half} acc={256 * half} kc=4 oy=4 ox=4 row_pitch=16 pixel_pitch=4 "
            "height=4 width=4 post=vector.0" + "+load.0" * more
            + " wait=load.0" + "+vector.0" * reuse,
            f"DRAIN src={256 * half} src_row=4 oy=4 ox=4 channels=4 dst={16384 + 8192 * half} "
            "dst_pixel=4 dst_row=16 post=store.0" + "+matmul.0" * more
            + " wait=matmul.0" + "+store.0" * reuse,
            f"STORE segment=output local={16384 + 8192 * half} length=64 wait=vector.0"
            + " post=vector.0" * more,
        ]  # fmt: skip
    return "\n".join([*lines, "END"])


def test_double_buffering_passes_and_needs_each_of_its_semaphores():
    lines = long_stream(48).splitlines()
    passes("\n".join(lines))
    tokens = ["load → matmul", "matmul → load", "matmul → vector", "vector → matmul",
              "vector → store", "store → vector"]  # fmt: skip
    for token in tokens:
        producer, consumer = token.split(" → ")
        cut = []
        for line in lines:
            unit = {"DRAIN": "vector"}.get(line.split()[0], line.split()[0].lower())
            out = line
            if unit == producer:
                out = without(out, "post", f"{consumer}.0")
            if unit == consumer:
                out = without(out, "wait", f"{producer}.0")
            cut.append(out)
        assert cut != lines
        refusal("\n".join(cut))


def without(line: str, field: str, semaphore: str) -> str:
    """`line` without one semaphore of its wait or post set."""
    words = []
    for word in line.split():
        name, _, value = word.partition("=")
        if name == field:
            left = [s for s in value.split("+") if s != semaphore]
            word = f"{name}={'+'.join(left)}" if left else ""
        words.append(word)
    return " ".join(words)


@pytest.mark.speed
def test_long_streams_take_seconds():
    code = assemble(long_stream(4000))
    start = time.process_time()
    check(code, TINY, SIZES)
    assert time.process_time() - start < 8


# -- regions against golden addresses ----------------------------------------------------------


@settings(deadline=None)
@given(st.data())
def test_matmul_regions_are_exact(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kc, pitch = draw(1, 9), draw(0, 20)
    i = Instruction(
        Opcode.MATMUL,
        {
            "act": draw(8000, 9000), "kc": kc, "ky": draw(1, 3), "kx": draw(1, 3),
            "dy": draw(1, 2), "dx": draw(1, 2), "sy": draw(1, 3), "sx": draw(1, 3),
            "oy": draw(1, 4), "ox": draw(1, 4), "row_pitch": draw(0, 70), "pixel_pitch": pitch,
            "iy0": draw(-3, 3), "ix0": draw(-3, 3), "height": draw(1, 6), "width": draw(1, 6),
        },
    )  # fmt: skip
    lanes, total = TINY.act_lanes, i.ky * i.kx * i.kc

    def koff(k):
        return (
            k // i.kc // i.kx * i.dy * i.row_pitch
            + k // i.kc % i.kx * i.dx * i.pixel_pitch
            + k % i.kc
        )

    expected = set()
    rounded = False
    for y, x, k in product(range(i.oy), range(i.ox), range(total)):
        first = k - k % TINY.rows
        gap = koff(k) - koff(first) - k % TINY.rows
        rounded |= bool(gap % lanes)
        row = i.iy0 + y * i.sy + k // i.kc // i.kx * i.dy
        col = i.ix0 + x * i.sx + k // i.kc % i.kx * i.dx
        if 0 <= row < i.height and 0 <= col < i.width:
            base = i.act + y * i.sy * i.row_pitch + x * i.sx * i.pixel_pitch + koff(first)
            expected.add(base + k % TINY.rows + lanes * (gap // lanes))
    if rounded:
        with pytest.raises(RegionError, match="rounded"):
            accesses(i, TINY)
        touched = accesses(i, TINY, strict=False)
        regions = [a.region for a in touched if a.unit == Unit.MATMUL and not a.write]
        assert {address % TINY.act_bytes for address in expected} <= addresses(regions)
        return
    touched = [a.region for a in accesses(i, TINY) if a.unit == Unit.MATMUL and not a.write]
    assert addresses(touched) == expected


def addresses(regions) -> set[int]:
    found = set()
    for region in regions:
        for start, end in zip(*region.intervals, strict=True):
            found |= set(range(int(start), int(end)))
        assert (region.low, region.high - 1) == (min(found), max(found))
    return found


@given(st.integers(0, 1 << 32))
def test_regions_meet_where_their_addresses_do(seed):
    rng = random.Random(seed)

    def region():
        rows = np.cumsum([rng.randrange(40) for _ in range(rng.randrange(1, 4))])
        pixels = np.cumsum([rng.randrange(rng.choice((9, 40))) for _ in range(rng.randrange(1, 4))])
        run = rng.randrange(1, rng.choice((6, 60)))
        if rng.random() < 0.5:
            return Region("ACT", rows, pixels, run)
        wrapped = WrappedRegion("ACT", rows - 20, pixels, run, 32)
        plain = Region("ACT", rows + 12, pixels, run)
        assert addresses([wrapped]) == {address % 32 for address in addresses([plain])}
        return wrapped

    a, b = region(), region()
    common = addresses([a]) & addresses([b])
    stretch = a.meet(b)
    assert bool(common) == (stretch is not None)
    if stretch is not None:
        assert stretch[0] == min(common)
        assert set(range(*stretch)) <= common
    assert a.injective == (len(addresses([a])) == a.rows.size * a.pixels.size * a.run)
    assert a.banks(16) == sum(1 << bank for bank in {x // 16 for x in addresses([a])})
    assert a.meet(Region("WGT", a.rows, a.pixels, a.run)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LOAD local=32767 segment=input length=2", "wrap around"),
        ("MATMUL kc=3 kx=2 pixel_pitch=5", "rounded"),
        ("DRAIN ox=2 dst_pixel=1 channels=2 src_row=2", "writes an ACT byte twice"),
    ],
)
def test_what_is_legal_but_unwanted_passes_where_asked(text, message):
    assert message in str(refusal(f"{text}\nEND"))
    check(assemble(f"{text}\nEND"), TINY, SIZES, strict=False)


def test_hazards_around_the_end_of_a_memory():
    """A LOAD that wraps around meets what another unit reads at the start."""
    load = "LOAD local=32767 segment=input length=9"
    store = "STORE local=0 segment=output length=4"
    with pytest.raises(CheckError, match="ACT bytes 0 to 3 while"):
        check(assemble(f"{load}\n{store}\nEND"), TINY, SIZES, strict=False)
    check(assemble(f"{load} post=store.0\n{store} wait=load.0\nEND"), TINY, SIZES, strict=False)


@settings(deadline=None)
@given(st.data())
def test_drain_regions_are_exact(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    i = Instruction(
        Opcode.DRAIN,
        {
            "dst": draw(0, 9000), "dst_row": draw(0, 300), "dst_pixel": draw(0, 9),
            "dst_jump": draw(0, 40), "oy": draw(1, 4), "ox": draw(1, 5), "channels": draw(1, 9),
        },
    )  # fmt: skip
    expected = [
        i.dst + y * i.dst_row + x * i.dst_pixel + c * (1 + TINY.act_lanes * i.dst_jump)
        for y, x, c in product(range(i.oy), range(i.ox), range(i.channels))
    ]
    target = next(a.region for a in accesses(i, TINY) if a.write)
    assert addresses([target]) == set(expected)
    assert target.injective == (len(set(expected)) == len(expected))
    assert target.banks(512) == sum(1 << bank for bank in {x // 512 for x in expected})
