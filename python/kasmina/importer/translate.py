"""From an exported graph to the graph of a blueprint, call by call."""

import dataclasses
import operator

import torch
from torch.fx.node import map_arg

from .contraction import CONTRACTION
from .creation import CREATION, filled
from .elementwise import ELEMENTWISE, choose
from .exported import held
from .graph import Graph, Value
from .movement import COPIES, MOVEMENT
from .reduction import REDUCTION
from .refusal import UnsupportedModule, refuse

# Every ATen operator that has a translation.
TRANSLATIONS = {**ELEMENTWISE, **REDUCTION, **CONTRACTION, **MOVEMENT, **CREATION}

_aten = torch.ops.aten
# What takes elements at constant places, which may be arrays that are in no blueprint.
_TAKES_PLACES = {_aten.index.Tensor, _aten.index_select.default}


def translate(program, name, metadata):
    """The blueprint of an exported program for one row, as the object of its JSON."""
    translation = _Translation(program)
    return translation.graph.document(name, translation.output, metadata)


@dataclasses.dataclass
class _Array:
    """A tensor that the module holds and does not train."""

    name: str
    tensor: torch.Tensor


class _Translation:
    def __init__(self, program):
        tensors = {node: (name, tensor) for node, name, tensor in held(program)}
        x = next(node for node, (_, tensor) in tensors.items() if tensor is None).meta["val"]
        self.graph = Graph(x.shape, x.dtype)
        outputs = self._run(program.graph_module, [self._held(*entry) for entry in tensors.values()])
        self.output = self.graph.number(outputs[0])

    def _held(self, name, tensor):
        """What stands for a tensor of the module: x, a parameter, or an array."""
        if tensor is None:
            return self.graph.x
        if not tensor.requires_grad:
            return _Array(name, tensor)
        try:
            return self.graph.parameter(name, tensor.detach())
        except ValueError as error:
            raise UnsupportedModule(f"kasmina: the parameter `{name}`: {error}") from error

    def _run(self, module, inputs):
        """The outputs of a graph for these inputs."""
        values, inputs = {}, iter(inputs)
        for node in module.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(inputs)
            elif node.op == "get_attr":
                values[node] = getattr(module, node.target)
            elif node.op == "call_function":
                try:
                    values[node] = self._call(node, values)
                except (NotImplementedError, ValueError) as error:
                    if isinstance(error, UnsupportedModule):
                        raise
                    refuse(node, f"cannot be part of a blueprint: {error}")
            else:
                return [self._value(values[result], node) for result in node.args[0]]
        return []

    def _call(self, node, values):
        if node.target is operator.getitem:
            results, position = values[node.args[0]], node.args[1]
            if position >= len(results):
                refuse(node.args[0], f"has no result {position} in a blueprint")
            return results[position]
        if node.target is _aten._assert_tensor_metadata.default:
            return None
        first = values.get(node.args[0]) if node.args and isinstance(node.args[0], torch.fx.Node) else None
        if node.target in COPIES and isinstance(first, _Array):
            return first
        self.graph.named_after(node.name)

        def argument(of):
            if node.target in _TAKES_PLACES and of is not node.args[0] and isinstance(values[of], _Array):
                return values[of].tensor
            return self._value(values[of], node)

        args, options = map_arg((node.args, node.kwargs), argument)
        out = node.meta["val"]
        if node.target is torch.ops.higher_order.cond:
            return self._condition(out, *args)
        if node.target not in TRANSLATIONS:
            refuse(node, "is not among the operators of a blueprint")
        result = TRANSLATIONS[node.target](self.graph, out, *args, **options)
        if isinstance(out, torch.Tensor):
            return self._settled(result, out)
        # Results that a blueprint cannot give are missing at the end, and modules rarely take them.
        return [self._settled(value, of) for value, of in zip(result, out)]

    def _value(self, value, node):
        """A value of the graph for what an argument is; arrays of one number are that number."""
        if not isinstance(value, _Array):
            return value
        tensor = value.tensor
        if tensor.numel() == 0 or not tensor.eq(tensor.flatten()[0]).all():
            refuse(
                node,
                f"uses `{value.name}`, an array {list(tensor.shape)} that is not trained. A blueprint has constant "
                "numbers but no constant arrays: make it a parameter that requires a gradient, or compute it in `forward`",
            )
        return filled(self.graph, tensor, tensor.flatten()[0].item())

    def _settled(self, value, out):
        """A result in the type and of the size that torch has it in."""
        if out.dtype == torch.float64 and self.graph.dtype != torch.float64:
            raise NotImplementedError(f"it computes in torch.float64, the rows are {self.graph.dtype}")
        return self.graph.view(self.graph.cast(value, out.dtype), out.shape)

    def _condition(self, out, predicate, of_true, of_false, operands):
        """Both branches, and a choice. What a branch takes from outside is marked as taken by it, so that nothing of
        the branch that was not taken reaches a gradient."""
        g, branches = self.graph, []
        predicate = g.cast(g.view(predicate, ()), torch.bool)
        for when, branch in ((True, of_true), (False, of_false)):
            taken = [g.view(self._taken(predicate, value, when), value.sizes) for value in operands]
            branches.append(self._run(branch, taken))
        return [self._settled(choose(g, predicate, a, b), of) for a, b, of in zip(*branches, out)]

    def _taken(self, predicate, value, when):
        if not isinstance(value, Value) or not value.dtype.is_floating_point:
            return value
        return self.graph.call("taken", [predicate, value], value.shape, value.dtype, when=when)
