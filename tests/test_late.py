"""Program counters up to 2^24, and counters that start again at 0."""

from weft.hdl.config import PRESETS
from weft.tb import fast

from . import late
from .faults import Bench
from .flips import library

TINY = PRESETS["tiny"]


def test_long_programs_go_on_as_they_began():
    machine = fast.FastMachine(library(TINY))
    late.check(Bench(TINY, machine=machine))
    machine.close()
