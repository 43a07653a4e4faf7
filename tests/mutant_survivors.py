"""Why mutants that no test notices are not noticed."""

from __future__ import annotations

import re

#: (component, pattern of the mutant as text, reason); the first that fits counts.
EXPLAINED: tuple[tuple[str, str, str], ...] = (
    (
        "decoder",
        r"cnot1 by bit 25[1-5] at .*",
        "bits 251 to 255 are reserved in every format: a word that has one becomes nothing but a "
        "trap, of which only error and place count",
    ),
    (
        "load|store",
        r"const0 at .*splitter\._028_\[[0-2]\] \(add\.Y\)|"
        r"cnot1 by bit [0-2] at .*splitter\.spare\[\d+\] .*",
        "address bits below a beat are always 0",
    ),
    (
        "store",
        r"const1 at core\.act\.port__mask\$\d+\[0\] .*|"
        r"cnot0 by bit 0 at .*store_unit\._024_\[\d\] .*",
        "rows begin at whole beats, so every beat has its first byte: that bit is always 1",
    ),
    (
        "store",
        r"cnot1 by bit [4-7] at .*store_unit\..*slice\$30564\[\d\] .*",
        "`left`: a write burst has at most 16 beats, so bits 4 and up are always 0",
    ),
    (
        "store",
        r"const1 at .*store_unit\.(.*slice\$29262\[0\]|\\splitter\.\$ternary\$.*\[67\]) .*",
        "`all_given`, and the end of a transfer that sets it: STORE takes its next burst in the "
        "cycle in which it reads the last beat of one, or the one after, and no response comes "
        "before that beat is sent: where one response is open and comes, all bursts were given",
    ),
    (
        "read engine",
        r"cnot1 by bit 2 at read_engine\._017_\[1\] \(add\.Y\)",
        "permutes the four beats of every other instruction; only which instruction a beat belongs "
        "to counts",
    ),
    (
        "read engine",
        r"const0 at read_engine\._019_\[1\] \(add\.Y\)",
        "the guard refuses a burst only behind a flipped bit; here besides in the very cycle in "
        "which another closes",
    ),
    (
        "(read|write) engine",
        r"const1 at .*_engine\.\$and\$.*\[0\] \(and\.B\)|const0 at .*_engine\.\$not\$.* \(not\.A\)",
        "lets beats through while the engine drains: the core is in reset then, and neither takes "
        "nor gives any",
    ),
    (
        "read engine",
        r"cnot1 by bit 38 at core\.load__payload\$\d+\[\d+\] .*|"
        r"const1 at read_engine\.address\.inverted\[[78]\] .*",
        "bursts have at most 64 beats here: the upper bits of their lengths are always 0",
    ),
    (
        "read engine",
        r"const1 at .*\\address\.\$reduce_xor\$.*\[0\] \(reduce_xor\.A\)",
        "that bit says that there is a burst: where it is 0 nothing looks at the others",
    ),
    (
        "write engine",
        r"cnot0 by bit 9 at write_engine\.address\.inverted\[6\] .*",
        "the second copy of an address is looked at only behind a flipped bit, and the bursts "
        "during which `check_address_registers` flips some begin at even beats",
    ),
    (
        "write engine",
        r"cnot1 by bit 4 at .*\\bursts\.\$add\$.*",
        "the number of bursts in the buffer, where there are 16 or more: it only says that the "
        "buffer is empty",
    ),
    (
        "requantizer",
        r"const[01] at .*_039_\[0\] \(xor\.Y\)|inv at .*_035_\[0\] \(logic_not\.Y\)",
        "counts only where the sum of a value that is not shifted is within 2^15 of 2^63, and with "
        "a multiplier of 18 bits it stays below 2^51; machines with 32 bits have it, see "
        "`bench_requantizer`",
    ),
    (
        "(read|write) engine",
        r".*(draining|procmux).*",
        "`kill` stays up until a reset, which clears `draining` as well; that a pulse is enough is "
        "a contract of the engine alone, see `bench_axi_engines`",
    ),
    (
        "(read|write) engine",
        r"const. at .*_0(04|18|19)_\[0\] \((or|not)\.[AY]\)|.*bursts\.level\[\d\].*",
        "says that the buffers are empty after a `kill`; the reset that follows empties them",
    ),
    (
        "semaphores",
        r"const0 at .*semaphores\.\$procmux\$\d+\[0\] \(procmux\.A\)",
        "a register that says that all semaphores are zero, wrong only while the core is in reset "
        "and in a run's first cycle, long before there can be an END to look at it",
    ),
    (
        "(read|write) engine",
        r".*guard\..*|.*\.guard\.?\$.*|.*\$shr\$.*\(shr\.A\)",
        "the guard compares addresses that LOAD and STORE compared before: a fault in it shows "
        "only if a bit of the address flips besides, in the right place",
    ),
    (
        "load",
        r"cnot1 by bit 51 at .*splitter\.spare\.request\[61\] .*",
        "bit 19 of a program counter whose bit 9 is 1: shows only in the error of a burst that "
        "waited in the spare place, far into a program",
    ),
)


def reason(component: str, mutant: str) -> str:
    """The explanation of a survivor; empty if there is none."""
    for part, pattern, why in EXPLAINED:
        if re.fullmatch(part, component) and re.fullmatch(rf"(?:{part}): (?:{pattern})", mutant):
            return why
    return ""
