"""Damage to a layer's arrays is found and repaired at the next boundary; commands of many threads at once are all kept."""

import threading

import pytest
import torch
from growing import bring, layer_of, randomise

import kasmina
from kasmina import Lifecycle

COLUMNS = (
    "lifecycle blueprint slot alpha epochs_in_state strategy last_update_epoch embargo error_count flags germinations "
    "strategy_memory"
).split()
# What every step changes on the device has no second copy there.
WITHOUT_A_SHADOW = ["parameters", "first_moment", "second_moment", "steps", "non_finite"]


def flip(array, bit):
    """Flips a bit of an array in place; negative ones count from the end."""
    octets = array.view(torch.uint8).flatten() if array.dtype != torch.uint8 else array.flatten()
    octets[bit // 8] ^= 1 << (bit % 8)


def lively(device):
    layer = layer_of([("residual", 2), ("bottleneck", 3)], device=device)
    bring(layer, 0, Lifecycle.GRAFTING)
    bring(layer, 1, Lifecycle.TRAINING, 1)
    bring(layer, 3, Lifecycle.CULLED, 1)
    randomise(layer)
    layer.eval()
    return layer


def outputs(layer, x):
    with torch.no_grad():
        return layer(x)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_flipped_bit_in_any_column_of_the_state_is_found_and_repaired_at_the_next_boundary(name, device):
    layer, reference = lively(device), lively(device)
    x = torch.randn(8, 16, device=device)
    reference.load_state_dict(layer.state_dict())
    array = layer.array(name)
    for bit in (0, 7, 8 * array.nbytes // 2 + 1, 8 * array.nbytes - 1):
        for either in (layer, reference):
            either.end_epoch()
        intact = layer.array(name).clone()
        flip(array, bit)
        summary = layer.end_epoch()
        assert len(summary["repaired"]) == 1 and f"({name})" in summary["repaired"][0], summary["repaired"]
        assert reference.end_epoch()["repaired"] == []
        assert torch.equal(layer.array(name).view(torch.uint8), reference.array(name).view(torch.uint8)), intact
    assert torch.equal(outputs(layer, x), outputs(reference, x))
    assert layer.to_bytes() == reference.to_bytes()


@pytest.mark.parametrize("bank", [0, 1])
def test_a_flipped_bit_in_the_modes_of_a_bank_is_found_and_repaired(bank, device):
    layer = lively(device)
    intact = layer.bank_array(bank, "mode").clone()
    for bit in range(8 * intact.nbytes):
        flip(layer.bank_array(bank, "mode"), bit)
        repaired = layer.end_epoch()["repaired"]
        assert repaired == [f"the device's modes of bank {bank} were damaged and derived anew from the state"]
        assert torch.equal(layer.bank_array(bank, "mode"), intact)


def test_a_rollback_finds_damage_before_it_trusts_the_state(device):
    layer = lively(device)
    flip(layer.array("lifecycle"), 9)
    layer.roll_back(0, "an emergency")
    assert "(lifecycle)" in layer.end_epoch()["repaired"][0]
    assert layer.states()[:2] == [Lifecycle.ROLLED_BACK, Lifecycle.TRAINING]


@pytest.mark.parametrize("name", WITHOUT_A_SHADOW)
def test_what_has_no_second_copy_comes_back_from_a_snapshot(name, device):
    layer = lively(device)
    # As bytes: torch compares no unsigned integers on CUDA.
    snapshot, intact = layer.snapshot(), layer.bank_array(1, name).view(torch.uint8).clone()
    flip(layer.bank_array(1, name).detach(), 3)
    layer.restore(snapshot, "a flipped bit")
    assert torch.equal(layer.bank_array(1, name).view(torch.uint8), intact)


def test_a_parameter_that_is_no_number_any_more_reaches_nobody(device):
    layer = lively(device)
    x = torch.randn(8, 16, device=device)
    with torch.no_grad():
        layer.banks()[0].fill_(float("nan"))
    y = outputs(layer, x)
    assert torch.equal(y[:, :4], x[:, :4])


def test_ten_threads_with_a_hundred_seeds_each_lose_nothing(device):
    threads, seeds = 10, 100
    layer = layer_of([("residual", threads * seeds)], hidden=2 * threads * seeds, seeds=threads * seeds, device=device)
    x = torch.randn(2, layer.hidden, device=device)
    failures, done = [], threading.Event()
    if device.type == "cuda":
        # The threads' streams wait for no other.
        torch.cuda.synchronize(device)

    def work(thread):
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        try:
            with torch.cuda.stream(stream), torch.no_grad():
                for seed in range(thread * seeds, (thread + 1) * seeds):
                    layer.germinate(seed, reason=f"thread {thread}")
                    if seed % 10 == 0:
                        assert torch.equal(layer(x), x)
                        layer.report()
        except Exception as error:
            failures.append(error)

    summaries = []

    def boundaries():
        while not done.is_set():
            summaries.append(layer.end_epoch())

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    clock = threading.Thread(target=boundaries)
    for thread in (*workers, clock):
        thread.start()
    for worker in workers:
        worker.join()
    done.set()
    clock.join()
    summaries.append(layer.end_epoch())
    assert not failures
    applied = [record["seed"] for summary in summaries for record in summary["applied"]]
    assert sorted(applied) == list(range(threads * seeds)), "each command took effect once"
    assert not any(summary["refused"] or summary["repaired"] for summary in summaries)
    assert set(layer.states()) == {Lifecycle.GERMINATED}
    assert sorted(layer.array("slot").tolist()) == list(range(threads * seeds))
    assert layer.array("germinations").tolist() == [1] * (threads * seeds)
    # The random seed of a germination is its seed's, whichever thread came first.
    alone = layer_of([("residual", threads * seeds)], hidden=2 * threads * seeds, seeds=threads * seeds, device=device)
    alone.submit(*(kasmina.Command(seed, kasmina.Action.GERMINATE) for seed in range(threads * seeds)))
    alone.end_epoch()
    ours, theirs = (each.banks()[0][each.array("slot").long()] for each in (layer, alone))
    assert torch.equal(ours, theirs)
