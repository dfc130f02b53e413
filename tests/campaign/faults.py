"""The faults, all from outside: through memory that the library shares, limits of the operating system, and a full disk."""

import errno
import os
import resource
import signal

import torch

import kasmina

_ARRAYS = (
    "lifecycle blueprint slot alpha epochs_in_state strategy last_update_epoch embargo error_count flags germinations "
    "strategy_memory"
).split()


_OUT_OF_MEMORY = 4003


def bits(tensor):
    """The bytes of a tensor."""
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else bits(tensor.view(1))


def same_bits(one, other):
    return bits(one) == bits(other)


def not_a_number(training, dice):
    """A parameter of a seed becomes NaN or infinite."""
    layer = training.layer
    held = [(bank, slot) for bank, slot in zip(layer.array("blueprint").tolist(), layer.array("slot").tolist()) if slot >= 0]
    if held:
        bank, slot = dice.choice(held)
        row = layer.banks()[bank].detach()[slot]
        row[dice.randrange(len(row))] = dice.choice([float("nan"), float("inf"), -float("inf")])


def compiler(training, dice):
    """A blueprint that no other run has, so that it has to be compiled; the process allows a compile next to no time."""
    # Bounded, with bounded gradients: it is the compiler that shall fail, not the training.
    nodes = [{"name": "v0", "op": "tanh", "inputs": ["x"]}]
    for index in range(1, 60):
        op, other = dice.choice(["add", "sub"]), dice.choice(["w", "x"])
        nodes.append({"name": f"s{index}", "op": op, "inputs": [f"v{index - 1}", other]})
        nodes.append({"name": f"v{index}", "op": "tanh", "inputs": [f"s{index}"]})
    document = {
        "ir_version": 1,
        "name": "unheard-of",
        "chunk": training.layer.chunk,
        "parameters": [{"name": "w", "shape": [training.layer.chunk]}],
        "nodes": nodes,
        "output": nodes[-1]["name"],
    }
    add(training, kasmina.Blueprint.from_json(document), 1)


def add(training, blueprint, capacity):
    """Gives the layer a blueprint and germinates what it can with it."""
    index = training.layer.add_blueprint(blueprint, capacity)
    training.optimizers[0].add_param_group({"params": [training.layer.banks()[index]]})
    for seed, state in enumerate(training.layer.states()):
        if state == kasmina.Lifecycle.DORMANT:
            training.submit(kasmina.Command(seed, kasmina.Action.GERMINATE, blueprint=index))


def disk(training, dice):
    """The file system of checkpoints and kernels fills up, or gets room again."""
    if not os.path.ismount(training.place):
        # Only root may mount one, and the machine's own disk is nobody's to fill.
        training.counts["disks that could not be mounted"] += 1
        return
    filler = os.path.join(training.place, "filler")
    if os.path.exists(filler):
        os.remove(filler)
        return
    try:
        with open(filler, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                while file.write(bytes(size)) == size:
                    pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def flip(training, dice):
    """A bit of a state array flips. The end of the epoch, which comes next, must find and repair it."""
    array = training.layer.array(dice.choice(_ARRAYS))
    memory = array.view(torch.uint8)
    memory[dice.randrange(len(memory))] ^= 1 << dice.randrange(8)


def kill(training, dice):
    """The driver kills the process at a time of its own choosing; here it kills itself as well."""
    # Beside the run's own files, which may lie on a full disk.
    mark = f"{training.place}-killed-{dice.getrandbits(32)}"
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)


def storm(training, dice):
    """Everything is rolled back, seeds and the whole training, again and again."""
    before = training.digest()
    snapshot = kasmina.TrainingSnapshot(training.model, *training.optimizers)
    ledger = list(training.accepted), list(training.emergencies)
    for _ in range(dice.randrange(1, 6)):
        seeds = [seed for seed, state in enumerate(training.layer.states()) if 2 <= state <= 6]
        dice.shuffle(seeds)
        for seed in seeds[: dice.randrange(len(seeds) + 1)]:
            training.layer.roll_back(seed, "a storm")
            training.must(training.layer.states()[seed] == 10, "a rollback did not take a seed out")
            training.counts["seeds rolled back"] += 1
        for _ in range(dice.randrange(3)):
            training.train()
        snapshot.restore("a storm")
        training.accepted, training.emergencies = list(ledger[0]), list(ledger[1])
        training.counts["restores"] += 1
    training.must(training.digest() == before, "what was restored is not what the snapshot was of")
    for seed, state in enumerate(training.layer.states()):
        if 2 <= state <= 6 and dice.random() < 0.5:
            training.layer.roll_back(seed, "after the storm")
            training.emergencies.append((seed, "roll_back"))


def memory(training, dice):
    """A blueprint is to germinate when there is no memory for its bank: nothing may have changed then."""
    before = training.digest()
    chunk, names = training.layer.chunk, [f"w{index}" for index in range(256)]
    nodes = [{"name": f"sum{index}", "op": "sum", "inputs": [name]} for index, name in enumerate(names)]
    while len(last := [node["name"] for node in nodes[-len(names) :]]) > 1:
        names = last[::2]
        for one, other in zip(last[::2], last[1::2]):
            nodes.append({"name": f"{one}_", "op": "add", "inputs": [one, other]})
    nodes.append({"name": "y", "op": "add", "inputs": ["x", nodes[-1]["name"]]})
    names = [f"w{index}" for index in range(256)]
    document = {
        "ir_version": 1,
        "name": "wide",
        "chunk": chunk,
        "parameters": [{"name": name, "shape": [4096]} for name in names],
        "nodes": nodes,
        "output": nodes[-1]["name"],
    }
    blueprint = kasmina.Blueprint.from_json(document)
    kept = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    # Five slots of four mebibytes, four times, do not fit.
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), kept[1]))
    try:
        add(training, blueprint, 5)
        training.must(False, "there was memory where there was none")
    except kasmina.Error as error:
        training.counts["banks that there was no memory for"] += 1
        training.must(error.status == _OUT_OF_MEMORY, f"the wrong error: {error}")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, kept)
    training.must(training.digest() == before, "a bank that there was no memory for changed the layer")


STRIKES = {
    "nan": not_a_number,
    "compile": compiler,
    "disk": disk,
    "flip": flip,
    "kill": kill,
    "storm": storm,
    "memory": memory,
}
