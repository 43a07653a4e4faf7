"""A device without hardware: the golden machine's results at the timing model's cycles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...hdl.registers import Error
from ..device import WATCHDOG, check_memory, check_watchdog
from ..golden import GoldenDevice
from .machine import predict

if TYPE_CHECKING:
    from pathlib import Path

    from ...hdl.config import Config
    from ..device import Job, Result
    from .machine import Prediction


class ModelDevice:
    """Runs jobs on the golden machine and tells how long the hardware would take.

    Parameters
    ----------
    config
        The machine.
    latency
        Cycles from a read address to its first beat.
    beat_interval
        Cycles from a beat to the next.
    watchdog, trace
        Ignored: there is nothing to wait for, and there are no signals.
    """

    def __init__(
        self,
        config: Config,
        *,
        latency: int = 50,
        beat_interval: int = 1,
        watchdog: int = WATCHDOG,
        trace: Path | None = None,
    ):
        del trace
        check_memory(latency, beat_interval)
        check_watchdog(watchdog)
        self.config = config
        self._golden = GoldenDevice(config)
        self._memory = {"latency": latency, "beat_interval": beat_interval}
        self._predictions: dict[bytes, Prediction] = {}

    def run(self, job: Job) -> Result:
        """As :meth:`Device.run`; a program that traps has no counters."""
        result = self._golden.run(job)
        if result.error != Error.NONE:
            return result
        if job.code not in self._predictions:
            self._predictions[job.code] = predict(self.config, job.code, **self._memory)
        prediction = self._predictions[job.code]
        return replace(result, counters=prediction.counters, retired=prediction.retired)

    def close(self) -> None:
        """Nothing to release."""
