"""Result files of other seeds count as if one command had trained them all."""

from __future__ import annotations

import dataclasses

import pytest

from residual.studies.arms import add_points, spread
from residual.studies.departures import strongest
from residual.studies.evidence import recipe_facts, write
from residual.studies.pictures import pictures
from residual.studies.pooling import pooled
from residual.studies.reproduce import reproduce
from residual.studies.training_studies import Wish, degradation, gap
from tests.studies.test_evidence import CHANGED, sample

CHEAP = {"network.widths": [4, 4, 4], "data.limit": 100, "batch_size": 40, "evaluation.every_epochs": 1}
PLAIN = {"compute.precision": "float32", "compute.threads": 1}


def test_parts_by_seed_are_the_whole(tmp_path):
    """Three seeds in one command, and in three: the same figures, curves and seeds, from the same runs."""

    def of(*seeds):
        wish = Wish("digits", seeds, 6, [*CHEAP.items(), *PLAIN.items()], tmp_path, "c")
        return degradation(wish, (8, 14), ("plain",)).evidence

    whole = of(0, 1, 2)
    (found,) = pooled([of(2), of(0), of(1)])
    assert found.seeds == whole.seeds
    assert found.measured == whole.measured
    assert {*found.series["curves"]} == {*whole.series["curves"]}
    for arm, curves in whole.series["curves"].items():
        assert {*found.series["curves"][arm]} == {*curves}
        for name, curve in curves.items():
            ours = found.series["curves"][arm][name]
            assert ours["step"] == curve["step"]
            assert ours["mean"] == pytest.approx(curve["mean"])
            assert ours["std"] == pytest.approx(curve["std"], abs=1e-6)
    assert found.seconds == pytest.approx(whole.seconds, abs=0.2)


def test_parts_by_network_are_the_whole(tmp_path):
    """Four networks in one command, and in three: the same figures, curves and recipes, from the same runs."""

    def of(depths, kinds, seed=0):
        wish = Wish(
            "digits", [seed], 6, [*CHEAP.items(), *PLAIN.items()], tmp_path, f"--depths {depths} --kinds {kinds}"
        )
        return degradation(wish, depths, kinds).evidence

    parts = [of((14,), ("resnet",)), of((8, 14), ("plain",)), of((8,), ("resnet",))]
    whole = of((8, 14), ("plain", "resnet"))
    (found,) = pooled(parts)
    assert found.measured == whole.measured
    assert "constructed" in found.measured
    assert [*found.recipes] == ["plain-8", "plain-14", "resnet-8", "resnet-14"]
    assert found.recipes == whole.recipes
    assert found.series == whole.series
    assert found.settings == whole.settings
    assert found.seconds == pytest.approx(whole.seconds, abs=0.2)
    assert all(part.command in found.command for part in parts)
    other = [of((8, 14), ("plain",), 1), of((8, 14), ("resnet",), 1)]
    (both,) = pooled([other[0], whole, other[1]])
    assert (both.seeds, [*both.recipes]) == ((0, 1), [*whole.recipes])
    assert len(both.measured["resnet-14"]["training_error"]["values"]) == 2
    lacking = pooled([whole, other[0]])  # the newer, and fewer networks: the whole is the stronger
    assert strongest(lacking, "degradation")[0].recipes == whole.recipes


def network(name, **changes):
    recipes = {name: recipe_facts("cifar10-paper", {**CHANGED, "network.name": name, **changes.pop("changed", {})})}
    return sample(measured={name: {"training_error": spread([9.0])}}, recipes=recipes, seeds=(0,), **changes)


def test_networks_of_another_training_and_the_same_twice_stay_beside():
    deep, shallow = network("plain-56"), network("plain-20")
    assert [[*one.recipes] for one in pooled([deep, shallow])] == [["plain-20", "plain-56"]]
    for other in ({"changed": {"optimiser.momentum": 0.8}}, {"settings": {"steps": 4000}}, {"budget": "gpu"}):
        assert len(pooled([deep, network("plain-20", **other)])) == 2
    assert len(pooled([deep, dataclasses.replace(shallow, seeds=(1,))])) == 2
    assert len(pooled([deep, dataclasses.replace(shallow, study="units"), shallow])) == 2
    again = network("plain-56", date="2026-01-01")
    assert [[*one.recipes] for one in pooled([again, deep, shallow])] == [["plain-20", "plain-56"], ["plain-56"]]


def of_seeds(*seeds, **changes):
    error = {seed: 5.0 + seed for seed in seeds}
    arms = {name: {"training_error": spread([more + error[s] for s in seeds])} for name, more in ARMS.items()}
    return sample(measured=arms, seeds=seeds, source=f"{seeds}.evidence.json", **changes)


ARMS = {"plain-20": 0.0, "plain-56": 6.0}


def test_figures_that_one_file_alone_has_are_had_from_it():
    """As of a release that measures more than the one that wrote the other."""
    older, newer = of_seeds(0), of_seeds(1)
    newer.measured["plain-56"]["loss"] = spread([0.5])
    whole, alone = pooled([older, newer])
    assert (whole.seeds, alone) == ((0, 1), newer)
    assert "loss" not in whole.measured["plain-56"]
    assert pooled([older, of_seeds(1)])[1:] == []


def test_provenance_is_told_for_both_where_it_differs():
    here = of_seeds(0, machine={"processor": "one", "cores": 2}, seconds=10.0, date="2026-11-28", commit="a" * 12)
    there = of_seeds(1, machine={"processor": "two", "cores": 2}, seconds=30.0, date="2026-11-29", commit="b" * 12)
    (found,) = pooled([there, here])
    assert found.machine == {"processor": "one, two", "cores": 2}
    assert (found.seconds, found.date, found.commit) == (40.0, "2026-11-29", f"{'a' * 12}, {'b' * 12}")
    assert found.source == "(0,).evidence.json and (1,).evidence.json"
    assert found.measured["plain-56"]["training_error"]["values"] == [11.0, 12.0]
    assert found.command == here.command, "said once"
    again = of_seeds(2, machine={"processor": "two", "cores": 2}, commit="b" * 12, of="the trainings")
    (found,) = pooled([there, here, again])
    assert (found.machine["processor"], found.commit) == ("one, two", f"{'a' * 12}, {'b' * 12}"), "each once"
    assert found.of == "the writing and the trainings"


def of_runs(name, seeds, *heights, **changes):
    """Responses of runs, each of a height: the first one's points, and those of the others beside them."""
    series: dict[str, dict[str, object]] = {}
    for height in heights:
        add_points(series, name, {"layer": ["stem"], "response": [height], "gradient": [height]})
    found = network(name, study="responses", series={"responses": series}, **changes)
    return dataclasses.replace(found, seeds=seeds, source=f"responses-{seeds}-{name}.evidence.json")


def test_the_points_of_every_run_are_kept():
    (found,) = pooled([of_runs("plain-20", (2,), 5.0), of_runs("plain-20", (0, 1), 1.0, 3.0)])
    points = found.series["responses"]["plain-20"]
    assert points["response"] == [1.0]
    assert [one["response"] for one in points["others"]] == [[3.0], [5.0]]
    assert all("others" not in one for one in points["others"])
    (same,) = pooled([of_runs("plain-20", (0,), 1.0), of_runs("plain-20", (1,), 1.0)])
    assert "others" not in same.series["responses"]["plain-20"], "points that are of no seed"


@pytest.mark.parametrize("name", ["precision", "trained in"])
def test_seeds_that_were_trained_in_other_numbers_are_told(name):
    half, whole = of_seeds(0, device={name: "bfloat16"}), of_seeds(1, 2, device={name: "float32"})
    (found,) = pooled([whole, half])
    assert found.caveats[-1] == "seed 0 trained in bfloat16, seeds 1, 2 in float32"
    assert pooled([of_seeds(0, device={name: "float32"}), whole])[0].caveats == whole.caveats
    assert pooled([of_seeds(0), whole])[0].caveats == whole.caveats, "it was not stored"


def test_files_of_other_networks_are_drawn_and_none_twice():
    files = [of_runs("plain-20", (0,), 1.0), of_runs("plain-20", (1,), 3.0), of_runs("resnet-20", (1,), 2.0)]
    both, other = pooled(files)
    assert [both.seeds, other.seeds, [*other.recipes]] == [(0, 1), (1,), ["resnet-20"]]
    drawn = ["".join(map(str, pictures(some))) for some in ([both, other], [both, files[0], other])]
    assert drawn[0].count("<figure>") == 6
    assert drawn[1].count("<figure>") == 6, "what counts in the first is not drawn again"


def test_differences_by_seed_have_the_interval_of_all(tmp_path):
    def of(seed, original, other):
        measured = {"against_original": {"other": gap(*({"test_error": spread([e])} for e in (original, other)))}}
        return sample(measured=measured, seeds=(seed,))

    (found,) = pooled([of(0, 9.0, 8.5), of(1, 10.0, 9.6), of(2, 11.0, 10.4)])
    expected = gap({"test_error": spread([9.0, 10.0, 11.0])}, {"test_error": spread([8.5, 9.6, 10.4])})
    assert found.measured["against_original"]["other"] == expected
    assert expected["high"] < 0


def test_no_seed_counts_twice_and_what_is_left_over_stays_beside():
    both, one, third = of_seeds(0, 1), of_seeds(1), of_seeds(2)
    found = pooled([one, both, third])
    assert [each.seeds for each in found] == [(0, 1, 2), (1,)]


@pytest.mark.parametrize(
    "other",
    [
        {"budget": "gpu"},
        {"settings": {"steps": 64_000}},
        {"recipes": {"plain-20": recipe_facts("cifar10-paper", {**CHANGED, "steps": 4000})}},
        {"data": {"name": "cifar-10", "checksums": {}}},
    ],
)
def test_what_was_made_otherwise_is_not_counted_together(other):
    found = pooled([of_seeds(0), of_seeds(1, **other)])
    assert sorted(each.seeds for each in found) == [(0,), (1,)]


def test_a_study_whose_figures_are_not_values_by_seed_stays_as_it_is():
    found = [dataclasses.replace(of_seeds(seed), study="tuning") for seed in (0, 1)]
    assert pooled(found) == found


def test_one_more_file_of_another_seed_takes_a_caveat_away(tmp_path):
    """Claim H03 asks for the worst seed of one side against the best of the other."""
    caveats = {}
    for seed in (0, 1, 2):
        write(of_seeds(seed), tmp_path / f"{seed}.evidence.json")
        (one,) = reproduce(["H03"], evidence=[tmp_path], shipped=False).judgements
        assert one.evidence is not None
        assert len(one.evidence.seeds) == seed + 1
        caveats[seed] = [text for text in one.caveats if "seed" in text]
    assert caveats[0] == ["one seed"]
    assert "one seed" not in caveats[1]
    assert caveats[2] == []
