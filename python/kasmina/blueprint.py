"""Blueprints: what a seed computes."""

import ctypes
import json

from . import _native


class Blueprint:
    """A small trainable graph from one row's chunk to one row's chunk, `[chunk] -> [chunk]`. Immutable.

    Make one with `Blueprint.library` or `Blueprint.from_json`. Two blueprints are equal if they compute the same graph,
    whatever the names in them are.
    """

    def __init__(self, owner):
        self._owner = owner

    @staticmethod
    def from_json(data):
        """A blueprint from JSON: text, bytes, or the object itself. Anything malformed raises `kasmina.Error`."""
        if not isinstance(data, (str, bytes)):
            data = json.dumps(data)
        data = data.encode() if isinstance(data, str) else data
        return Blueprint(_make("kasmina_blueprint_from_json", data, len(data)))

    @staticmethod
    def library(name, chunk, **attributes):
        """A blueprint that comes with the library, such as `mlp` or `bottleneck`, for chunks of `chunk` channels."""
        return Blueprint(
            _make("kasmina_blueprint_from_library", name.encode(), chunk, _native.as_json(attributes or None))
        )

    @property
    def handle(self):
        """The handle in the C ABI."""
        return self._owner.handle

    def to_json(self):
        """The blueprint as JSON text."""
        return _native.take_bytes("kasmina_blueprint_to_json", self.handle).decode()

    @property
    def hash(self):
        """The identity of the graph, 32 bytes."""
        result = (ctypes.c_uint8 * 32)()
        _native.call("kasmina_blueprint_hash", self.handle, result)
        return bytes(result)

    @property
    def chunk(self):
        """Channels of a chunk."""
        return self._number("kasmina_blueprint_chunk")

    @property
    def parameter_count(self):
        """Parameters of one seed with this blueprint."""
        return self._number("kasmina_blueprint_parameter_count")

    def initial_values(self, random_seed=0):
        """The parameters that a seed germinates with, one after the other, as a list of floats."""
        count = self.parameter_count
        values = (ctypes.c_double * count)()
        _native.call("kasmina_blueprint_initial_values", self.handle, random_seed, values, count)
        return list(values)

    def _number(self, function):
        result = ctypes.c_uint64()
        _native.call(function, self.handle, ctypes.byref(result))
        return result.value

    def __eq__(self, other):
        return isinstance(other, Blueprint) and self.hash == other.hash

    def __hash__(self):
        return hash(self.hash)

    def __repr__(self):
        return f"<kasmina.Blueprint {self.hash.hex()[:12]} of {self.chunk} channels, {self.parameter_count} parameters>"

    def __reduce__(self):
        return Blueprint.from_json, (self.to_json(),)


def _make(function, *arguments):
    return _native.make(function, *arguments, destroy="kasmina_blueprint_destroy")
