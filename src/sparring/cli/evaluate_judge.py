"""`sparring evaluate judge-arena-hard` and `judge-mt-bench`: have a language model judge, and store its judgments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sparring.oracles.endpoint import Endpoint

Model = Annotated[str, typer.Option(help="The judging model's name at the endpoint; it stands in every judgment.")]
BaseUrl = Annotated[str | None, typer.Option(help="Any OpenAI-compatible endpoint; default: OpenAI's.")]
KeyEnv = Annotated[str, typer.Option(help="Environment variable that holds the key; empty for an endpoint without.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]
MaxCost = Annotated[float | None, typer.Option(help="Stop before paying more; needs both prices.")]
PriceIn = Annotated[float | None, typer.Option(help="Per million tokens read.")]
PriceOut = Annotated[float | None, typer.Option(help="Per million tokens written.")]
Out = Annotated[Path, typer.Option(help="Where the judgments go; replies are kept beside them, and never paid twice.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""

    @app.command("judge-arena-hard")
    def arena_hard(
        answers: Annotated[Path, typer.Option(help="The model's answers, in Arena-Hard's format.")],
        baseline_answers: Annotated[Path, typer.Option(help="The baseline's answers.")],
        questions: Annotated[Path, typer.Option(help="The benchmark's question.jsonl.")],
        instruction: Annotated[Path, typer.Option(help="A text file with the judge's system prompt.")],
        model: Model,
        out: Out,
        base_url: BaseUrl = None,
        key_env: KeyEnv = "OPENAI_API_KEY",
        concurrency: Concurrency = 8,
        max_cost: MaxCost = None,
        price_in: PriceIn = None,
        price_out: PriceOut = None,
    ) -> None:
        """Judge answers against the baseline in both orders, with five-level verdicts."""
        from sparring.cli.evaluate_result import existing
        from sparring.evaluation.arena_hard import read_answers
        from sparring.evaluation.judging import arena_hard_rows
        from sparring.examples import read_file

        existing([answers, baseline_answers, questions, instruction])
        ours, theirs = (one_model(read_answers([path]), path) for path in (answers, baseline_answers))
        endpoint = reach(model, base_url, key_env, concurrency, max_cost, price_in, price_out, out)
        text = instruction.read_text(encoding="utf-8").strip()
        names = ours[0], theirs[0]
        asked = read_file(questions)
        rows = arena_hard_rows(asked, ours[1], theirs[1], names, identity(model, text), text, endpoint.ask)
        store(rows, out, sum(game["score"] is None for row in rows for game in row["games"]))

    @app.command("judge-mt-bench")
    def mt_bench(
        answers: Annotated[Path, typer.Option(help="FastChat's answers of one model.")],
        questions: Annotated[Path, typer.Option(help="The benchmark's question.jsonl.")],
        references: Annotated[Path, typer.Option(help="FastChat's reference answers.")],
        judge_prompts: Annotated[Path, typer.Option(help="FastChat's judge_prompts.jsonl.")],
        model: Model,
        out: Out,
        against: Annotated[Path | None, typer.Option(help="Answers of another model: pairwise games.")] = None,
        base_url: BaseUrl = None,
        key_env: KeyEnv = "OPENAI_API_KEY",
        concurrency: Concurrency = 8,
        max_cost: MaxCost = None,
        price_in: PriceIn = None,
        price_out: PriceOut = None,
    ) -> None:
        """Rate a model's two turns, or compare two models in both orders."""
        from sparring.cli.evaluate_result import existing
        from sparring.evaluation.judging import pair_rows, read_turns, single_rows
        from sparring.examples import read_file

        existing([answers, questions, references, judge_prompts, *([against] if against else [])])
        ours = one_model(read_turns(read_file(answers)), answers)
        known = one_model(read_turns(read_file(references)), references)[1]
        prompts = {row["name"]: row for row in read_file(judge_prompts)}
        judge = identity(model, json.dumps(prompts, sort_keys=True))
        endpoint = reach(model, base_url, key_env, concurrency, max_cost, price_in, price_out, out)
        asked = read_file(questions)
        if against is None:
            rows = single_rows(asked, ours[1], known, ours[0], judge, prompts, endpoint.ask)
            failed = sum(row["score"] < 0 for row in rows)
        else:
            theirs = one_model(read_turns(read_file(against)), against)
            names, sides = (ours[0], theirs[0]), (ours[1], theirs[1])
            rows = pair_rows(asked, sides, known, names, judge, prompts, endpoint.ask)
            failed = sum(row[f"g{game}_winner"] == "error" for row in rows for game in (1, 2))
        store(rows, out, failed)


def one_model(found: Mapping[str, Any], path: Path) -> tuple[str, Any]:
    """The only model of a file of answers."""
    if len(found) != 1:
        raise ValueError(f"{path} holds answers of {len(found)} models ({', '.join(found)}); give one model's file.")
    return next(iter(found.items()))


def identity(model: str, wording: str) -> str:
    """The judge's name in the rows: judgments under another wording are another judge's."""
    import hashlib

    return f"{model} (prompt {hashlib.sha256(wording.encode()).hexdigest()[:8]})"


def reach(
    model: str,
    base_url: str | None,
    key_env: str,
    concurrency: int,
    max_cost: float | None,
    price_in: float | None,
    price_out: float | None,
    out: Path,
) -> Endpoint:
    """The endpoint, its replies kept beside `out`."""
    from sparring.oracles.endpoint import Endpoint, Settings

    settings = Settings(
        model=model,
        base_url=base_url,
        key_env=key_env or None,
        concurrency=concurrency,
        max_cost=max_cost,
        price_in=price_in,
        price_out=price_out,
        field="judge",
    )
    return Endpoint(settings, out.with_name(f"{out.name}.replies.jsonl"))


def store(rows: Sequence[Mapping[str, Any]], out: Path, failed: int) -> None:
    """The judgments as one file, and how many verdicts are missing."""
    from sparring.rounds.store import write_text

    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{len(rows)} judgments in {out}", markup=False)
    if failed:
        console.print(f"{failed} replies gave no verdict; the scores count and leave them out")
