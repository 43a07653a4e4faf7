"""A cell library (Liberty) with round numbers, for tests: no process has these cells."""

from __future__ import annotations

#: Slews, ns, and loads, pF, that the tables have delays for.
SLEWS = (0.01, 0.1, 1.0)
LOADS = (0.001, 0.01, 0.1)
#: Area, function and delay without load, ns, of each gate.
GATES = {
    "INV": (1, "!A", 0.01),
    "BUF": (2, "A", 0.02),
    "NAND2": (2, "!(A & B)", 0.02),
    "NOR2": (2, "!(A | B)", 0.02),
    "XOR2": (4, "A ^ B", 0.03),
}
DFF_AREA = 10
#: What a load adds, ns a pF.
SLOPE = 2.0


def _table(kind: str, delay: float) -> str:
    rows = (
        '"' + ", ".join(f"{delay + SLOPE * load + 0.1 * slew:g}" for load in LOADS) + '"'
        for slew in SLEWS
    )
    return f"{kind} (grid) {{ values ({', '.join(rows)}); }}"


def _timing(pin: str, delay: float, more: str) -> str:
    kinds = ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    tables = " ".join(_table(kind, delay) for kind in kinds)
    return f'timing () {{ related_pin : "{pin}"; {more} {tables} }}'


def _gate(name: str, area: int, function: str, delay: float) -> str:
    inputs = sorted({letter for letter in function if letter in "AB"})
    sense = {"INV": "negative", "BUF": "positive", "XOR2": "non"}.get(name, "negative")
    pins = "".join(f"pin ({pin}) {{ direction : input; capacitance : 0.002; }}\n" for pin in inputs)
    timing = " ".join(_timing(pin, delay, f"timing_sense : {sense}_unate;") for pin in inputs)
    return (
        f"cell ({name}) {{ area : {area};\n{pins}"
        f'pin (Y) {{ direction : output; function : "{function}"; max_capacitance : 0.1; '
        f"{timing} }}\n}}\n"
    )


def liberty(*, flip_flops: bool = True, gates: dict = GATES) -> str:
    """The library's text."""
    cells = [_gate(name, *about) for name, about in gates.items()]
    if flip_flops:
        cells.append(
            f"cell (DFF) {{ area : {DFF_AREA};\n"
            'ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }\n'
            "pin (CK) { direction : input; clock : true; capacitance : 0.002; }\n"
            "pin (D) { direction : input; capacitance : 0.002; }\n"
            'pin (Q) { direction : output; function : "IQ"; max_capacitance : 0.1; '
            + _timing("CK", 0.05, "timing_type : rising_edge;")
            + "}\n}\n"
        )
    template = (
        "lu_table_template (grid) { variable_1 : input_net_transition; "
        "variable_2 : total_output_net_capacitance;\n"
        f'index_1 ("{", ".join(map(str, SLEWS))}"); index_2 ("{", ".join(map(str, LOADS))}"); }}'
    )
    return (
        "library (round) {\ndelay_model : table_lookup;\n"
        'time_unit : "1ns";\ncapacitive_load_unit (1, pf);\n'
        f"{template}\n{''.join(cells)}}}\n"
    )
