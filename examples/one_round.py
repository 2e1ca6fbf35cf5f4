"""One round of INPO on a real model, stage by stage: what `sparring run` does, without its manifest and its resuming.

python examples/one_round.py runs/one-round      # two minutes on two cores, after `make demo`'s set-up
"""

from __future__ import annotations

import sys
from pathlib import Path

from sparring import (
    DataFacts,
    ExampleRow,
    Guard,
    Policies,
    PolicyRef,
    Progress,
    Store,
    anchor_logps,
    build_oracle,
    fit_step,
    judge_examples,
    load_recipe,
    make_pairs,
    read_table,
    responses_of,
    sample_draw,
    training_examples,
)

PROMPTS = ("Why is the sky blue?", "How do I boil an egg?", "What is a tide?", "Why do cats purr?")


def main(out: Path) -> None:
    """Sample, judge, pair, anchor and fit; the new policy lies in `out`/rounds/000/policy."""
    recipe, progress, seed = load_recipe("demo"), Progress(), 0
    policies = Policies(Store(out), recipe.model, recipe.fit.precision)
    messages = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    examples: list[ExampleRow] = [
        {
            "example": str(number),
            "messages": turns,
            "prompt": prompt,
            "prompt_ids": policies.chat.prompt_ids(turns),
            "responses": [],
            "check": None,
        }
        for number, (prompt, turns) in enumerate(zip(PROMPTS, messages, strict=True))
    ]
    (step,) = recipe.build_algorithm().steps(0, DataFacts(len(examples)))

    # Sample: K responses of the iterate to every prompt.
    samples = []
    for draw in step.draws():
        file = out / f"samples-{draw.role}.parquet"
        sample_draw(policies, draw, examples, recipe.sampling, seed, draw.role, file, progress)
        samples += read_table(file)
    responses = responses_of(step, examples, samples)

    # Judge: the pairing says which responses meet, the oracle says P(a beats b).
    oracle = build_oracle(recipe.oracle or {}, str(policies.base))
    judge_examples(step.pairing, examples, responses, Guard(oracle), seed, out / "verdicts.parquet", progress)

    # Pair: winner, loser, preference and weight, from the same pairing on the stored verdicts.
    make_pairs(step, examples, responses, read_table(out / "verdicts.parquet"), seed, out / "pairs.parquet")
    pairs = read_table(out / "pairs.parquet")

    # Anchor: log-probabilities of the responses under the frozen policies of the loss.
    refs = {"reference": PolicyRef(0), "iterate": PolicyRef(0), **step.anchors}
    anchor_logps(policies, list(refs.values()), pairs, recipe.fit, out / "anchors.parquet", progress)

    # Fit: the loss is step.objective, a pure function of a Batch.
    weights = {name: policies.hash(ref) for name, ref in refs.items()}
    rows = training_examples(pairs, read_table(out / "anchors.parquet"), weights)
    fit_step(policies, step, PolicyRef(1), rows, recipe.fit, seed, progress, report=print)
    print(out / "rounds/000/policy")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/one-round"))
