"""Printed Triton kernels: made by the command line, compiled ahead of time, launched and compared with plain torch.

As a program it takes requests as JSON from standard input, `[{"blueprints", "pass", "dtype", "chunk"}, ...]`, launches each
on `--device`, and prints what went wrong, a line each. On the CPU Triton's interpreter runs the kernels; it is chosen by
TRITON_INTERPRET=1 before Triton is imported, hence the process of its own.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zlib

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "bin" / "kasmina"
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}
PASSES = ["forward", "backward", "train"]

# States of the seeds of a layer: identity, blended and trained, blended and frozen, trained in isolation.
DORMANT, TRAINING, GRAFTING, FOSSILIZED = 0, 2, 3, 7
STATES = [GRAFTING, DORMANT, FOSSILIZED, TRAINING]
ALPHA = [0.25, 1.0, 1.0, 0.5]
# Rows for two of three blocks.
ROWS, TAIL = 21, 3


def source(request):
    """The Triton source of a kernel."""
    command = [PROGRAM, "compile", "--emit", "triton", "--pass", request["pass"], "--dtype", request["dtype"]]
    command += ["--chunk", str(request["chunk"])]
    if request["pass"] == "backward":
        command.append("--alpha-gradient")
    with tempfile.TemporaryDirectory() as folder:
        for number, blueprint in enumerate(request["blueprints"]):
            if not blueprint.startswith("library:"):
                path = pathlib.Path(folder, f"{number}.json")
                path.write_text(blueprint)
                blueprint = path
            command.append(blueprint)
        printed = subprocess.run(command, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    return printed.stdout


@contextlib.contextmanager
def module(text):
    """The source as a Python module. Triton reads a kernel's source again, so it lies in a file as long as it is used."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "kernel.py")
        path.write_text(text)
        specification = importlib.util.spec_from_file_location(path.stem, path)
        made = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(made)
        yield made


def compiled(printed, capability, telemetry=True):
    """What Triton makes of a printed kernel, to machine code, which needs no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = dict(printed.SIGNATURE)
    if not telemetry:
        signature["telemetry"] = "constexpr"
    constants = {} if telemetry else {(list(signature).index("telemetry"),): None}
    kernel = ASTSource(printed.kasmina, signature, constants)
    return triton.compile(kernel, target=GPUTarget("cuda", capability, 32), options={"num_stages": 1}).asm


def refusal(request, capabilities, telemetry=True):
    """The reason if Triton's compiler refuses a kernel, else None."""
    with module(source(request)) as printed:
        for capability in capabilities:
            try:
                assert compiled(printed, capability, telemetry)["cubin"].startswith(b"\x7fELF")
            except Exception as error:  # whatever it is, it belongs to this kernel
                return f"sm_{capability} {request}: {error!r}"


def complete_interpreter():
    """Adds what Triton's interpreter lacks: libdevice, for which numpy stands in; numbers out of tiles of one element, which
    numpy 2.4 does not give; atomic operations with broadcast tiles."""
    import math

    import numpy
    import triton.language as tl
    from triton.language.extra import libdevice
    from triton.runtime import interpreter
    from triton.runtime.interpreter import TensorHandle

    patch = interpreter._patch_lang_tensor

    def patch_further(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_further

    # It takes the values of an atomic operation to lie one after the other, which those of a broadcast tile do not.
    operate = interpreter.InterpreterBuilder.create_atomic_rmw

    def operate_on_copies(self, operation, address, value, *further):
        value = TensorHandle(numpy.ascontiguousarray(value.data), value.dtype)
        return operate(self, operation, address, value, *further)

    interpreter.InterpreterBuilder.create_atomic_rmw = operate_on_copies

    def on_tiles(function):
        def apply(*arguments):
            kind = next(argument for argument in arguments if isinstance(argument, tl.tensor))
            data = [getattr(argument, "handle", argument) for argument in arguments]
            data = [getattr(argument, "data", argument) for argument in data]
            with numpy.errstate(all="ignore"):
                result = numpy.asarray(function(*data)).astype(kind.handle.data.dtype)
            return tl.tensor(TensorHandle(result, kind.dtype.scalar), kind.type)

        return apply

    functions = {name: getattr(numpy, name) for name in ["exp", "log", "sqrt", "tanh", "sin", "cos", "floor"]}
    functions["rsqrt"] = lambda v: 1 / numpy.sqrt(v)
    functions["erf"] = numpy.vectorize(math.erf, otypes=[numpy.float64])
    functions["pow"] = numpy.power
    for name, function in functions.items():
        setattr(libdevice, name, on_tiles(function))


def compare(request, device):
    """Launches a kernel of one blueprint and says in what it differs from plain torch: nothing, or for each result where it
    differs most."""
    import kasmina

    torch.manual_seed(zlib.crc32(json.dumps(request).encode()))
    (blueprint,), chunk = request["blueprints"], request["chunk"]
    dtype = TYPES[request["dtype"]]
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    slots = [2, 0, 3, 1]
    library = blueprint.startswith("library:")
    if library:
        name, *attributes = blueprint.removeprefix("library:").split(",")
        attributes = {key: int(value) for key, value in (attribute.split("=") for attribute in attributes)}
        blueprint = kasmina.Blueprint.library(name, chunk, **attributes)
    references = [kasmina.to_module(blueprint, random_seed=seed).double().eval() for seed in range(len(STATES))]
    bank = torch.zeros(len(STATES), sum(parameter.numel() for parameter in references[0].parameters()), dtype=compute)
    for reference, slot in zip(references, slots):
        if library:
            # Some of the library's begin with zeros, which hide mistakes.
            for parameter in reference.parameters():
                parameter.data += torch.rand(parameter.shape, dtype=torch.float64) * 0.5 - 0.25
        flat = [parameter.data.flatten() for parameter in reference.parameters()]
        bank[slot] = torch.cat(flat).to(compute) if flat else bank[slot]
        # The reference starts from what the bank can hold.
        offset = 0
        for parameter in reference.parameters():
            parameter.data = bank[slot][offset : offset + parameter.numel()].view(parameter.shape).double()
            offset += parameter.numel()

    hidden = chunk * len(STATES) + TAIL
    rows = {name: (torch.rand(ROWS, hidden) * 4 - 2).to(dtype) for name in ("x", "output_gradient", "target")}
    expected = plain(request["pass"], references, rows, chunk, slots, bank.shape, torch.float64)
    # How much rounding matters, torch says as well.
    rounded = plain(request["pass"], [one.to(compute) for one in references], rows, chunk, slots, bank.shape, compute)

    on = lambda tensor: tensor.to(device)
    int32 = lambda numbers: on(torch.tensor(numbers, dtype=torch.int32))
    found = {
        "output": on(torch.full((ROWS, hidden), torch.nan, dtype=dtype)),
        "gradient": on(torch.zeros_like(bank)),
        "alpha_gradient": on(torch.zeros(len(STATES))),
        "loss": on(torch.zeros(len(STATES), 2, dtype=torch.float64)),
        "telemetry": on(torch.zeros(len(STATES), 10, dtype=torch.float64)),
    }
    found["telemetry"][:, 3], found["telemetry"][:, 4] = torch.inf, -torch.inf
    given = {"lifecycle": on(torch.tensor(STATES, dtype=torch.int8)), "blueprint": int32([0] * len(STATES))}
    given |= {"slot": int32(slots), "alpha": on(torch.tensor(ALPHA)), "branch": int32([0])}
    given |= {"banks": [(on(bank), found["gradient"])], "telemetry": found["telemetry"], "row_blocks": 3}
    if request["pass"] == "train":
        given |= {"x": on(rows["x"]), "target": on(rows["target"]), "loss": found["loss"], "loss_scale": 0.125}
    else:
        given |= {"x": on(rows["x"]), "output": found["output"]}
    if request["pass"] == "backward":
        given |= {"output_gradient": on(rows["output_gradient"]), "alpha_gradient": found["alpha_gradient"]}
    with module(source(request)) as printed:
        printed.launch(**given)

    unit, wrong = torch.finfo(dtype).eps, []
    for what, exact in expected.items():
        if exact.numel() == 0:
            continue
        # Where nothing was seen there is no smallest and no largest.
        result = found[what].cpu().double()
        result = result.nan_to_num(torch.nan, 0, 0) if what == "telemetry" else result
        bound = 2e-6 * exact.abs().max() + 16 * (rounded[what].double() - exact).abs().max() + 1e-9
        if what == "output":
            bound = bound + unit * exact.abs()
        error, bound = (result - exact).abs(), bound.expand(exact.shape)
        if not bool((error <= bound).all()):
            worst = (error - bound).nan_to_num(torch.inf).argmax()
            at = tuple(int(index) for index in torch.unravel_index(worst, error.shape))
            wrong.append(f"{what} {at} is {result[at].item()}, not {exact[at].item()} (bound {bound[at].item():.2e})")
    return "; ".join(wrong)


def plain(kind, references, rows, chunk, slots, bank_shape, compute):
    """What a pass writes, by torch's autograd."""
    x, output_gradient, target = (rows[name].to(compute) for name in ("x", "output_gradient", "target"))
    found = {"gradient": torch.zeros(bank_shape, dtype=torch.float64)}
    identity = x if kind == "forward" else output_gradient
    output = identity.clone()
    alpha_gradient, loss = torch.zeros(len(STATES)).double(), torch.zeros(len(STATES), 2).double()
    for seed, (state, reference) in enumerate(zip(STATES, references)):
        columns = slice(seed * chunk, (seed + 1) * chunk)
        if state != TRAINING if kind == "train" else state not in (GRAFTING, FOSSILIZED):
            continue
        row = x[:, columns].clone().requires_grad_()
        alpha = torch.tensor(ALPHA[seed], dtype=compute, requires_grad=True)
        reference.zero_grad()
        f = reference(row)
        if kind == "train":
            error = 0.125 * (f - target[:, columns]).square().sum()
            if error.requires_grad:
                error.backward()
            loss[seed] = torch.tensor([error.item(), 1])
        else:
            y = (1 - alpha) * row + alpha * f
            output[:, columns] = y.detach() if kind == "forward" else 0
            if kind == "backward":
                y.backward(output_gradient[:, columns])
                output[:, columns] = row.grad
                alpha_gradient[seed] = alpha.grad
        if kind != "forward" and state != FOSSILIZED:
            # Autograd gives none where a parameter decides and does nothing else.
            gradients = [one.grad if one.grad is not None else torch.zeros_like(one) for one in reference.parameters()]
            if gradients:
                found["gradient"][slots[seed]] = torch.cat([gradient.flatten().double() for gradient in gradients])
    if kind == "forward":
        return {"output": output.double(), "telemetry": telemetry(x.double(), chunk)}
    if kind == "backward":
        squares = output_gradient.double()[:, : chunk * len(STATES)].square().sum(0).view(len(STATES), chunk).sum(1)
        seen = torch.zeros(len(STATES), 10, dtype=torch.float64)
        seen[:, 8] = squares
        return found | {"output": output.double(), "alpha_gradient": alpha_gradient, "telemetry": seen}
    return found | {"loss": loss}


def telemetry(x, chunk):
    """The columns of a forward pass in which every element is finite."""
    seen = torch.zeros(len(STATES), 10, dtype=torch.float64)
    for seed in range(len(STATES)):
        v = x[:, seed * chunk : (seed + 1) * chunk]
        seen[seed, :7] = torch.stack(
            [
                torch.tensor(float(v.numel())).double(),
                v.sum(),
                v.square().sum(),
                v.min(),
                v.max(),
                (v.abs() < 1e-6).sum().double(),
                (v[:, 1:] * v[:, :-1]).sum(),
            ]
        )
    return seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    if os.environ.get("TRITON_INTERPRET") == "1":
        complete_interpreter()
    torch.set_num_threads(1)
    for request in json.load(sys.stdin):
        try:
            wrong = compare(request, device)
        except Exception as error:  # whatever it is, it belongs to this kernel
            import traceback

            wrong = "".join(traceback.format_exception(error))
        if wrong:
            print(request, wrong, flush=True)


if __name__ == "__main__":
    main()
