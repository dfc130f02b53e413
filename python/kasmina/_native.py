"""The shared libraries: found, loaded, and the C ABI's control calls as Python functions that raise.

The hot path does not come through here: it is `torch.ops.kasmina`. This module knows no tensors.
"""

import atexit
import ctypes
import enum
import json
import logging
import os
import pathlib
import re

import torch

_OLDEST_TORCH = (2, 11)
_ABI_VERSION = 1


class ErrorClass(enum.Enum):
    """What kind of thing failed. Each kind is recovered from in its own way; docs/failures.md says how."""

    REQUEST = 0
    COMPILE = 1
    LOAD = 2
    EXECUTE = 3
    MEMORY = 4
    DEVICE = 5
    VALIDATION = 6
    BUS = 7
    STORAGE = 8
    DEFECT = 9


class Error(RuntimeError):
    """What the library reports: `status` is its number in the C ABI, `error_class` says what kind of thing failed, and
    `attachments` are texts such as a compiler log."""

    def __init__(self, message, status, attachments=(), error_class=ErrorClass.REQUEST):
        super().__init__(message)
        self.status = status
        self.error_class = error_class
        self.attachments = dict(attachments)


class TransitionRefused(Error):
    """A command that the lifecycle or a gate does not allow now; the message says which, and the value it saw."""


class SnapshotMismatch(Error):
    """A snapshot that is not of this layer as it now is: of another one, or from before a blueprint was added."""


_ERRORS = {5003: TransitionRefused, 5006: SnapshotMismatch}


class Handle(ctypes.Structure):
    """A layer, a blueprint or a snapshot of the C ABI."""

    _fields_ = [("id", ctypes.c_uint64)]


class LayerConfig(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("hidden", ctypes.c_uint64),
        ("seeds", ctypes.c_uint64),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("parameter_type", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("settings", ctypes.c_char_p),
    ]


class LayerInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("hidden", ctypes.c_uint64),
        ("seeds", ctypes.c_uint64),
        ("chunk", ctypes.c_uint64),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("parameter_type", ctypes.c_int32),
        ("blueprint_count", ctypes.c_uint32),
        ("epoch", ctypes.c_uint64),
        ("draws", ctypes.c_uint32),
        ("trains", ctypes.c_uint32),
        ("applies", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class SnapshotInfo(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("epoch", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("taken", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class LossGuard(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("deviations", ctypes.c_double),
        ("rise", ctypes.c_double),
        ("decay", ctypes.c_double),
        ("warm_up", ctypes.c_uint64),
        ("mean", ctypes.c_double),
        ("variance", ctypes.c_double),
        ("accepted", ctypes.c_uint64),
    ]


class Command(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("seed", ctypes.c_uint32),
        ("action", ctypes.c_int32),
        ("blueprint", ctypes.c_int32),
        ("strategy", ctypes.c_int32),
        ("validation_delta", ctypes.c_double),
        ("stability", ctypes.c_double),
        ("improvement", ctypes.c_double),
        ("error_rate", ctypes.c_double),
        ("reason", ctypes.c_char_p),
    ]


class Grafting(ctypes.Structure):
    """What a strategy is told of a seed when an epoch ends; NaN is what is not known."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("seed", ctypes.c_uint32),
        ("epoch", ctypes.c_uint32),
        ("epochs_in_state", ctypes.c_uint32),
        ("alpha", ctypes.c_float),
        ("metric", ctypes.c_double),
        ("improvement", ctypes.c_double),
        ("root_mean_square", ctypes.c_double),
        ("gradient_norm", ctypes.c_double),
    ]


class Statistics(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("compiled", ctypes.c_uint64),
        ("memory_hits", ctypes.c_uint64),
        ("disk_hits", ctypes.c_uint64),
        ("failed", ctypes.c_uint64),
        ("compile_seconds", ctypes.c_double),
        ("waiting", ctypes.c_uint64),
        ("disk_errors", ctypes.c_uint64),
        ("validated", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("validation_seconds", ctypes.c_double),
        ("stepped_down", ctypes.c_uint64),
        ("given_up", ctypes.c_uint64),
        ("running", ctypes.c_uint64),
        ("cancelled", ctypes.c_uint64),
        ("timed_out", ctypes.c_uint64),
    ]


def _directory():
    """Where the libraries lie: KASMINA_LIBRARY_DIRECTORY, beside this file, or the build folder of the repository."""
    package = pathlib.Path(__file__).resolve().parent
    places = [package / "lib", package.parent.parent / "build" / "lib"]
    if chosen := os.environ.get("KASMINA_LIBRARY_DIRECTORY"):
        places = [pathlib.Path(chosen)]
    for place in places:
        if (place / "libkasmina.so").exists() and (place / "libkasmina_torch.so").exists():
            return place
    looked = " and ".join(str(place) for place in places)
    raise ImportError(f"kasmina: the libraries are not built (looked in {looked}). Run `make build` in the repository.")


def _load():
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _OLDEST_TORCH:
        raise ImportError(f"kasmina needs torch 2.11 or later, and this is torch {torch.__version__}.")
    directory = _directory()
    library = ctypes.CDLL(str(directory / "libkasmina.so"))
    library.kasmina_abi_version.restype = ctypes.c_uint32
    if (found := library.kasmina_abi_version()) != _ABI_VERSION:
        raise ImportError(f"kasmina: {directory} has ABI version {found}, not {_ABI_VERSION}. Run `make build`.")
    torch.ops.load_library(directory / "libkasmina_torch.so")
    # The derivatives use torch's full C++ API, which changes between versions of torch.
    try:
        autograd = ctypes.CDLL(str(directory / "libkasmina_autograd.so"))
        autograd.kasmina_autograd_torch_version.restype = ctypes.c_char_p
        built_for = autograd.kasmina_autograd_torch_version().decode()
    except OSError as error:
        built_for = str(error)
    if built_for.split(".")[:2] != [str(number) for number in version]:
        raise ImportError(
            f"kasmina: {directory / 'libkasmina_autograd.so'} does not fit torch {torch.__version__} ({built_for}). "
            "Run `make build` with this torch."
        )
    return library


_library = _load()
_pointer = ctypes.POINTER
_bytes = _pointer(ctypes.c_void_p)
_text = ctypes.c_char_p

# The arguments of each function, without the error that comes last.
_ARGUMENTS = {
    "kasmina_blueprint_from_json": (_text, ctypes.c_size_t, _pointer(Handle)),
    "kasmina_blueprint_from_library": (_text, ctypes.c_uint64, _text, _pointer(Handle)),
    "kasmina_blueprint_to_json": (Handle, _bytes),
    "kasmina_blueprint_hash": (Handle, _pointer(ctypes.c_uint8)),
    "kasmina_blueprint_chunk": (Handle, _pointer(ctypes.c_uint64)),
    "kasmina_blueprint_parameter_count": (Handle, _pointer(ctypes.c_uint64)),
    "kasmina_blueprint_initial_values": (Handle, ctypes.c_uint64, _pointer(ctypes.c_double), ctypes.c_uint64),
    "kasmina_blueprint_destroy": (Handle,),
    "kasmina_layer_create": (_pointer(LayerConfig), _pointer(Handle)),
    "kasmina_layer_get_info": (Handle, _pointer(LayerInfo)),
    "kasmina_layer_add_blueprint": (Handle, Handle, ctypes.c_uint64, _pointer(ctypes.c_uint32)),
    "kasmina_layer_prepare": (Handle, ctypes.c_int32, ctypes.c_uint32),
    "kasmina_layer_wait_for_kernels": (Handle,),
    "kasmina_layer_report": (Handle, _bytes),
    "kasmina_layer_state": (Handle, _bytes),
    "kasmina_layer_to_bytes": (Handle, ctypes.c_void_p, _bytes),
    "kasmina_layer_from_bytes": (_text, ctypes.c_size_t, ctypes.c_int32, ctypes.c_int32, _pointer(Handle)),
    "kasmina_layer_copy": (Handle, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p, _pointer(Handle)),
    "kasmina_layer_destroy": (Handle,),
    "kasmina_layer_submit": (Handle, _pointer(Command), ctypes.c_size_t),
    "kasmina_layer_end_epoch": (Handle, ctypes.c_void_p, _bytes),
    "kasmina_layer_set_strategy": (Handle, ctypes.c_void_p, ctypes.c_void_p),
    "kasmina_layer_set_metric": (Handle, ctypes.c_double),
    "kasmina_layer_set_time": (Handle, ctypes.c_double),
    "kasmina_layer_roll_back": (Handle, ctypes.c_uint32, _text, ctypes.c_void_p),
    "kasmina_layer_restore": (Handle, Handle, _text, ctypes.c_void_p, _bytes),
    "kasmina_snapshot_create": (Handle, ctypes.c_void_p, _pointer(Handle)),
    "kasmina_snapshot_take": (Handle, Handle, ctypes.c_void_p),
    "kasmina_snapshot_get_info": (Handle, _pointer(SnapshotInfo)),
    "kasmina_snapshot_destroy": (Handle,),
    "kasmina_loss_guard_judge": (_pointer(LossGuard), ctypes.c_double, _bytes),
    "kasmina_get_statistics": (_pointer(Statistics),),
    "kasmina_set_log": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32),
}

for _name, _arguments in _ARGUMENTS.items():
    _function = getattr(_library, _name)
    _function.argtypes = (*_arguments, _bytes)
    _function.restype = ctypes.c_int32
for _name, _result in {
    "kasmina_error_message": ctypes.c_char_p,
    "kasmina_error_attachment_count": ctypes.c_size_t,
    "kasmina_error_get_class": ctypes.c_int32,
    "kasmina_error_destroy": None,
    "kasmina_bytes_data": ctypes.c_void_p,
    "kasmina_bytes_length": ctypes.c_size_t,
    "kasmina_bytes_destroy": None,
}.items():
    getattr(_library, _name).argtypes = (ctypes.c_void_p,)
    getattr(_library, _name).restype = _result
for _name in ("kasmina_error_attachment_name", "kasmina_error_attachment_text"):
    getattr(_library, _name).argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    getattr(_library, _name).restype = ctypes.c_char_p


def call(name, *arguments):
    """Calls a function of the C ABI and raises what it reports."""
    error = ctypes.c_void_p()
    status = getattr(_library, name)(*arguments, ctypes.byref(error))
    if status == 0:
        return
    message = _library.kasmina_error_message(error).decode()
    attachments = [
        (
            _library.kasmina_error_attachment_name(error, index).decode(),
            _library.kasmina_error_attachment_text(error, index).decode(),
        )
        for index in range(_library.kasmina_error_attachment_count(error))
    ]
    error_class = ErrorClass(_library.kasmina_error_get_class(error))
    _library.kasmina_error_destroy(error)
    raise _ERRORS.get(status, Error)(message, status, attachments, error_class)


def take_bytes(name, *arguments):
    """Calls a function whose last result is bytes and returns them; None if it gives none."""
    result = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(result))
    if not result:
        return None
    try:
        return ctypes.string_at(_library.kasmina_bytes_data(result), _library.kasmina_bytes_length(result))
    finally:
        _library.kasmina_bytes_destroy(result)


def take_text(name, *arguments):
    """The same for text, or None if there is none."""
    text = take_bytes(name, *arguments)
    return None if text is None else text.decode()


def make(name, *arguments, destroy):
    """Calls a function whose last result is a handle and returns an owner of it."""
    handle = Handle()
    call(name, *arguments, ctypes.byref(handle))
    return Owner(handle, destroy)


class Owner:
    """Destroys a handle when nobody holds it any more."""

    def __init__(self, handle, destroy):
        self.handle = handle
        self._destroy = getattr(_library, destroy)

    def __del__(self):
        self._destroy(self.handle, None)


def statistics():
    """What this process has compiled and found in the kernel caches so far."""
    result = Statistics(struct_size=ctypes.sizeof(Statistics))
    call("kasmina_get_statistics", ctypes.byref(result))
    return {name: getattr(result, name) for name, _ in Statistics._fields_[1:]}


def as_json(value):
    """JSON as the C ABI takes it; None is NULL."""
    return None if value is None else json.dumps(value).encode()


_double = _pointer(ctypes.c_double)
_StrategyCallback = ctypes.CFUNCTYPE(ctypes.c_int32, _pointer(Grafting), _double, _double, ctypes.c_void_p)


def strategy_callback(strategy):
    """A Python strategy as the C ABI calls it; None is NULL. It must be kept for as long as the library has it."""
    if strategy is None:
        return None

    @_StrategyCallback
    def callback(seen, memory, increment, _):
        # No exception can pass through C: the library is told that it failed, and the log why.
        try:
            increment[0], memory[0] = strategy(Grafting.from_buffer_copy(seen.contents), memory[0])
        except Exception:
            _logger.exception("the strategy of seed %d failed", seen.contents.seed)
            return 1
        return 0

    return callback


_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}
_logger = logging.getLogger("kasmina")


@ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)
def _log(level, message, _):
    _logger.log(_LEVELS.get(level, logging.INFO), "%s", message.decode(errors="replace"))


# The library keeps the callback for as long as the process lives, but Python does not.
call("kasmina_set_log", _log, None, 2)
atexit.register(lambda: call("kasmina_set_log", None, None, 0))
