"""Where a layer's state lives: its arrays and parameters over the library's memory, and how it is moved, saved, loaded, copied.

Knows nothing of commands, epochs and strategies, and of forward and backward passes only which memory they work on.
"""

import ctypes

import torch

from . import _native
from .optimizer import register_bank

_ops = torch.ops.kasmina
DATA_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
_PARAMETER_TYPES = {0: torch.float32, 3: torch.float64}
_DEVICE_TYPES = {"cpu": 1, "cuda": 2}

# The arrays of the library, by their numbers in the C ABI.
STATE_ARRAYS = (
    "lifecycle blueprint slot alpha epochs_in_state strategy last_update_epoch embargo error_count flags "
    "telemetry loss germinations strategy_memory"
).split()
BANK_ARRAYS = "parameters first_moment second_moment steps mode non_finite".split()


class LayerState(torch.nn.Module):
    """A torch module that owns a layer of the library. `_adopt` gives it one, at first and whenever it is replaced."""

    def banks(self):
        """The parameters: one tensor `[capacity, parameters of a seed]` for each blueprint."""
        try:
            return [self._parameters[name] for name in self._bank_names]
        except KeyError:
            # What parametrises or shards a module leaves something else under the name.
            return [getattr(self, name) for name in self._bank_names]

    def array(self, name):
        """A state array by name, such as `lifecycle` or `telemetry`: over the library's memory, only to read."""
        return _ops.state(self._id, STATE_ARRAYS.index(name))

    def bank_array(self, index, name):
        """An array of a blueprint's bank, such as `mode` or `first_moment`, likewise."""
        return _ops.bank(self._id, index, BANK_ARRAYS.index(name))

    def to_bytes(self):
        """A checkpoint of everything: state, parameters, moments, blueprints, settings."""
        self._take_banks_back()
        return _native.take_bytes("kasmina_layer_to_bytes", self._handle, self._stream())

    def get_extra_state(self):
        """The checkpoint as a uint8 tensor: the one entry of this module in a state dict."""
        return torch.frombuffer(bytearray(self.to_bytes()), dtype=torch.uint8)

    def set_extra_state(self, state):
        """Replaces the state by that of a checkpoint, on the device the layer is on. Banks have the blueprints and slots of the
        checkpoint then, whatever they had; for more slots, `add_blueprint` takes a blueprint that the layer has once more.
        """
        owner = _from_bytes(bytes(state.cpu().numpy()), self.device)
        info = layer_info(owner.handle)
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
        for name in ("_owner", "_id", "alpha", "telemetry"):
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
        if probe.device.type not in _DEVICE_TYPES or probe.dtype not in DATA_TYPES:
            raise TypeError(f"kasmina: a layer cannot live on {probe.device} with parameters of {probe.dtype}")
        dtype = torch.float64 if probe.dtype == torch.float64 else torch.float32
        if (probe.device, dtype) != (self.device, self.dtype):
            gradients = [bank.grad for bank in self.banks()]
            self._take_banks_back()
            numbers = (*device_numbers(probe.device), DATA_TYPES[dtype], self._stream())
            self._adopt(make_layer("kasmina_layer_copy", self._handle, *numbers))
            for bank, gradient in zip(self.banks(), gradients):
                bank.grad = None if gradient is None else gradient.to(probe.device, dtype)
        return self

    def _adopt(self, owner):
        """Makes a layer of the library this module's own."""
        info = layer_info(owner.handle)
        self._owner = owner
        self._id = owner.handle.id
        self.hidden, self.seeds, self.chunk = info.hidden, info.seeds, info.chunk
        self.dtype = _PARAMETER_TYPES[info.parameter_type]
        self.alpha = self.array("alpha")
        self.telemetry = self.array("telemetry")
        self.device = self.alpha.device
        self._share_banks()

    def _share_banks(self):
        """Points the parameters at the library's banks; they stay the same objects, because optimisers know them."""
        info = layer_info(self._handle)
        self._draws = bool(info.draws)
        self._bank_names = [f"bank_{index}" for index in range(info.blueprint_count)]
        for index, name in enumerate(self._bank_names):
            memory = self.bank_array(index, "parameters")
            if name not in self._parameters:
                self.register_parameter(name, torch.nn.Parameter(memory))
            bank = self._parameters[name]
            if bank.shape != memory.shape:
                # It is of slots that are gone, and no backward pass could add to it.
                bank.grad = None
            bank.data = memory
            register_bank(bank, self, index)
        for name in list(self._parameters)[len(self._bank_names) :]:
            del self._parameters[name]

    @torch.no_grad()
    def _take_banks_back(self):
        """Brings parameters that somebody gave other memory (`parameter.data = ...`) back to the library's banks."""
        for index, bank in enumerate(self.banks()):
            memory = self.bank_array(index, "parameters")
            if bank.data_ptr() != memory.data_ptr():
                memory.copy_(bank)
                bank.data = memory

    @property
    def _handle(self):
        return self._owner.handle

    def _stream(self):
        return torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else None


def make_layer(function, *arguments):
    """A layer of the library from the function of the C ABI that makes it; it ends with the last who holds it."""
    return _native.make(function, *arguments, destroy="kasmina_layer_destroy")


def layer_info(handle):
    """What the library says of a layer."""
    info = _native.LayerInfo(struct_size=ctypes.sizeof(_native.LayerInfo))
    _native.call("kasmina_layer_get_info", handle, ctypes.byref(info))
    return info


def device_numbers(device):
    """Type and index of a device in the C ABI."""
    if device.type not in _DEVICE_TYPES:
        raise TypeError(f"kasmina: a layer lives on the CPU or on a CUDA device, not on {device}")
    if device.type == "cpu":
        return _DEVICE_TYPES["cpu"], 0
    return _DEVICE_TYPES["cuda"], torch.cuda.current_device() if device.index is None else device.index


def _from_bytes(checkpoint, device):
    return make_layer("kasmina_layer_from_bytes", checkpoint, len(checkpoint), *device_numbers(device))
