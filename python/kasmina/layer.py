"""The layer as a torch module: a thin shell around the library's layer, which does all the work."""

import ctypes
import dataclasses
import enum
import json
import math

import torch

from . import _native
from .blueprint import Blueprint
from .optimizer import register_bank
from .snapshot import Snapshot

_ops = torch.ops.kasmina
_DATA_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
_PARAMETER_TYPES = {0: torch.float32, 3: torch.float64}
_DEVICE_TYPES = {"cpu": 1, "cuda": 2}
_ALPHA_GRADIENT = 2
# The host's view of the state: lifecycle, blueprint, epochs, strategy.
_STATE_COLUMNS = 4

# The arrays of the library, by their numbers in the C ABI.
_STATE_ARRAYS = (
    "lifecycle blueprint slot alpha epochs_in_state strategy last_update_epoch embargo error_count flags "
    "telemetry loss germinations strategy_memory"
).split()
_BANK_ARRAYS = "parameters first_moment second_moment steps mode non_finite".split()


class Lifecycle(enum.IntEnum):
    """The states of a seed."""

    DORMANT = 0
    GERMINATED = 1
    TRAINING = 2
    GRAFTING = 3
    STABILIZATION = 4
    EVALUATING = 5
    FINE_TUNING = 6
    FOSSILIZED = 7
    CULLED = 8
    CANCELLED = 9
    ROLLED_BACK = 10


class Action(enum.IntEnum):
    """What a command asks of a seed."""

    GERMINATE = 1
    CANCEL = 2
    START_TRAINING = 3
    START_GRAFTING = 4
    STABILISE = 5
    EVALUATE = 6
    FINE_TUNE = 7
    FOSSILISE = 8
    CULL = 9
    RESET = 10
    ROLL_BACK = 11
    PAUSE = 12
    RESUME = 13


class Strategy(enum.IntEnum):
    """How a seed's blend weight rises while it grafts."""

    FIXED_RAMP = 0
    PERFORMANCE_LINKED = 1
    DRIFT_CONTROLLED = 2
    GRAD_NORM_GATED = 3
    USER = 4


@dataclasses.dataclass
class Command:
    """A command to one seed, with the evidence its gate asks for (NaN: none) and the reason for the record.

    `blueprint` and `strategy` are of a seed that germinates.
    """

    seed: int
    action: Action
    blueprint: int = 0
    strategy: Strategy = Strategy.FIXED_RAMP
    validation_delta: float = math.nan
    stability: float = math.nan
    improvement: float = math.nan
    error_rate: float = math.nan
    reason: str = ""

    def _native(self):
        return _native.Command(
            struct_size=ctypes.sizeof(_native.Command),
            seed=self.seed,
            action=int(self.action),
            blueprint=self.blueprint,
            strategy=int(self.strategy),
            validation_delta=self.validation_delta,
            stability=self.stability,
            improvement=self.improvement,
            error_rate=self.error_rate,
            reason=self.reason.encode(),
        )


class Layer(torch.nn.Module):
    """A Kasmina layer: put it behind any layer whose output is `[..., hidden]`, or `[N, hidden, *spatial]` with
    `channels="first"`, as convolutions give it. Every memory format is fine, `channels_last` too; the output has the
    input's.

    The channels are cut into one chunk for each seed (`hidden % seeds` channels at the end are passed through). A
    dormant seed passes its chunk through. Commands (`submit`, or a method for each action) take a seed through its
    lifecycle; they take effect at `end_epoch`, which the trainer calls after each epoch. In training mode, `forward`
    also observes the input and runs a step of isolated training for the seeds in TRAINING; in evaluation mode it does
    neither.

    `blueprints` are pairs of a blueprint (or the name of one in the library) and how many seeds may have it at once.
    The parameters of all seeds of one blueprint are one `nn.Parameter` of `[capacity, parameters of a seed]`, in memory
    that the library shares; rows of seeds that are not being trained keep their bits under any `torch.optim` optimiser.

    With `inplace=True` the output is the input's own memory, as for `torch.nn.ReLU(inplace=True)`: only chunks of seeds that
    apply a blueprint are written, so a dormant layer writes nothing. It is meant for evaluation: where gradients are
    wanted, the backward pass needs the input, and a copy of it is kept.

    Rows may be float32, float16 or bfloat16, with float32 parameters, or float64 with float64 parameters; `half()` and
    `bfloat16()` therefore leave float32 parameters as they are. On a CUDA device, products of float32 rows are rounded to TF32
    where torch allows it for its own (`torch.set_float32_matmul_precision`) when the layer is made; `settings` may say
    `{"allow_tf32": ...}` instead, and a checkpoint keeps it. Moving a layer (`to`, `cuda`, `double`) takes all of its
    state along and keeps the parameters' identity.
    """

    # What `set_strategy` was given; also of layers that were pickled before there were any.
    _strategy = None
    # Of layers that were pickled before there was a choice.
    inplace = False

    def __init__(
        self,
        hidden,
        seeds,
        blueprints=(),
        *,
        channels="last",
        inplace=False,
        device=None,
        dtype=torch.float32,
        settings=None,
    ):
        super().__init__()
        if channels not in ("first", "last"):
            raise ValueError(f"kasmina: channels are 'first' (axis 1) or 'last', not {channels!r}")
        self.channels = channels
        self.inplace = inplace
        device = torch.device(device) if device is not None else torch.get_default_device()
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"kasmina: the parameters of a layer are float32 or float64, not {dtype}")
        config = _native.LayerConfig(
            struct_size=ctypes.sizeof(_native.LayerConfig),
            hidden=hidden,
            seeds=seeds,
            parameter_type=_DATA_TYPES[dtype],
            settings=_native.as_json({"allow_tf32": _allows_tf32(), **(settings or {})}),
        )
        config.device_type, config.device_index = _device_numbers(device)
        self._adopt(_make("kasmina_layer_create", ctypes.byref(config)))
        for blueprint, capacity in blueprints:
            self.add_blueprint(blueprint, capacity)

    def add_blueprint(self, blueprint, capacity):
        """Makes a blueprint available to `capacity` seeds at once and returns its index, which `germinate` takes.

        This adds an `nn.Parameter`; an optimiser that exists already has to be told of it (`add_param_group`).
        """
        if isinstance(blueprint, str):
            blueprint = Blueprint.library(blueprint, self.chunk)
        self._take_banks_back()
        index = ctypes.c_uint32()
        _native.call("kasmina_layer_add_blueprint", self._handle, blueprint.handle, capacity, ctypes.byref(index))
        self._share_banks()
        return index.value

    def forward(self, x, target=None):
        """The layer's output for x. Seeds in TRAINING learn to compute `target` from x; without one, x itself."""
        if self.channels == "first":
            # Views: the operators take any strides, and give the output those of the input.
            target = None if target is None else target.movedim(1, -1)
            y = self._forward(x.movedim(1, -1), target)
            return x if self.inplace else y.movedim(-1, 1)
        return self._forward(x, target)

    def _forward(self, x, target):
        banks = self.banks()
        if self.training and self._isolated_training:
            with torch.no_grad():
                _ops.train_(x.detach(), target, banks, self._id)
        telemetry = self.telemetry if self.training else None
        deterministic = torch.are_deterministic_algorithms_enabled()
        # One number from torch's generator, so that torch.manual_seed, activation checkpointing and captured graphs all do
        # what they do for torch's own dropout.
        random = torch.randint(2**63 - 1, (1,), device=self.device) if self.training and self._draws else None
        if self.inplace:
            _ops.forward_(x, self.alpha, banks, telemetry, self._id, deterministic, random)
            return x
        return _ops.forward(x, self.alpha, banks, telemetry, self._id, deterministic, random)

    def banks(self):
        """The parameters: one tensor `[capacity, parameters of a seed]` for each blueprint."""
        return [getattr(self, f"bank_{index}") for index in range(self._bank_count)]

    def prepare(self, dtype=torch.float32, alpha_gradient=False):
        """Compiles and loads now what rows of this type need, instead of when they first come."""
        flags = _ALPHA_GRADIENT if alpha_gradient else 0
        _native.call("kasmina_layer_prepare", self._handle, _DATA_TYPES[dtype], flags)

    def wait_for_kernels(self):
        """Waits for what is compiled in the background, so that the epoch's end does not depend on how fast that is."""
        _native.call("kasmina_layer_wait_for_kernels", self._handle)

    # The lifecycle.

    def submit(self, *commands):
        """Checks commands against the lifecycle and its gates; queues all or none of them for the end of the epoch."""
        array = (_native.Command * len(commands))(*(command._native() for command in commands))
        _native.call("kasmina_layer_submit", self._handle, array, len(commands))

    def germinate(self, seed, blueprint=0, strategy=Strategy.FIXED_RAMP, reason=""):
        """Gives a dormant seed a blueprint, by index, and the strategy that blends it in once it is trained."""
        self.submit(Command(seed, Action.GERMINATE, blueprint=blueprint, strategy=strategy, reason=reason))

    def start_training(self, seed, reason=""):
        """Begins a germinated seed's isolated training."""
        self.submit(Command(seed, Action.START_TRAINING, reason=reason))

    def start_grafting(self, seed, reason=""):
        """Begins to blend a trained seed into the network."""
        self.submit(Command(seed, Action.START_GRAFTING, reason=reason))

    def stabilise(self, seed, reason=""):
        """Freezes a grafted seed."""
        self.submit(Command(seed, Action.STABILISE, reason=reason))

    def evaluate(self, seed, reason=""):
        """Begins to measure what a stabilised seed does for the network."""
        self.submit(Command(seed, Action.EVALUATE, reason=reason))

    def fine_tune(self, seed, *, validation_delta, stability, error_rate=math.nan, reason=""):
        """Trains an evaluated seed on the main loss, if it has improved validation. One that did harm (a delta, an error rate or a
        number of errors beyond `gates.cull_...` of the settings) is culled instead; the record of the epoch's end then has
        the reason, `culled_for`.
        """
        evidence = {"validation_delta": validation_delta, "stability": stability, "error_rate": error_rate}
        self.submit(Command(seed, Action.FINE_TUNE, reason=reason, **evidence))

    def fossilise(self, seed, *, improvement, stability, reason=""):
        """Keeps a fine-tuned seed for good."""
        self.submit(Command(seed, Action.FOSSILISE, improvement=improvement, stability=stability, reason=reason))

    def cull(self, seed, reason=""):
        """Drops a seed; its place is under embargo for some epochs."""
        self.submit(Command(seed, Action.CULL, reason=reason))

    def cancel(self, seed, reason=""):
        """Gives a seed up before it is grafted."""
        self.submit(Command(seed, Action.CANCEL, reason=reason))

    def reset(self, seed, reason=""):
        """Makes a culled, cancelled or rolled back seed dormant again."""
        self.submit(Command(seed, Action.RESET, reason=reason))

    def pause(self, seed, reason=""):
        """Holds a grafting seed's blend weight where it is, until it is resumed or leaves GRAFTING."""
        self.submit(Command(seed, Action.PAUSE, reason=reason))

    def resume(self, seed, reason=""):
        """Lets it rise again."""
        self.submit(Command(seed, Action.RESUME, reason=reason))

    def roll_back(self, seed, reason=""):
        """Takes a seed out in an emergency: at once, not at the end of the epoch."""
        _native.call("kasmina_layer_roll_back", self._handle, seed, reason.encode(), self._stream())
        self._read_lifecycle()

    # In an emergency: everything goes back to how it was.

    def snapshot(self, into=None):
        """The layer as it is: everything a checkpoint holds, in memory of the layer's own device. `into` is an earlier snapshot
        of this layer, whose memory is used again.
        """
        self._take_banks_back()
        if into is None:
            arguments = ("kasmina_snapshot_create", self._handle, self._stream())
            return Snapshot(_native.make(*arguments, destroy="kasmina_snapshot_destroy"))
        _native.call("kasmina_snapshot_take", into.handle, self._handle, self._stream())
        return into

    def restore(self, snapshot, reason=""):
        """Puts everything back as it was when the snapshot was taken, from the next forward on: seeds, parameters and their
        moments, telemetry, epochs, random numbers, queued commands. Returns what was done, as a dict, with the commands
        that are `dropped` because they were accepted since.

        To take one seed out and leave the others as they are, there is `roll_back`.
        """
        self._take_banks_back()
        arguments = (self._handle, snapshot.handle, reason.encode(), self._stream())
        restoration = json.loads(_native.take_bytes("kasmina_layer_restore", *arguments))
        self._read_lifecycle()
        # A backward pass that is left over belongs to what was undone.
        torch.autograd.graph.increment_version([self.alpha, *self.banks()])
        return restoration

    def set_strategy(self, strategy):
        """Sets the strategy of seeds that germinate with `Strategy.USER`; None ends it, and their weights are held.

        `strategy(seen, memory)` is called at the end of each epoch for each such seed that grafts and is not paused. It is
        told `seen.seed`, `epoch`, `epochs_in_state`, `alpha`, `metric`, `improvement`, `root_mean_square` and
        `gradient_norm`, and a number that it remembers of the seed, 0.0 at first. It returns by how much the weight rises
        and the number to remember, which checkpoints keep; the strategy itself they do not. If it raises, or the
        increment is below 0 or not finite, the weight is held and the summary says so.
        """
        self._strategy = strategy
        self._install_strategy()

    def _install_strategy(self):
        callback = _native.strategy_callback(self._strategy)
        _native.call("kasmina_layer_set_strategy", self._handle, callback, None)
        # Only now may the one before go, unless an end of an epoch still holds it.
        self._strategy_callback = callback

    def end_epoch(self, metric=None):
        """Ends an epoch: applies the queued commands and moves the blend weights. Returns what happened, as a dict.

        `metric` is what `Strategy.PERFORMANCE_LINKED` follows: higher is better, such as the accuracy, or minus the loss,
        on the validation set.

        Do it after the backward pass: one that is left over fails if its seeds have changed since the forward pass.
        """
        self._take_banks_back()
        if metric is not None:
            _native.call("kasmina_layer_set_metric", self._handle, float(metric))
        # The library may call it until it returns, even after the strategy has replaced itself.
        asked = self._strategy_callback
        summary = json.loads(_native.take_bytes("kasmina_layer_end_epoch", self._handle, self._stream()))
        del asked
        self._read_lifecycle()
        if summary["applied"] or Lifecycle.GRAFTING in self.states():
            torch.autograd.graph.increment_version(self.alpha)
        return summary

    def set_time(self, seconds):
        """Tells the circuit breakers the time, on any clock that does not go back; from now on they go by what they are told and
        not by their own clock. For trainings that want the same decisions in every process or every run.
        """
        _native.call("kasmina_layer_set_time", self._handle, float(seconds))

    def report(self):
        """The layer's health at the end of the last epoch, as a dict."""
        return json.loads(_native.take_bytes("kasmina_layer_report", self._handle))

    @property
    def epoch(self):
        """How many epochs have ended."""
        return _info(self._handle).epoch

    def states(self):
        """The lifecycle state of each seed, as the host knows it."""
        numbers = memoryview(_native.take_bytes("kasmina_layer_state", self._handle)).cast("i")
        return [Lifecycle(number) for number in numbers[::_STATE_COLUMNS]]

    def array(self, name):
        """A state array by name, such as `lifecycle` or `telemetry`: over the library's memory, only to read."""
        return _ops.state(self._id, _STATE_ARRAYS.index(name))

    def bank_array(self, index, name):
        """An array of a blueprint's bank, such as `mode` or `first_moment`, likewise."""
        return _ops.bank(self._id, index, _BANK_ARRAYS.index(name))

    # Where the state lives: moved, saved, loaded, copied.

    def to_bytes(self):
        """A checkpoint of everything: state, parameters, moments, blueprints, settings."""
        self._take_banks_back()
        return _native.take_bytes("kasmina_layer_to_bytes", self._handle, self._stream())

    def get_extra_state(self):
        """The checkpoint as a uint8 tensor: the one entry of this module in a state dict."""
        return torch.frombuffer(bytearray(self.to_bytes()), dtype=torch.uint8)

    def set_extra_state(self, state):
        """Replaces the state by that of a checkpoint, on the device the layer is on."""
        owner = _from_bytes(bytes(state.cpu().numpy()), self.device)
        info = _info(owner.handle)
        found = (info.hidden, info.seeds, _PARAMETER_TYPES[info.parameter_type])
        if found != (self.hidden, self.seeds, self.dtype):
            raise RuntimeError(
                "kasmina: the checkpoint is of a layer with {} channels, {} seeds and {} parameters; ".format(*found)
                + f"this one has {self.hidden}, {self.seeds} and {self.dtype}"
            )
        self._adopt(owner)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        destination[f"{prefix}_extra_state"] = self.get_extra_state()

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        key = f"{prefix}_extra_state"
        if key in state_dict:
            self.set_extra_state(state_dict[key])
        elif strict:
            missing.append(key)
        if strict:
            unexpected += [name for name in state_dict if name.startswith(prefix) and name != key]

    def __getstate__(self):
        state = self.__dict__.copy()
        for name in ("_owner", "_id", "alpha", "telemetry", "_strategy_callback"):
            del state[name]
        state["_parameters"] = {name: bank.requires_grad for name, bank in self._parameters.items()}
        state["_checkpoint"] = self.to_bytes()
        return state

    def __setstate__(self, state):
        checkpoint, requires_grad = state.pop("_checkpoint"), state.pop("_parameters")
        super().__setstate__({**state, "_parameters": {}})
        self._adopt(_from_bytes(checkpoint, self.device))
        for name, flag in requires_grad.items():
            self._parameters[name].requires_grad_(flag)

    def _apply(self, function, recurse=True):
        probe = function(torch.empty(0, device=self.device, dtype=self.dtype))
        if probe.device.type not in _DEVICE_TYPES or probe.dtype not in _DATA_TYPES:
            raise TypeError(f"kasmina: a layer cannot live on {probe.device} with parameters of {probe.dtype}")
        dtype = torch.float64 if probe.dtype == torch.float64 else torch.float32
        if (probe.device, dtype) != (self.device, self.dtype):
            gradients = [bank.grad for bank in self.banks()]
            self._take_banks_back()
            numbers = (*_device_numbers(probe.device), _DATA_TYPES[dtype], self._stream())
            self._adopt(_make("kasmina_layer_copy", self._handle, *numbers))
            for bank, gradient in zip(self.banks(), gradients):
                bank.grad = None if gradient is None else gradient.to(probe.device, dtype)
        return self

    def extra_repr(self):
        channels = "" if self.channels == "last" else f", channels={self.channels!r}"
        channels += ", inplace=True" if self.inplace else ""
        return f"hidden={self.hidden}, seeds={self.seeds}{channels}, blueprints={self._bank_count}, device={self.device}"

    def _adopt(self, owner):
        """Makes a layer of the library this module's own."""
        info = _info(owner.handle)
        self._owner = owner
        self._id = owner.handle.id
        self.hidden, self.seeds, self.chunk = info.hidden, info.seeds, info.chunk
        self.dtype = _PARAMETER_TYPES[info.parameter_type]
        self.alpha = self.array("alpha")
        self.telemetry = self.array("telemetry")
        self.device = self.alpha.device
        self._share_banks()
        self._read_lifecycle()
        self._install_strategy()

    def _share_banks(self):
        """Points the parameters at the library's banks; they stay the same objects, because optimisers know them."""
        info = _info(self._handle)
        self._bank_count, self._draws = info.blueprint_count, bool(info.draws)
        for index in range(self._bank_count):
            name, memory = f"bank_{index}", self.bank_array(index, "parameters")
            if name in self._parameters:
                self._parameters[name].data = memory
            else:
                self.register_parameter(name, torch.nn.Parameter(memory))
            register_bank(self._parameters[name], self, index)
        for name in list(self._parameters)[self._bank_count :]:
            del self._parameters[name]

    @torch.no_grad()
    def _take_banks_back(self):
        """Brings parameters that somebody gave other memory (`parameter.data = ...`) back to the library's banks."""
        for index, bank in enumerate(self.banks()):
            memory = self.bank_array(index, "parameters")
            if bank.data_ptr() != memory.data_ptr():
                memory.copy_(bank)
                bank.data = memory

    def _read_lifecycle(self):
        """Notes whether any seed trains in isolation, so that `forward` need not ask."""
        self._isolated_training = bool(_info(self._handle).trains)

    @property
    def _handle(self):
        return self._owner.handle

    def _stream(self):
        return torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else None


def _allows_tf32():
    """Whether torch may round f32 in matrix products, as set by any of its ways."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _make(function, *arguments):
    return _native.make(function, *arguments, destroy="kasmina_layer_destroy")


def _from_bytes(checkpoint, device):
    return _make("kasmina_layer_from_bytes", checkpoint, len(checkpoint), *_device_numbers(device))


def _info(handle):
    info = _native.LayerInfo(struct_size=ctypes.sizeof(_native.LayerInfo))
    _native.call("kasmina_layer_get_info", handle, ctypes.byref(info))
    return info


def _device_numbers(device):
    if device.type not in _DEVICE_TYPES:
        raise TypeError(f"kasmina: a layer lives on the CPU or on a CUDA device, not on {device}")
    if device.type == "cpu":
        return _DEVICE_TYPES["cpu"], 0
    return _DEVICE_TYPES["cuda"], torch.cuda.current_device() if device.index is None else device.index
