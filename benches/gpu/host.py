"""What the host pays: calls without waiting, the batch of commands at an epoch's end, and the copy of telemetry."""

import ctypes
import statistics
import time

import torch
from contest.grown import Kasmina
from contest.workloads import WORKLOADS, Problem, Workload
from growing import OPEN
from layers import record
from stopwatch import copy_rate, failure, host_microseconds

import kasmina
from kasmina import Action, Command, _native
from kasmina.state import DATA_TYPES, device_numbers


class Tensor(ctypes.Structure):
    """kasmina_tensor, of a dense tensor."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("data_type", ctypes.c_int32),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.c_void_p),
    ]

    @classmethod
    def of(cls, tensor):
        shape = (ctypes.c_int64 * tensor.dim())(*tensor.shape)
        numbers = (DATA_TYPES[tensor.dtype], *device_numbers(tensor.device), tensor.dim())
        described = cls(ctypes.sizeof(cls), tensor.data_ptr(), *numbers, shape)
        described.tensor = tensor
        return described


class Forward(ctypes.Structure):
    """kasmina_forward, with nothing but x and y."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("x", ctypes.POINTER(Tensor)),
        ("y", ctypes.POINTER(Tensor)),
        ("others", ctypes.c_void_p * 4),
        ("flags", ctypes.c_uint64),
        ("random", ctypes.c_void_p),
    ]


def forward_by_the_abi(layer, x):
    """A call of kasmina_layer_forward, as a trainer without torch makes it, but for what ctypes adds."""
    tensors = [Tensor.of(tensor) for tensor in (x, torch.empty_like(x))]
    forward = Forward(ctypes.sizeof(Forward), *map(ctypes.pointer, tensors))
    forward.tensors = tensors
    function = _native._library.kasmina_layer_forward
    arguments = layer._handle, ctypes.byref(forward), ctypes.c_void_p(layer._stream()), None

    def run():
        if status := function(*arguments):
            raise RuntimeError(f"kasmina_layer_forward failed with status {status}")

    return run


class Calls:
    """The host's cost of a call, with next to no work on the device: one row."""

    def to_prepare(self, options):
        return []

    def run(self, options, ready):
        (workload,) = [workload for workload in WORKLOADS if workload.name == "latency_1000"]
        problem = Problem(workload, options.device)
        layer = Kasmina(problem).layer
        x = problem.rows(1)[0][:1].contiguous()
        wanted = x.clone().requires_grad_()
        banks, gradient = layer.banks(), torch.ones_like(x)
        forward = torch.ops.kasmina.forward.default

        def operator(x):
            return forward(x, layer.alpha, banks, layer.telemetry, layer._id)

        def step():
            torch.autograd.grad(operator(wanted), (wanted, *banks), gradient)

        # Entering torch.no_grad costs about what torch.relu does, and is no part of any call.
        without = {
            "kasmina, C ABI": forward_by_the_abi(layer, x),
            "kasmina, operator": lambda: operator(x),
            "kasmina, module": lambda: layer(x),
            "torch.relu": lambda: torch.relu(x),
        }
        recorded = {
            "kasmina, operator with autograd": lambda: operator(wanted),
            "kasmina, module with autograd": lambda: layer(wanted),
            "torch.relu with autograd": lambda: torch.relu(wanted),
            "kasmina, operator forward and backward": step,
        }
        ready()
        calls = {"cpu": 1}.get(options.device, 100 if options.quick else 300)
        times = {}
        for gradients, ways in ((False, without), (True, recorded)):
            with torch.set_grad_enabled(gradients):
                for name, run in ways.items():
                    times[name] = host_microseconds(run, options.device, 20, calls)
        yield record(problem, "host cost of a call", times)


class Transitions:
    """A command for every one of 100 000 seeds, and the end of the epoch that applies them."""

    seeds, chunk = 100_000, 4

    def to_prepare(self, options):
        return []

    def run(self, options, ready):
        seeds = max(self.seeds // options.cut, 16)
        workload = Workload("transitions", 1, seeds * self.chunk, seeds, torch.bfloat16, ("residual",), 1)
        problem = Problem(workload, options.device)
        settings = {**OPEN, "max_active_seeds": seeds}
        layer = kasmina.Layer(workload.hidden, seeds, [("residual", seeds)], device=options.device, settings=settings)
        # There and back again: three transitions, each of all seeds.
        batches = [_commands(seeds, action) for action in (Action.GERMINATE, Action.CANCEL, Action.RESET)]
        for batch in batches:
            _submit(layer, batch)
            _end_epoch(layer)
        ready()
        rate = copy_rate(options.device)
        submitted, applied, idle = [], [], []
        for _ in range(1 if options.quick else 3):
            for batch in batches:
                submitted.append(_microseconds(layer, _submit, layer, batch))
                applied.append(_microseconds(layer, _end_epoch, layer))
                idle.append(_microseconds(layer, _end_epoch, layer))
        yield record(problem, "submitting a batch for every seed", {"kasmina": _times(submitted)})
        yield record(problem, "a batch for every seed", {"kasmina": _times(applied)})
        contestants = {"kasmina": _times(idle)}
        try:
            pinned = torch.empty(layer.telemetry.shape, dtype=torch.float64, pin_memory=layer.telemetry.is_cuda)
            copies = [_microseconds(layer, pinned.copy_, layer.telemetry) for _ in range(10)]
            contestants["copy of the telemetry alone"] = _times(copies)
        except Exception as error:
            contestants["copy of the telemetry alone"] = failure(error)
        yield record(problem, "end of an epoch without commands, telemetry copied", contestants, copy_rate=rate)


def _commands(seeds, action):
    return (_native.Command * seeds)(*(Command(seed, action)._native() for seed in range(seeds)))


def _submit(layer, batch):
    _native.call("kasmina_layer_submit", layer._handle, batch, len(batch))


def _end_epoch(layer):
    """The call of the C ABI, without what Python makes of its summary."""
    summary = ctypes.c_void_p()
    _native.call("kasmina_layer_end_epoch", layer._handle, layer._stream(), ctypes.byref(summary))
    _native._library.kasmina_bytes_destroy(summary)


def _microseconds(layer, function, *arguments):
    if layer.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function(*arguments)
    return (time.perf_counter() - start) * 1e6


def _times(all_times):
    return {"call": statistics.median(all_times), "least": min(all_times), "turns": len(all_times)}


HOST = {"host": Calls(), "transitions": Transitions()}
