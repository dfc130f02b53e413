"""Torch modules as blueprints: `from_module`.

The module is exported by `torch.export` twice: for one row, which is what becomes the blueprint, and for several, to
see that it treats each by itself (`rows`). `translate` goes through the graph of ATen operators with the tables of
`elementwise`, `reduction`, `contraction`, `movement` and `creation`; `graph` collects the blueprint; `refusal` says why
not.
"""

import torch

from ..blueprint import Blueprint
from .exported import export, output
from .refusal import UnsupportedModule

__all__ = ["UnsupportedModule", "from_module"]


def from_module(module, example, *, name=None):
    """A blueprint that computes what a torch module computes for each row, and starts with its parameters.

    `example` is a tensor `[..., chunk]` as the module takes it; all leading dimensions are rows. Every seed that
    germinates with the blueprint starts with the values that the module's parameters have now. The module is taken as
    it is: one in training mode keeps its dropout, which the layer's own mode then switches.

    Raises `kasmina.UnsupportedModule` for a module that mixes rows, uses an operator that a blueprint does not have, or
    holds arrays that are not trained; the message names the operator and the line of the module's source.
    """
    from .rows import ROWS, different_rows, refuse_mixing
    from .translate import TRANSLATIONS, translate

    if not isinstance(example, torch.Tensor) or not example.dtype.is_floating_point or example.dim() == 0:
        raise TypeError("kasmina: the example must be a tensor of floating-point numbers [..., chunk]")
    ones, rows = [1] * (example.dim() - 1), different_rows(example)
    together = []
    for dimension in range(len(ones)):
        sizes = [*ones[:dimension], ROWS, *ones[dimension + 1 :], example.shape[-1]]
        x = rows.view(sizes)
        together.append((export(module, x, TRANSLATIONS), x, dimension))
        _check_output(together[-1][0], sizes)
    alone = export(module, rows[0].view(*ones, -1), TRANSLATIONS)
    _check_output(alone, [*ones, example.shape[-1]])
    for program, x, dimension in together:
        refuse_mixing(program, alone, x, dimension)
    name = type(module).__name__ if name is None else name
    return Blueprint.from_json(translate(alone, name, {"module": type(module).__qualname__}))


def _check_output(program, sizes):
    results = [result.meta["val"] if isinstance(result, torch.fx.Node) else result for result in output(program.graph)]
    shapes = [list(result.shape) if isinstance(result, torch.Tensor) else result for result in results]
    if shapes != [sizes]:
        found = " and ".join(map(str, shapes))
        raise UnsupportedModule(
            f"kasmina: the module makes {found} of {sizes}; a blueprint gives back one tensor of the shape of its input"
        )
