"""One program on the golden machine, the timing model and the RTL, and what differs."""

from __future__ import annotations

import numpy as np
from weft.hdl.config import Config
from weft.hdl.isa import PEERS, Instruction, Unit
from weft.host.golden import GoldenDevice
from weft.host.timing.machine import predict
from weft.tb.devices import VerilatorDevice
from weft.tb.lockstep import first_difference
from weft.tb.memory_model import ALL_STALLS, READ_STALLS, WRITE_STALLS, Options

from .programs import Generator, RandomProgram

#: Which channels of the bus stall.
STALLS = {"none": 0, "read": READ_STALLS, "write": WRITE_STALLS, "both": ALL_STALLS}
#: Counters that do not depend on time.
_TIMELESS = ("READ_BEATS", "WRITE_BEATS", "VECTORS", "INSTRUCTIONS")


class Bench:
    """Golden machine, timing model and RTL of one configuration, side by side.

    Memories keep their contents from program to program, so a difference may need those before it.

    Parameters
    ----------
    config
        The machine.
    """

    def __init__(self, config: Config):
        self._config = config
        self._generator = Generator(config)
        self._device: VerilatorDevice | None = None
        self.reset()

    def reset(self) -> None:
        """Start with memories that hold zero."""
        self.close()
        self._golden = GoldenDevice(self._config)
        self._device = VerilatorDevice(self._config, lockstep=True)

    def close(self) -> None:
        """Free the simulator."""
        if self._device is not None:
            self._device.close()

    def differences(self, seed: int, *, latency: int = 50, stalls: str = "none") -> list[str]:
        """What differs between the three for one seed; each text shows the program."""
        return self.compare(self._generator.program(seed), latency=latency, stalls=stalls)

    def compare(
        self, program: RandomProgram, *, latency: int = 50, stalls: str = "none"
    ) -> list[str]:
        """What differs between the three for one program.

        Parameters
        ----------
        program
            For the bench's configuration.
        latency
            Of the memory, in cycles.
        stalls
            A key of STALLS. The model does not predict cycles with stalls: of time only the order
            of completions is compared.
        """
        device = self._device
        assert device is not None
        channels = STALLS[stalls]
        device.memory = Options(
            latency=latency,
            stall_seed=program.seed + 1 if channels else 0,
            stall_channels=channels,
        )
        written = self._golden.machine.written = []
        expected, got = self._golden.run(program.job), device.run(program.job)
        model = predict(self._config, program.job.code, latency=latency)
        pairs = {
            "status": ((got.error, got.error_pc, got.tag), (expected.error, 0, expected.tag)),
            "memory": (got.segments, expected.segments),
        }
        if channels:
            want = {name: model.counters[name] for name in _TIMELESS}
            pairs["counters"] = ({name: got.counters[name] for name in want}, want)
            pairs["completions"] = (completion_order(program.instructions, got.retired), [])
        else:
            retired = got.retired[np.lexsort((got.retired[:, 1], got.retired[:, 0]))]
            pairs["counters"] = (got.counters, model.counters)
            pairs["completions"] = (retired.tolist(), model.retired.tolist())
        wrong = [name for name, (a, b) in pairs.items() if a != b]
        predicted = None if channels else model.retired
        first = first_difference(program.job.code, written, device.writes, got.retired, predicted)
        if not wrong and first is None:
            return []
        self.reset()  # memories that went apart would only repeat the difference
        where = f"{self._config.name}, latency {latency}, stalls {stalls}"
        head = f"seed {program.seed}, {where}: {', '.join(wrong) or 'writes'} differ; {first}"
        return [f"{head}\n{program.listing()}"]


def completion_order(instructions: tuple[Instruction, ...], retired: np.ndarray) -> list[str]:
    """What is wrong with the order in which instructions completed.

    Each unit completes all of its instructions, and none that waits for a semaphore completes
    before the one that posts the token that it takes.
    """
    wrong = []
    cycles = {unit: retired[retired[:, 1] == unit, 0] for unit in Unit}
    count = dict.fromkeys(Unit, 0)
    posts: dict[tuple[Unit, Unit, int], list[int]] = {}
    taken: dict[tuple[Unit, Unit, int], int] = {}
    for instruction in instructions[:-1]:
        unit = instruction.unit
        assert unit is not None
        parts = [(unit, instruction.wait, instruction.post)]
        if unit == Unit.MATMUL:
            parts.append((Unit.WEIGHT, instruction.weight_wait, instruction.weight_post))
        done = {}
        for part, wait, _ in parts:
            if count[part] >= cycles[part].size:
                return [f"{part.name} completed {cycles[part].size} instructions only"]
            done[part] = int(cycles[part][count[part]])
            count[part] += 1
            for key in semaphores(part, wait, consumer=True):
                token = posts[key][taken.setdefault(key, 0)]
                taken[key] += 1
                if token >= done[part]:
                    wrong.append(f"{part.name} {count[part] - 1} completed before its token")
        for part, _, post in parts:
            for key in semaphores(part, post, consumer=False):
                posts.setdefault(key, []).append(done[part])
    extra = [unit.name for unit in Unit if count[unit] != cycles[unit].size]
    return wrong + [f"{name} completed too many instructions" for name in extra]


def semaphores(unit: Unit, mask: int, *, consumer: bool) -> list[tuple[Unit, Unit, int]]:
    """(Producer, consumer, k) of each semaphore in a wait set (`consumer`) or a post set."""
    return [
        (peer, unit, k) if consumer else (unit, peer, k)
        for at, peer in enumerate(PEERS[unit])
        for k in (0, 1)
        if mask >> (2 * at + k) & 1
    ]
