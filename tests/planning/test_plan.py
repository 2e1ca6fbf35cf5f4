"""Plans: machines by name, stages of recipes, verdicts with knobs, and the command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from command import sparring
from sparring.algorithms.algorithm import SHIPPED, DataFacts
from sparring.algorithms.judged import PAIRINGS
from sparring.planning import machine
from sparring.planning.footprint import quantisable
from sparring.planning.lengths import read_lengths
from sparring.planning.machine import GB, Machine, parse_machine
from sparring.planning.plan import Plan, changed, make_plan, possible, read_config
from sparring.planning.stages import Planner, Stage, trained_responses
from sparring.planning.times import Times, typical_response
from sparring.recipe.reading import load_recipe, parse_recipe

STATE = ("weights", "gradients", "optimiser")


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    fit = {**tiny_recipe.get("fit", {}), "micro_batch_tokens": 64}  # a plan runs a whole pack, if without storage
    return {**tiny_recipe, "fit": fit, "evaluation": {"samples": 2}}


def cpu(memory: int) -> Machine:
    return Machine("cpu", "cpu", 1, memory, 1e11, 1e10)


def test_a_data_file_that_is_not_there_is_said_at_once(recipe: dict[str, Any], tmp_path: Path) -> None:
    """A misspelt path was a plan that fits, with a question mark for the time."""
    recipe["data"]["train"]["path"] = "promts.jsonl"
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    code, out, _ = sparring("plan", path)
    assert code == 0
    assert out.splitlines()[1].startswith("warning: data.train: 'promts.jsonl' is not a file.")


def test_responses_that_leave_no_room_for_a_prompt_are_refused_as_by_a_run(recipe: dict[str, Any]) -> None:
    """`plan` said that it fits, and the run refused it."""
    long = {**recipe, "sampling": {**recipe["sampling"], "max_new_tokens": 100_000}}
    with pytest.raises(ValueError, match=r"sampling\.max_new_tokens = 100000 leaves no room for a prompt"):
        make_plan(parse_recipe(long), cpu(8))


def test_machines_by_name() -> None:
    h100 = parse_machine("1xH100")
    assert (h100.name, h100.kind, h100.count, h100.memory) == ("H100", "cuda", 1, 80 * GB)
    assert parse_machine("4xa100-40").memory == 40 * GB
    assert parse_machine("4xa100-40").count == 4
    assert parse_machine("L4").count == 1
    assert parse_machine("cpu:64").memory == 64 * GB
    assert parse_machine("cpu").memory > GB
    with pytest.raises(ValueError, match=r"--gpus '2xH10': not known\. Did you mean 'H100'\?"):
        parse_machine("2xH10")
    for text in ("", "0xH100", "cpu:lots"):
        with pytest.raises(ValueError, match="--gpus"):
            parse_machine(text)


def test_a_plan_counts_what_the_run_will_do(recipe: dict[str, Any]) -> None:
    plan = make_plan(parse_recipe(recipe), cpu(64 * GB))
    assert plan.fits
    assert plan.lengths.read
    assert (plan.lengths.train, plan.lengths.held_out) == (6, 3)
    stages = {stage.name: stage for stage in plan.stages}
    assert list(stages) == ["sample", "anchor", "fit", "evaluate"]
    assert stages["sample"].tokens == 6 * 4 * 8
    assert stages["evaluate"].tokens == 3 * 2 * 8
    assert (stages["fit"].times, stages["evaluate"].times) == (2, 3)
    size = plan.lengths.prompt + 2 * 7
    assert stages["fit"].tokens == 6 * size
    assert stages["anchor"].tokens == 6 * size * 2  # reference and iterate
    parts = stages["fit"].memory
    assert parts["weights"] == parts["gradients"] == 4 * plan.parameters
    assert parts["optimiser"] == 8 * plan.parameters
    assert plan.disk["policies"] == 2 * 4 * plan.parameters
    assert plan.seconds is not None
    assert plan.seconds > 0


def test_lora_trains_and_keeps_less(recipe: dict[str, Any]) -> None:
    whole = make_plan(parse_recipe(recipe), cpu(64 * GB))
    recipe["model"] = {**recipe["model"], "lora": {"rank": 2}}
    small = make_plan(parse_recipe(recipe), cpu(64 * GB))
    assert small.trained < whole.trained
    assert small.disk["policies"] < whole.disk["policies"]


def test_a_base_in_four_bits_is_counted_so(recipe: dict[str, Any]) -> None:
    gpu = parse_machine("1xL4")
    plans = []
    for quantize in (None, "nf4"):
        plain = {**recipe, "model": {**recipe["model"], "lora": {"rank": 2, "quantize": quantize}}}
        plans.append({s.name: s.memory["weights"] for s in make_plan(parse_recipe(plain), gpu).stages})
    planner = Planner(parse_recipe(plain), gpu, read_config(parse_recipe(plain)), read_lengths(parse_recipe(plain)))
    linear = quantisable(planner.config)
    assert 0 < linear < planner.parameters
    for name, itemsize in (("sample", 4), ("anchor", 4), ("fit", 4)):  # the recipe samples in float32
        assert plans[0][name] - plans[1][name] == pytest.approx(linear * (itemsize - 0.53), rel=0.01)


def test_vllm_takes_its_share_and_cuts_the_weights(recipe: dict[str, Any]) -> None:
    served = {**recipe["sampling"], "engine": "vllm", "vllm": {"tensor_parallel": 2, "memory_share": 0.5}}
    one = make_plan(
        parse_recipe({**recipe, "sampling": {**served, "vllm": {"memory_share": 0.5}}}), parse_machine("2xL4")
    )
    two = make_plan(parse_recipe({**recipe, "sampling": served}), parse_machine("2xL4"))
    for plan in (one, two):
        assert {s.name: s.peak for s in plan.stages}["sample"] == pytest.approx(0.5 * plan.machine.memory, abs=2)
    first, second = ({s.name: s.memory["weights"] for s in plan.stages}["sample"] for plan in (one, two))
    assert second == first // 2
    assert list(possible(parse_recipe({**recipe, "sampling": served}), "sample", 8)) == [
        {"sampling.vllm.tensor_parallel": 4},
        {"sampling.vllm.tensor_parallel": 8},
    ]


def test_models_that_stay_in_memory_and_moments_on_disk_are_counted(recipe: dict[str, Any]) -> None:
    machine = parse_machine("L4")

    def planned(**changes: Any) -> Plan:
        return make_plan(parse_recipe({**recipe, "rounds": 20, "keep_iterates": 0, **changes}), machine)

    cold, warm = planned(), planned(warm=True)
    more = {a.name: b.peak - a.peak for a, b in zip(cold.stages, warm.stages, strict=True)}
    bytes_each = cold.parameters  # the recipe samples in float32: three models of four bytes a weight
    assert more == dict.fromkeys(("sample", "anchor", "fit", "evaluate"), 8 * bytes_each)
    assert planned(keep_every=5).disk["policies"] == 4 * cold.disk["policies"]
    kept = planned(fit={**recipe["fit"], "keep_optimizer": True}).disk
    assert kept["optimiser's moments"] == 8 * cold.parameters


def test_several_devices_share_the_work_and_may_share_the_weights(recipe: dict[str, Any]) -> None:
    def fit(count: int, **changes: Any) -> Stage:
        asked = parse_recipe({**recipe, "fit": {**recipe["fit"], **changes}})
        machine = Machine("test", "cpu", count, 64 * GB, 1e12, 1e11)
        return Planner(asked, machine, read_config(asked), read_lengths(asked)).fit()

    alone, shared, cut = fit(1), fit(4), fit(4, shard_weights=True)
    assert alone.memory == shared.memory
    assert alone.seconds is not None
    assert shared.seconds is not None
    overhead = 4e-8 * alone.memory["weights"] / 4  # loading, checking and saving are every device's own
    assert shared.seconds - overhead == pytest.approx((alone.seconds - overhead) / 4)
    assert [cut.memory[part] for part in STATE] == [shared.memory[part] // 4 for part in STATE]
    assert 0 < cut.memory["whole layers"] < 3 * shared.memory["weights"]


def test_only_several_devices_are_told_to_cut(recipe: dict[str, Any]) -> None:
    alone, shared = (list(possible(parse_recipe(recipe), "fit", count)) for count in (1, 8))
    cut = {"fit.shard_weights": True}
    assert [change for change in alone if cut.items() <= change.items()] == []
    assert shared.index(cut) < shared.index({"fit.gradient_checkpointing": True}) < shared.index({"model.lora": {}})


@pytest.mark.parametrize("name", SHIPPED)
def test_every_algorithm_can_be_planned(name: str, recipe: dict[str, Any]) -> None:
    recipe["algorithm"] = {"name": name}
    plan = make_plan(parse_recipe(recipe), cpu(64 * GB))
    assert {"anchor", "fit", "evaluate"} <= {stage.name for stage in plan.stages}
    assert all(stage.tokens for stage in plan.stages)


def test_a_stage_that_does_not_fit_names_the_knob(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RUNTIME", 0)
    recipe["sampling"] = {**recipe["sampling"], "batch_size": 16}
    plain = {s.name: s.peak for s in make_plan(parse_recipe(recipe), cpu(GB)).stages}
    tight = int(plain["sample"] * 0.8 / machine.USABLE)
    plan = make_plan(parse_recipe(recipe), cpu(tight))
    assert plan.knobs["sample"] == {"sampling.batch_size": 8}
    changed_recipe = changed(parse_recipe(recipe), {"sampling.batch_size": 8})
    assert "sample" not in make_plan(changed_recipe, cpu(tight)).knobs
    assert make_plan(parse_recipe(recipe), cpu(1000)).knobs["fit"] is None


@pytest.mark.parametrize(("name", "kept"), [("iid", 4), ("best_worst", 2), ("knockout", 2), ("all", 4)])
def test_what_a_pairing_keeps(name: str, kept: int) -> None:
    assert len(trained_responses(PAIRINGS[name], ["own"] * 4)) == kept


def test_what_spin_keeps() -> None:
    recipe = parse_recipe({**_minimal(), "algorithm": {"name": "spin"}})
    (step,) = recipe.build_algorithm().steps(0, DataFacts(1))
    assert trained_responses(step.pairing, ["gold", "own"]) == [0, 1]


def _minimal() -> dict[str, Any]:
    data = {"train": {"path": "sparring:gold"}, "held_out": {"path": "sparring:prompts", "split": "held_out"}}
    return {"model": {"path": "org/name"}, "data": data, "oracle": {"name": "panel"}}


def test_the_command(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(recipe))
    code, out, err = sparring("plan", file, "--gpus", "2xH100", "--verbose")
    assert (code, err) == (0, "")
    for word in (
        "2 x H100, 80.0 GB each:",
        "KV cache",
        "gradients",
        "chunk of logits",
        "disk:",
        "devices: 2, with",
        "read from the data",
    ):
        assert word in out
    assert out.startswith("fits; expected ")
    facts = json.loads(sparring("plan", file, "--gpus", "cpu:64", "--json").out)
    assert facts["fits"] is True
    assert [stage["name"] for stage in facts["stages"]] == ["sample", "anchor", "fit", "evaluate"]
    assert 0 < facts["expected"] < facts["seconds"]
    monkeypatch.setattr(machine, "BUSY", 0.5)
    monkeypatch.setattr("os.getloadavg", lambda: (999.0, 0.0, 0.0))
    code, out, _ = sparring("plan", file, "--gpus", "cpu:0.1")
    assert "billion operations a second in matrix products while nothing else runs" in " ".join(out.split())
    per_core = 999 / (os.cpu_count() or 1)
    assert f"warning: this machine is busy: {per_core:.1f} other processes per core" in " ".join(out.split())
    assert code == 1
    assert out.startswith("does not fit; expected ")
    assert "does not fit: fit needs" in out


def test_a_stage_takes_the_time_that_was_measured() -> None:
    """The recipe `inpo` cut to one round of 16 prompts, on two quiet cores: 10.6, 4.1, 17.1 and 15.7 s."""
    changes = ["rounds=1", "data.prompts_per_round=16", "evaluation.prompts=8"]
    demo = load_recipe("inpo", changes)
    cores = Machine("cpu", "cpu", 1, 64 * GB, 4.04e11, 1e10, 1.6e11)
    times = Times(demo, cores, 134_515_008, 30)
    assert typical_response(demo) == 67
    assert times.sample(64, 64 * 67) == pytest.approx(10.6, rel=0.15)
    assert times.forward(2915) == pytest.approx(4.1, rel=0.15)
    assert times.fit(2915) == pytest.approx(17.1, rel=0.15)
    evaluated = 2 * times.sample(16, 16 * 67) + 2 * times.forward(8 * 46 + 16 * 67)
    assert evaluated == pytest.approx(15.7, rel=0.15)


def test_a_busy_machine_measures_the_speed_of_a_quiet_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"perf_counter": iter(range(0, 1000, 5)), "process_time": iter(range(0, 1000))}
    for name, ticks in clocks.items():
        monkeypatch.setattr(f"sparring.planning.machine.time.{name}", ticks.__next__)
    speed, slowdown = machine.core_speed(torch.float32)
    assert (speed, slowdown) == (2 * machine.TIMED**3, 5.0)
    assert Machine("cpu", "cpu", 1, GB, speed, 1e10, speed, slowdown).busy


@pytest.mark.parametrize(("slowdown", "load", "delay"), [(1.0, 0.25, 1.25), (1.0, 3.0, 4.0), (2.0, 0.5, 2.0)])
def test_a_load_that_left_the_timed_product_alone_counts(slowdown: float, load: float, delay: float) -> None:
    """Half of 16 cores busy: one thread runs at its full speed, and a run on all of them does not."""
    found = Machine("cpu", "cpu", 1, GB, 1e11, 1e10, 1e11, slowdown, load)
    assert found.delay == delay
    assert found.busy == (delay > machine.BUSY)


def test_bad_input(recipe: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(recipe))
    assert "--gpus 'H1000': not known" in sparring("plan", file, "--gpus", "H1000").err
    code, _, err = sparring("plan", file, "--set", "model.path=org/not-there")
    assert code == 2
    assert "the configuration of 'org/not-there' cannot be read" in err


def test_a_loss_that_looks_at_its_whole_step_first_costs_a_forward_pass_more(recipe: dict[str, Any]) -> None:
    """KTO scores each response of a step before it trains on one; with its reference point at zero it need not."""
    tokens, seconds, responses = {}, {}, {}
    for point in ("kl", "zero"):
        plain = {**recipe, "algorithm": {"name": "kto", "reference_point": point}}
        built = parse_recipe(plain)
        planner = Planner(built, cpu(64 * GB), read_config(built), read_lengths(built))
        stage, one_pass = planner.fit(), planner._training_tokens()[0]
        assert one_pass
        tokens[point] = (stage.tokens or 0) / one_pass
        seconds[point] = ((stage.seconds or 0) - planner.times.fit_overhead) / one_pass
        responses[point] = planner.shape.responses
    assert tokens == {"kl": 2, "zero": 1}
    assert seconds["kl"] == pytest.approx(seconds["zero"] * 4 / 3, rel=0.2)  # backward counts as two forward passes
    assert responses == {"kl": 2, "zero": 1}
