"""Why mutants that no test notices are not noticed."""

from __future__ import annotations

import re

#: (component, pattern of the mutant as text, reason); the first that fits counts.
EXPLAINED: tuple[tuple[str, str, str], ...] = (
    (
        "decoder",
        r"const1 at .*procmux.*\(procmux\.A\)",
        "what a flag of an error holds counts only together with `valid`, and both are loaded in "
        "the same cycle: that reset clears the flag too makes no difference",
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
        "read engine",
        r"const0 at read_engine\._011_\[0\] \(not\.A\)",
        "the core falls still in the cycle in which `kill` rises, so nothing asks for bursts; "
        "it takes a flipped bit of a window besides",
    ),
    (
        "write engine",
        r"const0 at write_engine\._023_\[0\] \(not\.Y\)",
        "a burst is sent when all its beats are there, so WVALID falls only where nothing is left "
        "to be muted, and the reset that follows `kill` clears `mute`",
    ),
    (
        "load|store",
        r".* at .*splitter\._015_\[[0-2]\] \(auto\.D\)",
        "address bits below a beat: offsets and pitches have zeros there, so nothing carries, and "
        "the engines do not look at them",
    ),
    (
        "(read|write) engine|load|store",
        r"(cnot1 by bit (19|2\d)|const0) at .*(pc|order\._67_)\[\d+\] .*",
        "bit k of a program counter is 1 only in a program of more than 2^k instructions, and of "
        "more than 2^(k + 5) bytes",
    ),
    (
        "load",
        r"const1 at .*load_unit\.tail\[0\] .*",
        "a row's last beat has its first byte: the bit is 1 from the first LOAD on, and nothing "
        "looks at it before",
    ),
    (
        "store|write engine",
        r"const0 at .*store_unit\.\$procmux\$\d+\[[4-7]\] .*",
        "a write burst has at most 16 beats: the upper bits of its length are 0",
    ),
    (
        "store",
        r"const1 at .*store_unit\.(\$procmux\$18330|\\splitter\.\$procmux\$18114)\[0\] .*",
        "STORE takes its next burst in the cycle in which it reads the last beat of one, "
        "or the one after, and no response comes before that beat is sent: where one response "
        "is open and comes, all bursts were given, whether or not that is remembered",
    ),
    (
        "write engine",
        r"inv at .*\\beats\$79\.\$sub\$.*\[5\] \(sub\.B\)",
        "32 is added with every step up or down, so it shows in the level while that is odd; the "
        "level is compared with 0 and 32 alone, which are even",
    ),
    (
        "(read|write) engine",
        r".*guard\..*|.*\.guard\.?\$.*|.*\$shr\$.*\(shr\.A\)",
        "the guard compares addresses that LOAD and STORE compared before: a fault in it shows "
        "only if a bit of the address flips besides, in the right place",
    ),
)


def reason(component: str, mutant: str) -> str:
    """The explanation of a survivor; empty if there is none."""
    for part, pattern, why in EXPLAINED:
        if re.fullmatch(part, component) and re.fullmatch(rf"(?:{part}): (?:{pattern})", mutant):
            return why
    return ""
