"""Why a module cannot become a blueprint, and where in the user's source the reason stands."""

import os
import re

import torch

_TORCH = os.path.dirname(torch.__file__)
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.*)\n\s*(?P<text>.*)')


class UnsupportedModule(ValueError):
    """A module that `kasmina.from_module` does not take.

    `operator` is the ATen operator it stumbled over and `source` the line of the module's source that called it, as
    `file:line`; either may be None.
    """

    def __init__(self, message, operator=None, source=None):
        super().__init__(message)
        self.operator, self.source = operator, source


def refuse(node, reason):
    """Raises for a node of the exported graph: the operator, why, and where."""
    operator = str(node.target)
    frames = [match for match in _FRAME.finditer(node.meta.get("stack_trace") or "")]
    # A module of torch's own, such as nn.BatchNorm1d, has its lines there; the user's are above them.
    own = [frame for frame in frames if not frame["file"].startswith(_TORCH)]
    path = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values() if name]
    place, source = "", None
    if own:
        source = f"{own[-1]['file']}:{own[-1]['line']}"
        place = f"\n  in `{own[-1]['text'].strip()}` at {source}"
    if path:
        place += f"\n  in the submodule `{path[-1]}`"
    raise UnsupportedModule(f"kasmina: `{operator}` {reason}{place}", operator, source)
