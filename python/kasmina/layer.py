"""The layer as a torch module: a thin shell around the library's layer, which does all the work.

Forward passes and the lifecycle are here; where the state lives is the business of `state`.
"""

import ctypes
import dataclasses
import enum
import json
import math

import torch

from . import _native
from .blueprint import Blueprint
from .snapshot import Snapshot
from .state import DATA_TYPES, LayerState, device_numbers, layer_info, make_layer

# Overloads, because a packet of them looks for the right one at each call.
_forward = torch.ops.kasmina.forward.default
_forward_in_place = torch.ops.kasmina.forward_.default
_observe = torch.ops.kasmina.observe.default
_train = torch.ops.kasmina.train_.default
_ALPHA_GRADIENT = 2
# The host's view of the state: lifecycle, blueprint, epochs, strategy.
_STATE_COLUMNS = 4


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


class Layer(LayerState):
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

    With `alias_idle=True` the output of an eager call is the input itself while no seed applies a blueprint, as it is for
    `torch.nn.Dropout` in evaluation: nothing is copied or kept, which leaves one read of the input for telemetry, and nothing in
    evaluation. Then what is done in place to the output is done to the input; autograd does not know the layer, so its banks have
    no gradient (`DistributedDataParallel` needs `find_unused_parameters=True`) and no gradient norm is seen; and `roll_back`
    between a forward pass and its recomputation (activation checkpointing) changes what is saved. Graphs, compiled or
    captured, have the operator as ever. docs/python.md has more.

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
    alias_idle = False

    def __init__(
        self,
        hidden,
        seeds,
        blueprints=(),
        *,
        channels="last",
        inplace=False,
        alias_idle=False,
        device=None,
        dtype=torch.float32,
        settings=None,
    ):
        super().__init__()
        if channels not in ("first", "last"):
            raise ValueError(f"kasmina: channels are 'first' (axis 1) or 'last', not {channels!r}")
        self.channels = channels
        self.inplace = inplace
        self.alias_idle = alias_idle
        device = torch.device(device) if device is not None else torch.get_default_device()
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"kasmina: the parameters of a layer are float32 or float64, not {dtype}")
        config = _native.LayerConfig(
            struct_size=ctypes.sizeof(_native.LayerConfig),
            hidden=hidden,
            seeds=seeds,
            parameter_type=DATA_TYPES[dtype],
            settings=_native.as_json({"allow_tf32": _allows_tf32(), **(settings or {})}),
        )
        config.device_type, config.device_index = device_numbers(device)
        self._adopt(make_layer("kasmina_layer_create", ctypes.byref(config)))
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
        aliases = self.alias_idle and self._aliases(x)
        if aliases and not self.training:
            return x
        if self.channels == "last":
            return self._forward_rows(x, target, aliases)
        # Views: the operators take any strides, and give the output those of the input.
        target = None if target is None else target.movedim(1, -1)
        y = self._forward_rows(x.movedim(1, -1), target, aliases)
        return x if aliases or self.inplace else y.movedim(-1, 1)

    def _aliases(self, x):
        """Whether a layer that may alias does. What records a graph records the operator, which stays right when seeds change."""
        if torch.compiler.is_compiling() or self._applies or torch.jit.is_tracing():
            return False
        channels = x.shape[1:2] if self.channels == "first" else x.shape[-1:]
        if channels != (self.hidden,):
            # The operator says what is wrong.
            return False
        return not (x.is_cuda and torch.cuda.is_current_stream_capturing())

    def _forward_rows(self, x, target, aliases):
        deterministic = torch.are_deterministic_algorithms_enabled()
        telemetry = random = None
        if self.training:
            telemetry = self.telemetry
            if self._isolated_training:
                with torch.no_grad():
                    _train(x.detach(), target, self.banks(), self._id, deterministic)
            if aliases:
                _observe(x, telemetry, self._id, deterministic)
                return x
            # One number from torch's generator, so that torch.manual_seed, activation checkpointing and captured graphs all
            # do what they do for torch's own dropout.
            if self._draws:
                random = torch.randint(2**63 - 1, (1,), device=self.device)
        if self.inplace:
            _forward_in_place(x, self.alpha, self.banks(), telemetry, self._id, deterministic, random)
            return x
        return _forward(x, self.alpha, self.banks(), telemetry, self._id, deterministic, random)

    def prepare(self, dtype=torch.float32, alpha_gradient=False):
        """Compiles and loads now what rows of this type need, instead of when they first come."""
        flags = _ALPHA_GRADIENT if alpha_gradient else 0
        _native.call("kasmina_layer_prepare", self._handle, DATA_TYPES[dtype], flags)

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
        if summary["applied"] or Lifecycle.GRAFTING in self._lifecycles():
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
        return layer_info(self._handle).epoch

    def states(self):
        """The lifecycle state of each seed, as the host knows it."""
        every = tuple(Lifecycle)
        return [every[number] for number in self._lifecycles()]

    def _lifecycles(self):
        """The same as bytes: the lowest byte of each number is all of it."""
        rows = memoryview(_native.take_bytes("kasmina_layer_state", self._handle))
        return rows[:: _STATE_COLUMNS * ctypes.sizeof(ctypes.c_int32)].tobytes()

    def extra_repr(self):
        channels = "" if self.channels == "last" else f", channels={self.channels!r}"
        channels += ", inplace=True" if self.inplace else ""
        channels += ", alias_idle=True" if self.alias_idle else ""
        return f"hidden={self.hidden}, seeds={self.seeds}{channels}, blueprints={len(self._bank_names)}, device={self.device}"

    def __getstate__(self):
        state = super().__getstate__()
        del state["_strategy_callback"]
        return state

    def _adopt(self, owner):
        super()._adopt(owner)
        self._read_lifecycle()
        self._install_strategy()

    def _read_lifecycle(self):
        """Notes whether any seed trains in isolation, and whether any applies a blueprint, so that `forward` need not ask."""
        info = layer_info(self._handle)
        self._isolated_training, self._applies = bool(info.trains), bool(info.applies)


def _allows_tf32():
    """Whether torch may round f32 in matrix products, as set by any of its ways."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"
