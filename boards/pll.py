"""Clock generators: one frequency, and a copy a quarter of a cycle later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In


@dataclass(frozen=True)
class Limits:
    """What a data sheet allows, in MHz: oscillator, what its phase detector compares; dividers.

    Dividers of the output are such that a quarter of a cycle can be made.
    """

    oscillator: tuple[float, float]
    detector: tuple[float, float]
    references: Iterable[int]
    feedbacks: Iterable[int]
    outputs: Iterable[int]


#: Output dividers are multiples of 4: a quarter of a cycle is a whole number of the oscillator's.
ECP5 = Limits((400, 800), (3.125, 400), range(1, 129), range(1, 81), range(4, 129, 4))
#: rPLL of a GW2A of speed grade C8/I7; its shifts are sixteenths of the output's cycle.
GW2A = Limits(
    (500, 1250), (3, 500), range(1, 65), range(1, 65), (2, 4, 8, *range(16, 129, 16))
)  # fmt: skip


@dataclass(frozen=True)
class PllSettings:
    """Dividers of the reference, of the feedback and of the output."""

    reference: int
    feedback: int
    output: int

    def frequency(self, reference_mhz: float) -> float:
        """Frequency of the output, MHz."""
        return reference_mhz * self.feedback / self.reference


def settings(reference_mhz: float, wanted_mhz: float, limits: Limits = ECP5) -> PllSettings:
    """The settings that come nearest to a frequency.

    Raises
    ------
    ValueError
        None comes within 0.5 %.
    """
    found: list[tuple[float, float, PllSettings]] = []
    lowest, highest = limits.oscillator
    for reference in limits.references:
        if not limits.detector[0] <= reference_mhz / reference <= limits.detector[1]:
            continue
        for feedback in limits.feedbacks:
            frequency = reference_mhz * feedback / reference
            for output in limits.outputs:
                if lowest <= frequency * output <= highest:
                    off = abs(frequency - wanted_mhz) / wanted_mhz
                    # Among equals: small dividers, an oscillator in the middle of its range.
                    middle = abs(frequency * output - (lowest + highest) / 2)
                    found.append(
                        (off, 1000 * reference + middle, PllSettings(reference, feedback, output))
                    )
    off, _, best = min(found, key=lambda entry: entry[:2])
    if off > 0.005:
        raise ValueError(f"no clock near {wanted_mhz:g} MHz can be made of {reference_mhz:g} MHz")
    return best


class Pll(wiring.Component):
    """An ECP5's: drives the domains `sync`, in reset until the clock is stable, and `sdram`, a
    quarter of a cycle later.

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


class GowinPll(wiring.Component):
    """As :class:`Pll`, of a Gowin GW2A.

    Parameters
    ----------
    reference_mhz, wanted_mhz
        Frequencies of the input and of the output.
    device
        Name of the FPGA, such as GW2AR-18C.

    Ports
    -----
    reference : In(1)
        The clock that comes from outside.
    """

    def __init__(self, *, reference_mhz: float, wanted_mhz: float, device: str):
        self._reference_mhz = reference_mhz
        self._settings = settings(reference_mhz, wanted_mhz, GW2A)
        self._device = device
        super().__init__({"reference": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        locked = Signal()
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        m.submodules.cell = Instance(
            "rPLL",
            p_FCLKIN=f"{self._reference_mhz:g}",
            p_DEVICE=self._device,
            p_IDIV_SEL=self._settings.reference - 1,
            p_FBDIV_SEL=self._settings.feedback - 1,
            p_ODIV_SEL=self._settings.output,
            p_PSDA_SEL="0100",  # sixteenths of a cycle
            p_DUTYDA_SEL="1000",
            p_CLKFB_SEL="internal",
            **{f"p_DYN_{name}": "false" for name in ("IDIV_SEL", "FBDIV_SEL", "ODIV_SEL", "DA_EN")},
            i_CLKIN=self.reference,
            i_CLKFB=Const(0),
            i_RESET=Const(0),
            i_RESET_P=Const(0),
            **{f"i_{name}": Const(0, 6) for name in ("FBDSEL", "IDSEL", "ODSEL")},
            **{f"i_{name}": Const(0, 4) for name in ("PSDA", "DUTYDA", "FDLY")},
            o_CLKOUT=ClockSignal("sync"),
            o_CLKOUTP=ClockSignal("sdram"),
            o_LOCK=locked,
        )
        return m
