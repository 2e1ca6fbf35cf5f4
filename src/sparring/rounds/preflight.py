"""Before any work: try the oracles, the engine and the model, which would stop a run hours later, and write lock.json.

Leaves out: checks of the recipe (`recipe/recipe.py`) and of the data (`prepare.py`).

    probed = probe(policies, recipe, progress); try_model(policies, recipe, progress)
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

import sparring
from sparring.algorithms.algorithm import ANY_DATA, REFERENCE
from sparring.endpoints.replies import Estimate
from sparring.fleet.work import current
from sparring.models.architecture import attention_window
from sparring.models.generation import generation_note
from sparring.models.identity import hash_weights, reading_files
from sparring.models.weights import check_weights, load_config, refuse_unsuitable
from sparring.oracles.abilities import Estimates, nested
from sparring.oracles.build import build_oracle
from sparring.oracles.guard import Guard
from sparring.recipe.recipe import Recipe
from sparring.rounds.judge import refuse_other_judge
from sparring.rounds.policies import Policies
from sparring.rounds.price import judge_price
from sparring.rounds.state import rounds_made
from sparring.rounds.store import Store
from sparring.runtime import devices, gpus
from sparring.runtime.devices import on_device
from sparring.runtime.files import read_column, read_object, write_json
from sparring.runtime.layout import DATA_STAGE, HELD_OUT, LOCK, TRAIN, is_finished, stage_name
from sparring.runtime.memory import release_memory
from sparring.runtime.precision import INSTEAD, computed, products_in
from sparring.runtime.progress import Progress
from sparring.sampling.check import check_sampling
from sparring.sampling.vllm_process import check_vllm
from sparring.training.optim import check_optimizer
from sparring.training.quantised import check_quantisation
from sparring.training.scorer import PolicyScorer, base_of

PACKAGES = ("torch", "transformers", "peft", "datasets", "numpy", "scipy", "tokenizers")
"""whose versions go into lock.json"""


Judges = list[tuple[str, Estimates, Estimate]]
"""judges that may cost money, each with the recipe's field and the price of the labels it is calibrated on"""


class Probed(NamedTuple):
    """The judges that answered a first question, and the engine's version."""

    judges: Judges
    engine: dict[str, str]
    """version of a sampling engine of its own"""
    identities: list[str]
    """of the recipe's oracle and of the evaluation's; none where the run is finished and asks nobody"""


def probe(policies: Policies, recipe: Recipe, progress: Progress) -> Probed:
    """Ask every oracle a first question, and vLLM for its version. A calibrated one judges its labels before that.

    Raises:
        ValueError: one of them, the optimiser or the quantisation cannot be used; names the field.
    """
    manifest = policies.store.manifest
    if recipe.fit.shard_weights and max(devices.count(), current().ranks) < 2:
        raise ValueError(
            "fit.shard_weights = true cuts the weights over several devices, but there is one. Give --devices 2 or "
            "more, or set it false."
        )
    probed = Probed([], {}, [])
    if is_finished(manifest, rounds_made(manifest, recipe.rounds)):
        return probed
    if policies.quantized:
        check_quantisation(policies.base)
    check_optimizer(recipe.fit)
    if recipe.sampling.engine == "vllm":
        probed.engine["vllm"] = check_vllm(recipe.sampling.vllm, here=not current().shares)
    sections = [] if recipe.oracle is None else [("oracle", recipe.oracle)]
    sections += [(f"evaluation.oracles.{i}", s) for i, s in enumerate(recipe.evaluation.oracles)]
    for field, section in sections:
        try:
            oracle = build_oracle(section, str(policies.base))
        except ValueError as error:
            raise ValueError(str(error) if field == "oracle" else f"{field}: {error}") from error
        for judge, labels in nested(oracle):
            if isinstance(judge, Estimates) and judge.served_model is not None:
                probed.judges.append((field, judge, price := judge.estimate(labels)))
                if labels:
                    progress.say(f"judge  {judge.served_model}: {len(labels)} labelled pairs first: {price}")
        guard = Guard(oracle)
        probed.identities.append(guard.identity)
        if field == "oracle":
            refuse_other_judge(policies.store, guard)
        guard.probe(say=progress.say)
    return probed


def try_model(policies: Policies, recipe: Recipe, progress: Progress) -> None:
    """Load the start model as the fit will; sample, score and save a little with it: hours before the first fit.

    No random numbers are drawn for it but those that loading always draws.

    Raises:
        ValueError: it cannot be loaded, sampled, trained in the recipe's layout or saved; or our log-probabilities are
            not the model's own.
    """
    policies.untried = False
    if any(stage_name(key) == "anchor" for key in policies.store.manifest):
        return
    fit = recipe.fit
    refuse_unsuitable(load_config(policies.base, recipe.model.trust_remote_code), recipe.model.path)
    check_weights(policies.base, recipe.model.trust_remote_code)
    hash_weights(policies.base)  # reads every file: names one that is cut short
    model = policies.load_training(REFERENCE).eval()
    # A model that is to be sharded need not fit on a device.
    placed = model if fit.shard_weights else on_device(model)
    causal = base_of(placed)
    if recipe.sampling.engine == "transformers":
        check_sampling(causal)
    scorer = PolicyScorer(placed, fit.layout, fit.attention).eval()
    with products_in(fit.precision, scorer.causal.device.type):
        scorer.compile_attention()
    scorer.verify()
    scorer.check_sight()
    policies.try_saving(causal)
    if note := generation_note(policies.base):
        progress.say(note)
    precisions = {fit.precision, *([recipe.sampling.precision] if recipe.sampling.engine == "transformers" else [])}
    here = not current().shares  # a cluster's workers may have what the controller has not
    if here and "bfloat16" in precisions and computed("bfloat16", causal.device.type) == torch.float32:
        progress.say(f"precision  {INSTEAD}")
    del model, placed, causal, scorer
    release_memory()


def check_window(policies: Policies, recipe: Recipe) -> None:
    """Compare the longest sequence that may come with the reach of packed attention, before anything is sampled.

    Raises:
        ValueError: it is longer; the first such response would stop the run.
    """
    if recipe.fit.layout != "packed" or any(stage_name(key) == "anchor" for key in policies.store.manifest):
        return
    window = attention_window(load_config(policies.base, policies.model.trust_remote_code))
    if window is None:
        return
    steps = recipe.build_algorithm().steps(0, ANY_DATA)
    made = recipe.data.collect or recipe.data.teacher or any(step.draws() for step in steps)
    sampled = recipe.sampling.max_new_tokens
    for file, new in ((TRAIN, sampled if made else 0), (HELD_OUT, sampled)):
        path = policies.store.root / file
        longest = longest_sequence(path, new) if path.exists() else 0
        if longest > window[1]:
            raise ValueError(
                f"fit.layout = 'packed': the model's {window[0]} is {window[1]} tokens, and sequences of {longest} may "
                f"come ({file}, with sampling.max_new_tokens = {sampled}). Use fit.layout: padded, or lower "
                "data.max_prompt_tokens or sampling.max_new_tokens."
            )


def check_best_by(store: Store, recipe: Recipe) -> None:
    """Refuse to choose the best policy by checks that the held-out prompts do not have. Raises ValueError."""
    path = store.root / HELD_OUT  # a collection has none
    if recipe.evaluation.every is None or recipe.evaluation.best_by != "checks" or not path.exists():
        return
    checks = read_column(path, "check")[: recipe.evaluation.prompts]
    if not any(check and check != "[]" for check in checks):
        raise ValueError(
            "evaluation.best_by = 'checks', but no held-out prompt that is evaluated has a check. Give a column check "
            "(data.held_out.columns.check), or set evaluation.best_by: win_rate."
        )


def longest_sequence(path: Path, sampled: int) -> int:
    """Tokens of the longest prompt with its longest response in a table of examples, or with `sampled` tokens."""
    compute: Any = pc  # its functions are made when it is imported
    longest = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=["prompt_ids", "responses"]):
        prompts = np.asarray(compute.list_value_length(batch["prompt_ids"]))
        responses = np.full(len(prompts), sampled)
        lengths = np.asarray(compute.list_value_length(compute.list_flatten(batch["responses"]).field("token_ids")))
        np.maximum.at(responses, np.asarray(compute.list_parent_indices(batch["responses"])), lengths)
        longest = max(longest, int((prompts + responses).max(initial=0)))
    return longest


def say_prices(
    store: Store, recipe: Recipe, judges: Judges, progress: Progress, by_task: tuple[int, int] | None = None
) -> None:
    """Print the price of paid judges, before the run asks them anything but first questions and labels.

    `by_task`: comparisons in an environment's episode, in training and in the evaluation.
    """
    if not judges:
        return
    prompts = read_column(store.root / TRAIN, "prompt")
    # A collection has no held-out prompts: nothing is evaluated.
    held = read_column(store.root / HELD_OUT, "prompt") if (store.root / HELD_OUT).exists() else []
    for field, judge, labels in judges:
        progress.say(judge_price(recipe, judge, field == "oracle", prompts, held, labels, by_task))


def write_lock(policies: Policies, seed: int, engine: dict[str, str], progress: Progress) -> None:
    """lock.json: versions, hardware, the start's weights and the data; says which versions changed."""
    store = policies.store
    versions = {name: metadata.version(name) for name in PACKAGES}
    lock = {
        "versions": {"sparring": sparring.__version__, "python": platform.python_version(), **versions},
        "hardware": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "accelerator": gpus.name(),
            "devices": devices.count(),
        },
        "weights": {"0/play": policies.base_hash},
        "files": reading_files(policies.base),
        "data": store.manifest[DATA_STAGE]["outputs"],
        "seed": seed,
        "date": policies.day.isoformat(),
    }
    path = store.root / LOCK
    before = read_object(path) if path.exists() else {}
    lock["engine"] = engine or before.get("engine", {})
    known = before.get("versions", lock["versions"])
    versions = {name: (known.get(name), now) for name, now in lock["versions"].items()}
    if changed := {name: (was, now) for name, (was, now) in versions.items() if was != now}:
        progress.say(f"note  versions changed since this run began: {changed}")
    write_json(path, lock)
