"""Whether a module treats every row by itself, which a blueprint cannot help doing.

The module runs on several rows together and on each of them alone, operator by operator. The first operator whose
result for a row is not what that row alone gives has mixed rows, and can be named.
"""

import torch

from .exported import calls, held, output
from .movement import COPIES, SAME_ORDER
from .refusal import UnsupportedModule, refuse

# How many rows run together.
ROWS = 3
_REASON = "mixes rows; a blueprint is a function of one row"
_aten = torch.ops.aten
# Operators whose random numbers are left out when rows are compared.
_LEFT_OUT = {_aten.dropout.default, _aten.native_dropout.default, _aten.scaled_dot_product_attention.default}
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 2e-1}


def different_rows(example):
    """Rows for the test: like those of the example, and no two alike."""
    rows = example.detach().reshape(-1, example.shape[-1])
    if len(rows) == 0 or not rows.any():
        rows = torch.randn(ROWS, example.shape[-1], device=example.device).to(example.dtype)
    picked = rows[torch.arange(ROWS, device=rows.device) % len(rows)]
    return picked * torch.tensor([[1.0], [0.75], [0.5]], device=rows.device, dtype=rows.dtype)


def refuse_mixing(together, alone, x, dimension):
    """Refuses a module whose graph `together`, for x with all rows along a dimension, mixes what `alone`, the graph for
    one row, keeps apart."""
    nodes, singles = _compared(together.graph), _compared(alone.graph)
    if [node.target for node in nodes] != [node.target for node in singles]:
        raise UnsupportedModule(
            f"kasmina: the module computes otherwise for {ROWS} rows than for one; a blueprint sees one row only"
        )
    for node in nodes:
        is_random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if is_random and node.target not in _LEFT_OUT:
            refuse(node, "draws random numbers; a blueprint has them in dropout only")
    of_all = _Recorder(together).run_on(x)
    of_each = [_Recorder(alone).run_on(row) for row in x.split(1, dimension)]
    for node, single in zip(nodes, singles):
        wanted = [_tensors(results[single]) for results in of_each]
        for position, tensor in enumerate(_tensors(of_all[node])):
            if not _is_row_wise(tensor, [tensors[position] for tensors in wanted]):
                refuse(node, _REASON)
    # Rows that only changed places were row-wise so far.
    (result,), (single,) = output(together.graph), output(alone.graph)
    if not _close(of_all[result], torch.cat([results[single] for results in of_each], dimension)):
        refuse(result, _REASON)


def _compared(graph):
    """The calls that compute something. Views are not compared: torch chooses others for one row."""
    return [node for node in calls(graph) if node.target not in {*SAME_ORDER, *COPIES}]


def _tensors(result):
    return [result] if isinstance(result, torch.Tensor) else list(result)


def _is_row_wise(together, alone):
    """Whether a tensor is made of those of the rows: one after the other along a dimension or, if they are all the
    same, any one of them."""
    sizes = [size for size in together.shape if size != 1]
    own = [size for size in alone[0].shape if size != 1]
    together = together.reshape(sizes)
    alone = torch.stack(alone).reshape(len(alone), *own)
    if sizes == own:
        return all(_close(together, row) for row in alone)
    for axis, size in enumerate(sizes):
        rest = sizes[:axis] + sizes[axis + 1 :]
        if size == ROWS and rest == own and _close(together.movedim(axis, 0), alone):
            return True
        if size % ROWS == 0 and own == sizes[:axis] + [size // ROWS] + sizes[axis + 1 :]:
            # Rows and the elements of each share a dimension; either may be the outer one.
            for order in ((ROWS, size // ROWS), (size // ROWS, ROWS)):
                split = together.unflatten(axis, order).movedim(axis if order[0] == ROWS else axis + 1, 0)
                if _close(split, alone):
                    return True
    return False


def _close(found, wanted):
    if not found.dtype.is_floating_point:
        return torch.equal(found, wanted)
    tolerance = _TOLERANCE[found.dtype]
    scale = wanted[wanted.isfinite()].abs().max().item() if wanted.isfinite().any() else 1.0
    return torch.allclose(found, wanted, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


class _Recorder(torch.fx.Interpreter):
    """Runs a graph, dropout left out, and keeps every result."""

    def __init__(self, program):
        super().__init__(program.graph_module)
        self._inputs = [tensor for _, _, tensor in held(program)]
        self.results = {}

    @torch.no_grad()
    def run_on(self, x):
        self.run(*(x if tensor is None else tensor for tensor in self._inputs))
        return self.results

    def run_node(self, n):
        self.results[n] = super().run_node(n)
        return self.results[n]

    def call_function(self, target, args, kwargs):
        if target is _aten.dropout.default:
            return args[0]
        if target is _aten.native_dropout.default:
            return args[0], torch.ones_like(args[0], dtype=torch.bool)
        if target is _aten.scaled_dot_product_attention.default:
            # The fifth argument is the probability of dropout.
            args = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args
        return super().call_function(target, args, kwargs)
