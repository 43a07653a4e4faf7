"""What can go wrong on the host: every error a user can cause is a :class:`WeftError`."""

from __future__ import annotations


class WeftError(Exception):
    """Base of the host's errors; its text is one sentence: what, where, and what to do."""


class ModelError(WeftError):
    """A model, its calibration data or its integer graph that cannot be used."""


class UnsupportedOperator(ModelError):
    """An operator that the front end does not lower.

    Parameters
    ----------
    operator
        What the model calls, such as ``aten.softmax.int``.
    layer
        Name of the layer or graph node.
    advice
        What to do about it; ends the sentence.
    """

    def __init__(self, operator: str, layer: str, advice: str):
        super().__init__(f"operator {operator} at {layer!r} is not supported: {advice}")
        self.operator = operator
        self.layer = layer


class VerifyError(ModelError):
    """An integer graph that breaks a rule; the text begins with the node or tensor."""


class DatasetError(WeftError):
    """A data set that cannot be read."""


class CompileError(WeftError):
    """A network that this machine cannot run; says which layer, why, and what would help."""
