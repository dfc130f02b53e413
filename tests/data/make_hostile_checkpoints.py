"""Writes hostile_checkpoints/: files that want to do harm to whoever loads them as a checkpoint.

    .venv/bin/python tests/data/make_hostile_checkpoints.py

Most are a good checkpoint with one thing changed and a checksum that matches again, as somebody would write them on purpose.
`tests/rust/layer/hostile.rs` loads each and expects the refusal that `expected.txt` beside them says.
"""

import io
import json
import pathlib
import pickle
import struct
import zipfile
import zlib

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "hostile_checkpoints"
GOOD = (HERE / "checkpoints" / "since-breakers.safetensors").read_bytes()
MARK = b'\\"crc32\\":\\"'


def sealed(file):
    """The file with the checksum that it ought to have."""
    place = file.index(MARK) + len(MARK)
    blank = file[:place] + b"00000000" + file[place + 8 :]
    return blank[:place] + f"{zlib.crc32(blank):08x}".encode() + blank[place + 8 :]


def framed(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


class Checkpoint:
    """The good one, to be changed."""

    def __init__(self):
        length = struct.unpack("<Q", GOOD[:8])[0]
        self.header, self.data = json.loads(GOOD[8 : 8 + length]), bytearray(GOOD[8 + length :])
        self.document = json.loads(self.header["__metadata__"]["kasmina"])
        self.layer = self.document["layer"]

    def put(self, tensor, seed, form, *values):
        """Overwrites elements of a state array, from a seed's on."""
        begin = self.header[f"state.{tensor}"]["data_offsets"][0]
        struct.pack_into(f"<{len(values)}{form}", self.data, begin + seed * struct.calcsize(form), *values)

    def bytes(self, document=None):
        document = json.dumps(self.document, separators=(",", ":")) if document is None else document
        self.header["__metadata__"]["kasmina"] = document
        header = json.dumps(self.header, separators=(",", ":")).encode()
        return sealed(framed(header + b" " * (-len(header) % 8), bytes(self.data)))


class Executed:
    def __reduce__(self):
        return print, ("a checkpoint was executed",)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.dumps(Executed(), 2))
    return file.getvalue()


def tensors(name, **changes):
    def change(checkpoint):
        checkpoint.header[name].update(changes)

    return change


def layer(**changes):
    return lambda checkpoint: checkpoint.layer.update(changes)


def settings(**changes):
    return lambda checkpoint: checkpoint.layer["settings"].update(changes)


def state(tensor, seed, form, *values):
    return lambda checkpoint: checkpoint.put(tensor, seed, form, *values)


def blueprint(**changes):
    def change(checkpoint):
        entry = checkpoint.layer["blueprints"][0]
        entry["blueprint"] = json.dumps({**json.loads(entry["blueprint"]), **changes})

    return change


CHANGES = {
    "tensor-beyond-the-end": tensors("state.flags", data_offsets=[1620, 1 << 40], shape=[(1 << 40) - 1620]),
    "tensor-backwards": tensors("state.flags", data_offsets=[1626, 1620]),
    "tensor-over-another": tensors("state.flags", data_offsets=[0, 6]),
    "tensor-of-overflowing-shape": tensors("state.flags", shape=[1 << 63, 1 << 63]),
    "tensor-of-another-type": tensors("state.flags", dtype="I8"),
    "tensor-missing": lambda checkpoint: checkpoint.header.update(
        {"state.colour": checkpoint.header.pop("state.flags")}
    ),
    "format-of-tomorrow": lambda checkpoint: checkpoint.document.update(format=2),
    "format-that-never-was": lambda checkpoint: checkpoint.document.update(format=0),
    "field-unknown": layer(execute="rm -rf /"),
    "seeds-four-billion": layer(seeds=(1 << 32) - 1),
    "seeds-negative": layer(seeds=-1),
    "hidden-enormous": layer(hidden=1 << 63),
    "epochs-at-the-end-of-time": layer(epoch=(1 << 32) - 1),
    "settings-that-mean-nothing": settings(ramp_steps=0),
    "command-unknown": layer(queue=[[{"seed": 0, "action": "execute"}]]),
    "blueprint-of-no-operator": blueprint(nodes=[{"name": "y", "op": "__import__", "inputs": ["x"]}]),
    "blueprint-of-another-chunk": blueprint(chunk=3),
    "blueprint-vast": blueprint(parameters=[{"name": "w", "shape": [1 << 40]}]),
    "capacity-of-more-than-there-is": lambda checkpoint: checkpoint.layer["blueprints"][0].update(capacity=1 << 31),
    "lifecycle-unknown": state("lifecycle", 0, "b", 11),
    "alpha-above-one": state("alpha", 0, "f", 1.5),
    "alpha-not-a-number": state("alpha", 0, "f", float("nan")),
    "memory-infinite": state("strategy_memory", 0, "d", float("inf")),
    "strategy-unknown": state("strategy", 0, "b", 5),
    "flags-unknown": state("flags", 0, "B", 255),
    "epochs-negative": state("epochs_in_state", 0, "h", -1),
    "slot-far-out": state("slot", 1, "i", 1 << 30),
    "slot-negative": state("slot", 1, "i", -5),
    "slots-all-the-same": lambda checkpoint: (
        checkpoint.put("slot", 0, "i", *[0] * 6),
        checkpoint.put("blueprint", 0, "i", *[0] * 6),
        checkpoint.put("lifecycle", 0, "b", *[2] * 6),
    ),
    "blueprint-of-a-seed-unknown": state("blueprint", 1, "i", 7),
    "slot-of-a-dormant-seed": lambda checkpoint: (
        checkpoint.put("lifecycle", 0, "b", 0),
        checkpoint.put("blueprint", 0, "i", 0),
        checkpoint.put("slot", 0, "i", 0),
    ),
}


def files():
    good = Checkpoint()
    assert good.bytes(good.header["__metadata__"]["kasmina"]) == GOOD, "an unchanged checkpoint is what it was"
    yield "empty", b""
    yield "pickle", pickle.dumps(Executed(), 2)
    yield "zip", zipped()
    yield "header-of-2-to-the-64", struct.pack("<Q", (1 << 64) - 1) + GOOD[8:]
    yield "header-longer-than-the-file", struct.pack("<Q", len(GOOD)) + GOOD[8:]
    yield "header-not-text", sealed(framed(b"\xff\xfe" + MARK + b"00000000"))
    yield "header-of-brackets", sealed(framed(b"[" * 5000 + MARK + b"00000000"))
    yield "header-that-ends-in-the-checksum", framed(MARK + b"0000")
    yield "checksum-of-another", GOOD.replace(b"325d777f", b"325d777e")
    yield "document-missing", sealed(framed(b'{"__metadata__":{"other":"\\"crc32\\":\\"00000000\\""}}'))
    yield "document-of-brackets", Checkpoint().bytes('{"crc32":"00000000","format":1,"layer":' + "[" * 5000)
    yield "document-of-another-kind", Checkpoint().bytes('["crc32","crc32":"00000000"]')
    for name, change in CHANGES.items():
        checkpoint = Checkpoint()
        change(checkpoint)
        yield name, checkpoint.bytes()


for name, bytes_ in files():
    (FOLDER / f"{name}.safetensors").write_bytes(bytes_)
