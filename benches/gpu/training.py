"""What Kasmina costs whole models: training steps and memory, with a layer after every block.

    python benches/gpu/training.py [--only gpt2 vit resnet] [--quick] [--device cpu --tiny]

The models come from transformers and torchvision, with random weights, and train eagerly under bf16 autocast with
AdamW, in batches so large that a step waits for the device and not for the host. A model is built in several ways that
take turns: `without` layers; `dormant` and `active`, with Kasmina layers in which no seed, or every other one, applies a
GELU bottleneck; `dormant, aliasing`, with layers made with `alias_idle=True`; `written in torch`, where a torch.compile'd
module does what `active` does. Writes build/bench/gpu-training.json and prints a table.
"""

import argparse
import dataclasses
import json
import random
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare import OUTPUT, commit  # noqa: E402
from contest.grown import Kasmina  # noqa: E402
from contest.plain import Torch, gathering, masking  # noqa: E402
from contest.workloads import Problem, Workload  # noqa: E402
from stopwatch import failure  # noqa: E402

import kasmina  # noqa: E402
from kasmina.state import BANK_ARRAYS, STATE_ARRAYS  # noqa: E402

CHUNK = 64
VARIANTS = ("without", "dormant", "dormant, aliasing", "active", "written in torch, gathering", "written in torch, masking")


@dataclasses.dataclass
class Model:
    """A model with its blocks, the channels behind each, and a function from nothing to a loss."""

    module: torch.nn.Module
    blocks: list
    channels: list
    loss: callable
    channels_first: bool = False


def gpt2(device, tiny):
    from transformers import GPT2Config, GPT2LMHeadModel

    rows, length = (2, 16) if tiny else (24, 1024)
    config = GPT2Config(n_layer=2, n_embd=128, n_head=2, vocab_size=512) if tiny else GPT2Config()
    config.use_cache = False
    model = GPT2LMHeadModel(config).to(device)
    tokens = torch.randint(config.vocab_size, (rows, length), device=device)
    blocks = list(model.transformer.h)
    return Model(model, blocks, [config.n_embd] * len(blocks), lambda: model(input_ids=tokens, labels=tokens).loss)


def vit(device, tiny):
    from torchvision.models import VisionTransformer

    # ViT-B/16.
    size = (32, 2, 2, 128, 256) if tiny else (224, 12, 12, 768, 3072)
    model = VisionTransformer(size[0], 16, *size[1:]).to(device)
    images = torch.randn(2 if tiny else 384, 3, size[0], size[0], device=device)
    blocks = list(model.encoder.layers)
    return Model(model, blocks, [size[3]] * len(blocks), _classify(model, images, 1000))


def resnet(device, tiny):
    from torchvision.models import resnet50

    model = resnet50(weights=None).to(device, memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64, device=device) if tiny else torch.randn(256, 3, 224, 224, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    blocks = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
    channels = [block.conv3.out_channels for block in blocks]
    return Model(model, blocks, channels, _classify(model, images, 1000), channels_first=True)


def _classify(model, images, classes):
    labels = torch.randint(classes, (len(images),), device=images.device)
    return lambda: torch.nn.functional.cross_entropy(model(images), labels)


MODELS = {"gpt2": gpt2, "vit": vit, "resnet": resnet}


class Written(torch.nn.Module):
    """What a Kasmina layer with active seeds does, in torch."""

    def __init__(self, problem, function, channels_first):
        super().__init__()
        self.layer, self.channels_first = Torch(function, problem, torch.float32, mode="default"), channels_first
        self.parameters_of_seeds = torch.nn.ParameterList(self.layer.leaves())

    def forward(self, x):
        if self.channels_first:
            return self._rows(x.movedim(1, -1)).movedim(-1, 1)
        return self._rows(x)

    def _rows(self, x):
        return self.layer.forward(x.reshape(-1, x.shape[-1])).view(x.shape)


def layer(variant, channels, channels_first, device):
    every = 0 if variant.startswith("dormant") else 2
    workload = Workload(variant, 1, channels, channels // CHUNK, torch.float32, every=every)
    problem = Problem(workload, device)
    if variant.startswith("written"):
        return Written(problem, gathering if variant.endswith("gathering") else masking, channels_first)
    grown = Kasmina(problem).layer
    grown.channels, grown.alias_idle = "first" if channels_first else "last", variant.endswith("aliasing")
    grown.prepare(torch.bfloat16)
    return grown


def follow(block, inserted):
    """Puts a layer behind a block, whose output may be the first of a tuple."""

    def hook(_module, _inputs, output):
        if isinstance(output, tuple):
            return (inserted(output[0]), *output[1:])
        return inserted(output)

    block.register_forward_hook(hook)


class Variant:
    """A model in one of the ways, with its optimisers, and what memory it needs."""

    def __init__(self, name, make, options):
        torch.manual_seed(0)
        self.device = torch.device(options.device)
        before = self._allocated()
        self.model = make(self.device, options.tiny)
        self.layers = torch.nn.ModuleList()
        if name != "without":
            for block, channels in zip(self.model.blocks, self.model.channels):
                self.layers.append(layer(name, channels, self.model.channels_first, self.device))
                follow(block, self.layers[-1])
        own, others = kasmina.split_parameters(torch.nn.ModuleList([self.model.module, self.layers]))
        self.optimizers = [torch.optim.AdamW(others, 1e-4, fused=True)]
        if own:
            self.optimizers.append(kasmina.AdamW(own, 1e-4))
        for _ in range(3):
            self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.step()
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated() - before + self._of_the_library()
        else:
            self.bytes = None

    def _allocated(self):
        return torch.cuda.memory_allocated() if self.device.type == "cuda" else 0

    def _of_the_library(self):
        """What layers allocate themselves, which torch's figures lack: state, banks and their moments."""
        arrays = []
        for one in self.layers:
            if isinstance(one, kasmina.Layer):
                arrays += [one.array(name) for name in STATE_ARRAYS]
                banks = range(len(one.banks()))
                arrays += [one.bank_array(index, name) for index in banks for name in BANK_ARRAYS]
        return sum(array.nbytes for array in arrays)

    def step(self):
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = self.model.loss()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def milliseconds(self):
        """Of one step."""
        if self.device.type != "cuda":
            start = time.perf_counter()
            self.step()
            return (time.perf_counter() - start) * 1e3
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        # Two, so that the host is ahead for most of the time, as it is in training.
        self.step()
        self.step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 2


def measure(name, options, say):
    variants, failed = {}, {}
    for variant in VARIANTS:
        try:
            variants[variant] = Variant(variant, MODELS[name], options)
            say(f"{name}, {variant}: ready")
        except Exception as error:
            failed[variant] = failure(error)
            say(f"{name}, {variant}: {failed[variant]['failed']}")
    times = {variant: [] for variant in variants}
    order = list(variants)
    for _ in range(options.repetitions):
        random.shuffle(order)
        for variant in order:
            times[variant].append(variants[variant].milliseconds())
    found = {
        variant: {"median": statistics.median(all_times), "least": min(all_times), "bytes": variants[variant].bytes}
        for variant, all_times in times.items()
    }
    return {"model": name, "layers": len(next(iter(variants.values())).model.blocks), "variants": {**found, **failed}}


def table(records):
    lines = [
        "| model | variant | ms a step | against without | against written in torch | memory | goal | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        variants = record["variants"]
        base = variants["without"]
        written = [one["median"] for name, one in variants.items() if name.startswith("written") and "median" in one]
        for name, one in variants.items():
            if "failed" in one:
                lines.append(f"| {record['model']} | {name} | failed: {one['failed']} | | | | | |")
                continue
            more, than_written = None, None
            if "median" in base:
                more = (one["median"] / base["median"] - 1) * 100
            if name == "active" and written:
                than_written = one["median"] / min(written)
            memory = (one["bytes"] / base["bytes"] - 1) * 100 if one["bytes"] and base.get("bytes") else None
            goal, met = _judge(name, more, than_written, memory)
            cells = [record["model"], name, f"{one['median']:.2f}", _percent(more)]
            cells += ["-" if than_written is None else f"{than_written:.3f}x", _percent(memory), goal, met]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(value):
    return "-" if value is None else f"{value:+.2f} %"


def _judge(name, more, than_written, memory):
    """The goals of a variant in words, and whether they were met."""
    goals, verdicts = [], []
    if name.startswith("dormant"):
        goals.append("at most +0.5 %")
        verdicts.append(None if more is None else more <= 0.5)
    if name == "active":
        goals.append("at most written in torch")
        verdicts.append(None if than_written is None else than_written <= 1)
    if goals:
        goals.append("memory under +5 %")
        verdicts.append(None if memory is None else memory < 5)
    words = {True: "yes", False: "no", None: "-"}
    return ", ".join(goals), ", ".join(words[verdict] for verdict in verdicts)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=list(MODELS))
    options.add_argument("--quick", action="store_true", help="fewer repetitions")
    options.add_argument("--device", default="cuda")
    options.add_argument("--tiny", action="store_true", help="small models, to try it without a device")
    options = options.parse_args()
    options.repetitions = 1 if options.tiny else 5 if options.quick else 20
    # Layers of many shapes share one function.
    torch._dynamo.config.recompile_limit = 64
    start = time.monotonic()

    def say(text):
        print(f"[{time.monotonic() - start:4.0f} s] {text}", file=sys.stderr, flush=True)

    about = {
        "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
        "torch": torch.__version__,
        "commit": commit(),
        "results": [],
    }
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        if options.only and name not in options.only:
            continue
        about["results"].append(measure(name, options, say))
        (OUTPUT / "gpu-training.json").write_text(json.dumps(about, indent=1))
        if options.device != "cpu":
            torch.cuda.empty_cache()
    print(f"{about['device']}, torch {about['torch']}, commit {about['commit']}\n\n{table(about['results'])}")


if __name__ == "__main__":
    main()
