"""A module as `torch.export` sees it: a graph of ATen operators without side effects, and the tensors it holds."""

import operator
import warnings

import torch
import torch.export

from .refusal import UnsupportedModule, refuse


def export(module, x, known):
    """The module's graph for this x, in which operators that are not `known` are taken apart, where torch knows how."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch's own, about itself.
        try:
            program = torch.export.export(module, (x,))
        except Exception as error:
            sentence = str(error).strip().partition("\n")[0]
            message = f"kasmina: torch cannot export the module for rows {list(x.shape)}: {sentence}"
            raise UnsupportedModule(message) from error
        _refuse_detached(program)
        decompositions = torch.export.default_decompositions()
        for target in known:
            decompositions.pop(target, None)
        program = program.run_decompositions(decompositions)
    for spec in program.graph_signature.output_specs:
        if spec.kind != torch.export.graph_signature.OutputKind.USER_OUTPUT:
            raise UnsupportedModule(
                f"kasmina: the module changes its buffer `{spec.target}`; a blueprint keeps nothing"
            )
    return program


def _refuse_detached(program):
    """Refuses a module that stops gradients."""
    for node in program.graph.nodes:
        # Taking operators apart leaves some of these behind; before that, they are the user's.
        if node.target in (torch.ops.aten.detach.default, torch.ops.higher_order.wrap_with_set_grad_enabled):
            refuse(node, "keeps a gradient back; a blueprint has the gradients of its function")


def held(program):
    """The tensors that the module holds and its input: for each placeholder of the graph, its name in the module and
    its tensor, None for the input."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(nodes, program.graph_signature.input_specs):
        tensor = program.state_dict.get(spec.target)
        yield node, spec.target, program.constants.get(spec.target) if tensor is None else tensor


def calls(graph):
    """The calls of a graph that compute something: not those that take results out of tuples, or only assert."""
    idle = {operator.getitem, torch.ops.aten._assert_tensor_metadata.default}
    return [node for node in graph.nodes if node.op == "call_function" and node.target not in idle]


def output(graph):
    """The nodes that a graph gives back."""
    return next(node for node in graph.nodes if node.op == "output").args[0]
