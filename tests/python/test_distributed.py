"""Ranks of a data-parallel run stay the same, bit for bit, or all of them hear why not. The ranks are real processes: see
`rank.py` for what each of them does."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

import kasmina
from kasmina import Lifecycle

WORKER = pathlib.Path(__file__).with_name("rank.py")
# What a world may take; ranks that wait for ever would take longer.
MOST_SECONDS = 300
# See rank.py. Anything a rank does besides waiting is done in a few seconds.
SHORT, MARGIN = 4.0, 30.0


class Ranks:
    """Runs scenarios on so many ranks and gives what each rank found; None for one that died."""

    def __init__(self, device, directory):
        self.device, self.directory = device, directory

    def run(self, count, *scenarios, most_seconds=MOST_SECONDS, ends=(0, -signal.SIGKILL)):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(kasmina.__file__).parents[1])}
        processes = []
        for rank in range(count):
            # All but the first rank have a cold kernel cache, so that their kernels come later.
            cache = os.environ["KASMINA_CACHE_DIR"] if rank == 0 else str(self.directory / f"cache-{rank}")
            arguments = [rank, count, port, self.device.type, self.directory / f"{rank}.json", *scenarios]
            log = open(self.directory / f"{rank}.log", "w")
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(WORKER), *map(str, arguments)],
                    env={**environment, "KASMINA_CACHE_DIR": cache},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
        deadline = time.monotonic() + most_seconds
        try:
            codes = [process.wait(max(0.0, deadline - time.monotonic())) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        found = []
        for rank, code in enumerate(codes):
            log = (self.directory / f"{rank}.log").read_text()
            assert code in ends, f"rank {rank} ended with {code}:\n{log}"
            found.append(json.loads((self.directory / f"{rank}.json").read_text()) if code == 0 else None)
        return found


@pytest.fixture
def ranks(device, tmp_path):
    return Ranks(device, tmp_path)


@pytest.fixture(scope="module")
def two(request, tmp_path_factory):
    """What two ranks found in all scenarios in which neither dies: one world, because starting one takes seconds."""
    device = torch.device(request.config.getoption("--device"))
    names = (
        "life like_one same_refusal non_finite snapshots clock other_commands other_place other_parameters other_state "
        "other_banks other_kernels other_snapshot other_weights failed_restore"
    )
    return Ranks(device, tmp_path_factory.mktemp("two")).run(2, *names.split())


@pytest.fixture(scope="module")
def four(request, tmp_path_factory):
    """The same for four ranks."""
    device = torch.device(request.config.getoption("--device"))
    return Ranks(device, tmp_path_factory.mktemp("four")).run(4, "life", "snapshots", "clock")


def test_ranks_with_a_card_each_talk_through_nccl_and_others_through_gloo(two, device):
    cards = torch.cuda.device_count() if device.type == "cuda" else 0
    assert [rank["backend"] for rank in two] == ["nccl" if cards >= 2 else "gloo"] * 2


def check_life(found):
    first = found[0]["life"]
    assert all(rank["life"] == first for rank in found), "the ranks' layers, parameters or summaries differ"
    assert len(set(digest for digest, _ in first["digests"])) == 60, "every epoch changes something"
    reached = {to for _, to in map(tuple, first["transitions"])}
    assert reached == {state.name for state in Lifecycle}, f"the run reached {reached} only"
    assert first["refused"] > 0 and first["held"] == 0
    assert len(first["transitions"]) > 100


def test_two_ranks_are_the_same_bit_for_bit_through_sixty_epochs_of_every_transition(two):
    check_life(two)


def test_four_ranks_are_the_same_bit_for_bit_through_sixty_epochs_of_every_transition(four):
    check_life(four)


def test_two_ranks_with_half_of_the_rows_each_do_what_one_process_does_with_all(two):
    for rank in two:
        assert rank["like_one"]["furthest"] < 1e-9
        assert (rank["like_one"]["state"], rank["like_one"]["alpha"]) == ("STABILIZATION", 1.0)


def test_a_refused_command_is_the_same_error_on_all_ranks_and_breaks_nothing(two):
    for rank in two:
        assert "fossilise is not a transition of DORMANT" in rank["same_refusal"]["refusal"]
        assert rank["same_refusal"]["states"][1] == "GERMINATED"


def test_a_gradient_that_is_not_finite_on_one_rank_counts_on_all(two):
    assert two[0]["non_finite"] == two[1]["non_finite"]
    assert two[0]["non_finite"]["seen"] and two[0]["non_finite"]["errors"] == 1


def check_disagreement(found, *words, seeds=None):
    for rank in found:
        assert rank["kind"] == "RanksDisagree", rank
        assert rank["ranks"] == [1], rank
        assert seeds is None or rank["seeds"] == seeds, rank
        for word in words:
            assert word in rank["message"], rank["message"]


def test_ranks_that_are_given_different_commands_hear_which(two):
    check_disagreement([rank["other_commands"] for rank in two], "rank 0: (Command(seed=0", "rank 1: (Command(seed=1")


def test_ranks_at_different_places_of_the_program_hear_where(two):
    words = ("rank 0 is at submit of epoch 1", "rank 1 is at end_epoch of epoch 1")
    check_disagreement([rank["other_place"] for rank in two], *words)


def test_parameters_that_differ_are_found_when_the_epoch_ends_with_rank_and_seed(two):
    found = [rank["other_parameters"] for rank in two]
    check_disagreement(found, "seeds [2] of ranks [1]", "parameters of bank 0", seeds=[2])


def test_commands_that_go_past_the_replicas_are_found_when_the_epoch_ends(two):
    found = [rank["other_state"] for rank in two]
    check_disagreement(found, "seeds [5] of ranks [1]", "lifecycle, blueprint, slot", seeds=[5])


def test_a_bank_that_only_one_rank_has_is_found(two):
    check_disagreement([rank["other_banks"] for rank in two], "different banks", "rank 1: [(5, ")


def test_no_seed_trains_if_its_kernel_cannot_be_had_on_every_rank(two):
    check_disagreement([rank["other_kernels"] for rank in two], "rank 1: the compiler failed")
    assert {rank["other_kernels"]["state"] for rank in two} == {"GERMINATED"}


def check_snapshots(found):
    assert len({rank["snapshots"]["differed"] for rank in found}) == len(found), "in the middle of an epoch ranks differ"
    for rank in (rank["snapshots"] for rank in found):
        assert rank["same"] == [True] * 4
        assert rank["states"][:6] == ["GRAFTING", "TRAINING", "TRAINING", "DORMANT", "GERMINATED", "DORMANT"]
        restoration = rank["restoration"]
        assert restoration["reason"] == "it spiked", "that of the only rank that gave one"
        assert [command["seed"] for batch in restoration["dropped"] for command in batch] == [5]
        assert [record["seed"] for record in restoration["undone"]] == [0]
        assert "with 2 blueprints, and the layer has 3" in rank["refusal"]
        assert rank["digest"] == found[0]["snapshots"]["digest"]
        assert rank["told"] == found[0]["snapshots"]["told"]
    assert "number=3, epoch=5" in found[0]["snapshots"]["told"], found[0]["snapshots"]["told"]


def test_two_ranks_go_back_together_and_each_to_what_it_was(two):
    check_snapshots(two)


def test_four_ranks_go_back_together_and_each_to_what_it_was(four):
    check_snapshots(four)


def test_ranks_that_are_to_restore_different_snapshots_hear_which(two):
    found = [rank["other_snapshot"] for rank in two]
    check_disagreement(found, "different snapshots, by their numbers: rank 0: 1; rank 1: 2")


def test_a_snapshot_of_layers_that_differ_is_refused_with_rank_and_seed(two):
    check_disagreement([rank["other_weights"] for rank in two], "seeds [0] of ranks [1]", seeds=[0])


def test_a_rank_that_cannot_restore_is_an_error_on_all(two):
    check_disagreement([rank["failed_restore"] for rank in two], "restore failed on some ranks", "the device failed")


def check_clock(found):
    assert all(rank["clock"] == found[0]["clock"] for rank in found), "breakers that go by other clocks"
    seen, refusal, state = (found[0]["clock"][name] for name in ("seen", "refusal", "state"))
    assert [breakers["blueprints"][0]["state"] for breakers in seen] == ["closed", "open", "open", "half_open"]
    assert "in 10.0 s" in refusal, refusal
    assert state == "GERMINATED"


def test_the_breakers_of_two_ranks_go_by_the_clock_of_the_first(two):
    check_clock(two)


def test_the_breakers_of_four_ranks_go_by_the_clock_of_the_first(four):
    check_clock(four)


@pytest.mark.parametrize("scenario", ["killed_first", "killed_last"])
def test_ranks_whose_peer_is_killed_get_an_error_in_time(ranks, scenario):
    found = ranks.run(4, scenario)
    victim = 0 if scenario == "killed_first" else 3
    for rank, results in enumerate(found):
        assert (results is None) == (rank == victim)
        if results is not None:
            assert results[scenario]["kind"] == "RankLost", results
            assert results[scenario]["seconds"] < SHORT + MARGIN, results


def test_a_peer_that_is_killed_under_distributed_data_parallel_is_an_error_in_time(ranks, device):
    if device.type == "cuda":
        # The collective is NCCL's, whose watchdog in torch ends the process with the error.
        found = ranks.run(2, "killed_wrapped", ends=(-signal.SIGABRT, -signal.SIGKILL), most_seconds=120)
        assert found == [None, None]
        return
    found = ranks.run(2, "killed_wrapped")
    assert found[1] is None
    assert found[0]["killed_wrapped"]["kind"] is not None
    assert found[0]["killed_wrapped"]["seconds"] < SHORT + MARGIN


def test_a_rank_that_lags_is_an_error_on_all_ranks_in_time(ranks):
    found = ranks.run(4, "lagging")
    for rank, results in enumerate(found):
        assert results["lagging"]["kind"] == "RankLost", results
        assert results["lagging"]["seconds"] < SHORT + MARGIN, results
    assert "Ranks 3 failed to pass monitoredBarrier" in found[0]["lagging"]["message"]
