"""What Python believes of the C ABI is what the header says."""

import pathlib
import re

import pytest

from kasmina import Action, Lifecycle, Strategy, _native
from kasmina.state import BANK_ARRAYS, STATE_ARRAYS

HEADER = (pathlib.Path(__file__).resolve().parents[2] / "include" / "kasmina" / "kasmina.h").read_text()
PLAIN = {
    "int32_t": "c_int",
    "uint32_t": "c_uint",
    "uint64_t": "c_ulong",
    "size_t": "c_ulong",
    "float": "c_float",
    "double": "c_double",
}


def words(name):
    """A constant's name as ours: FINE_TUNING, epochs_in_state."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name)


def kind(declaration):
    """How an argument travels, from its declaration in C."""
    type_ = declaration.replace("const ", "").strip()
    if "*" in type_ or "callback" in type_:
        return "pointer"
    name = type_.split()[0]
    return "handle" if name.startswith("kasmina_") else PLAIN[name]


def python_kind(type_):
    if type_ is _native.Handle:
        return "handle"
    name = type_.__name__
    return "pointer" if name.startswith("LP_") or name in ("c_char_p", "c_void_p") else name


@pytest.mark.parametrize("function", _native._ARGUMENTS)
def test_a_function_takes_what_the_header_declares(function):
    (arguments,) = re.findall(rf"^kasmina_status {function}\(([^)]*)\)", HEADER, re.MULTILINE)
    declared = [kind(argument) for argument in arguments.split(",")]
    assert [python_kind(type_) for type_ in _native._ARGUMENTS[function]] == declared[:-1]


@pytest.mark.parametrize("structure", ["LayerConfig", "LayerInfo", "Command", "Grafting", "Statistics"])
def test_a_structure_has_the_fields_of_the_header(structure):
    name = "kasmina_" + words(structure).lower()
    (body,) = re.findall(rf"^typedef struct \{{([^}}]*)\}} {name};", HEADER, re.MULTILINE)
    declared = re.findall(r"^ +([\w ]+?[ *]+)(\w+);", body, re.MULTILINE)
    fields = [(field, python_kind(type_)) for field, type_ in getattr(_native, structure)._fields_]
    assert fields == [(field, kind(type_)) for type_, field in declared]


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("KASMINA_LIFECYCLE_", [(state.name, state.value) for state in Lifecycle]),
        ("KASMINA_ACTION_", [(action.name, action.value) for action in Action]),
        ("KASMINA_STRATEGY_", [(strategy.name, strategy.value) for strategy in Strategy]),
        ("KASMINA_LAYER_ARRAY_", [(name.upper(), number) for number, name in enumerate(STATE_ARRAYS)]),
        ("KASMINA_BANK_ARRAY_", [(name.upper(), number) for number, name in enumerate(BANK_ARRAYS)]),
    ],
)
def test_an_enumeration_has_the_numbers_of_the_header(prefix, names):
    declared = re.findall(rf"^ +{prefix}(\w+) = (-?\d+),", HEADER, re.MULTILINE)
    assert names == [(name, int(number)) for name, number in declared]
