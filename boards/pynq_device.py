"""The machine on a Zynq board under PYNQ as a device that executes programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..host.device import WATCHDOG, DeviceError, Job, Result, check_watchdog
from ..tb.session import COUNTERS, STATE, Session
from .axi_ip import description
from .device import TIMEOUT, stored_segments
from .pynq_driver import Driver, WeftError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..hdl.config import Config


class PynqDevice:
    """The machine in an overlay: the :class:`~.pynq_driver.Driver` as a device.

    Parameters
    ----------
    config
        The machine that is expected there.
    ip
        Its peripheral, such as ``Overlay("weft.bit").weft``.
    allocate
        Makes a buffer that the machine can reach, instead of ``pynq.allocate``.
    watchdog
        Value of the WATCHDOG register.
    timeout
        Seconds after which a run is given up.

    Attributes
    ----------
    description
        What its memory is, for reports.

    Raises
    ------
    DeviceError
        It is no Weft, or another configuration.
    """

    description = "the board's own memory"

    def __init__(
        self,
        config: Config,
        ip: Any,
        *,
        allocate: Callable[..., Any] | None = None,
        watchdog: int = WATCHDOG,
        timeout: float = TIMEOUT,
    ):
        check_watchdog(watchdog)
        self.config = config
        try:
            self._driver = Driver(ip, description(config), allocate, watchdog, timeout)
        except WeftError as error:
            raise DeviceError(str(error)) from error

    def run(self, job: Job) -> Result:
        """Execute `job`.

        Raises
        ------
        DeviceError
            The machine never ends, or the memory of a buffer is out of its reach.
        """
        try:
            values, segments = self._driver.run(job.code, job.segments, stored_segments(job.code))
        except WeftError as error:
            raise DeviceError(str(error)) from error
        session = Session(job, [], [], [bytearray(part) for part in segments], {})
        session.values = {name: values[name] for name in (*STATE, *COUNTERS)}
        return session.result(np.zeros((0, 2), np.int64))

    def close(self) -> None:
        """Stop the machine and free its buffers."""
        self._driver.close()
