"""The clock generator of an ECP5: one frequency, and a copy a quarter of a cycle later."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In

#: Limits of the data sheet, MHz: oscillator, and what its phase detector compares.
_OSCILLATOR = (400.0, 800.0)
_DETECTOR = (3.125, 400.0)


@dataclass(frozen=True)
class PllSettings:
    """Dividers of the reference, of the feedback and of the output."""

    reference: int
    feedback: int
    output: int

    def frequency(self, reference_mhz: float) -> float:
        """Frequency of the output, MHz."""
        return reference_mhz * self.feedback / self.reference


def settings(reference_mhz: float, wanted_mhz: float) -> PllSettings:
    """The settings that come nearest to a frequency; output dividers are multiples of 4, so that
    a quarter of a cycle is a whole number of the oscillator's.

    Raises
    ------
    ValueError
        None comes within 0.5 %.
    """
    found: list[tuple[float, float, PllSettings]] = []
    for reference in range(1, 129):
        if not _DETECTOR[0] <= reference_mhz / reference <= _DETECTOR[1]:
            continue
        for feedback in range(1, 81):
            frequency = reference_mhz * feedback / reference
            for output in range(4, 129, 4):
                if _OSCILLATOR[0] <= frequency * output <= _OSCILLATOR[1]:
                    off = abs(frequency - wanted_mhz) / wanted_mhz
                    # Among equals: small dividers, an oscillator in the middle of its range.
                    middle = abs(frequency * output - 600)
                    found.append(
                        (off, 1000 * reference + middle, PllSettings(reference, feedback, output))
                    )
    off, _, best = min(found, key=lambda entry: entry[:2])
    if off > 0.005:
        raise ValueError(f"no clock near {wanted_mhz:g} MHz can be made of {reference_mhz:g} MHz")
    return best


class Pll(wiring.Component):
    """Drives the domains `sync`, in reset until its clock is stable, and `sdram`, a quarter later.

    Parameters
    ----------
    reference_mhz, wanted_mhz
        Frequencies of the input and of the output.

    Ports
    -----
    reference : In(1)
        The clock that comes from outside.
    """

    def __init__(self, *, reference_mhz: float, wanted_mhz: float):
        self._settings = settings(reference_mhz, wanted_mhz)
        super().__init__({"reference": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        divider = self._settings.output
        locked = Signal()
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        m.submodules.cell = Instance(
            "EHXPLLL",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=self._settings.reference,
            p_CLKFB_DIV=self._settings.feedback,
            p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=divider,
            p_CLKOP_CPHASE=divider - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=divider,
            p_CLKOS_CPHASE=divider - 1 + divider // 4,
            p_CLKOS_FPHASE=0,
            i_CLKI=self.reference,
            i_CLKFB=ClockSignal("sync"),
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=ClockSignal("sync"),
            o_CLKOS=ClockSignal("sdram"),
            o_LOCK=locked,
        )
        return m
