"""`sparring evaluate judge-arena-hard` and `judge-mt-bench`: have a language model judge, and store its judgments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sparring.endpoints.replies import Asker, Request
    from sparring.evaluation.judge_benchmarks import Ask, Judge
    from sparring.recipe.sections import EndpointConfig

Model = Annotated[str, typer.Option(help="The judging model's name at the endpoint; it stands in every judgment.")]
Local = Annotated[bool, typer.Option("--local", help="Run --model here: a folder, a hub name or pypi:PACKAGE.")]
Reasoning = Annotated[
    bool, typer.Option("--reasoning", help="A reasoning model: sends max_completion_tokens and no temperature.")
]
BaseUrl = Annotated[str | None, typer.Option(help="Any OpenAI-compatible endpoint; default: OpenAI's.")]
KeyEnv = Annotated[str, typer.Option(help="Environment variable that holds the key; empty for an endpoint without.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest reply. Part of the judge's name: scores depend on it.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once; with --local, run together.")]
Timeout = Annotated[float, typer.Option(help="Seconds for one reply.")]
Attempts = Annotated[int, typer.Option(min=1, help="Tries of one request, with growing waits between them.")]
MaxCost = Annotated[float | None, typer.Option(help="Stop before paying more; needs both prices.")]
PriceIn = Annotated[float | None, typer.Option(help="Per million tokens read.")]
PriceOut = Annotated[float | None, typer.Option(help="Per million tokens written.")]
Out = Annotated[Path, typer.Option(help="Where the judgments go; replies are kept beside them, and never paid twice.")]

SERVED = ("base_url", "key_env", "reasoning", "timeout", "attempts", "max_cost", "price_in", "price_out")
"""options of a judge that is served"""


def register(app: typer.Typer) -> None:
    """Add the verbs."""

    @app.command("judge-arena-hard")
    def arena_hard(
        context: typer.Context,
        answers: Annotated[Path, typer.Option(help="The model's answers, in Arena-Hard's format.")],
        baseline_answers: Annotated[Path, typer.Option(help="The baseline's answers.")],
        questions: Annotated[Path, typer.Option(help="The benchmark's question.jsonl.")],
        instruction: Annotated[Path, typer.Option(help="A text file with the judge's system prompt.")],
        model: Model,
        out: Out,
        base_url: BaseUrl = None,
        key_env: KeyEnv = "OPENAI_API_KEY",
        local: Local = False,
        reasoning: Reasoning = False,
        max_tokens: MaxTokens = 4096,
        concurrency: Concurrency = 8,
        timeout: Timeout = 300.0,
        attempts: Attempts = 5,
        max_cost: MaxCost = None,
        price_in: PriceIn = None,
        price_out: PriceOut = None,
    ) -> None:
        """Judge answers against the baseline in both orders, with five-level verdicts."""
        from sparring.cli.result import existing
        from sparring.evaluation.arena_hard import read_answers
        from sparring.evaluation.judge_benchmarks import arena_hard_rows, read_questions

        refuse_served_options(context)
        existing([answers, baseline_answers, questions, instruction])
        ours, theirs = (one_model(read_answers([path]), path) for path in (answers, baseline_answers))
        asked, text = read_questions(questions), read_instruction(instruction)
        different(ours[0], theirs[0], "--baseline-answers")
        judge, asker = judge_at(endpoint_of(context), max_tokens, out, local, reasoning)
        refuse_others(out, {"model": ours[0], "baseline": theirs[0], "judge": judge.identity(text, [])})
        rows = arena_hard_rows(asked, ours[1], theirs[1], (ours[0], theirs[0]), text, judge)
        games = [(game["judgment"], game["score"] is not None) for row in rows for game in row["games"]]
        store(rows, asked_for(games), asker, out)

    @app.command("judge-mt-bench")
    def mt_bench(
        context: typer.Context,
        answers: Annotated[Path, typer.Option(help="FastChat's answers of one model.")],
        questions: Annotated[Path, typer.Option(help="The benchmark's question.jsonl.")],
        references: Annotated[Path, typer.Option(help="FastChat's reference answers.")],
        judge_prompts: Annotated[Path, typer.Option(help="FastChat's judge_prompts.jsonl.")],
        model: Model,
        out: Out,
        against: Annotated[Path | None, typer.Option(help="Answers of another model: pairwise games.")] = None,
        base_url: BaseUrl = None,
        key_env: KeyEnv = "OPENAI_API_KEY",
        local: Local = False,
        reasoning: Reasoning = False,
        max_tokens: MaxTokens = 2048,
        concurrency: Concurrency = 8,
        timeout: Timeout = 300.0,
        attempts: Attempts = 5,
        max_cost: MaxCost = None,
        price_in: PriceIn = None,
        price_out: PriceOut = None,
    ) -> None:
        """Rate a model's two turns, or compare two models in both orders."""
        from sparring.cli.result import existing
        from sparring.data.rows import read_file
        from sparring.evaluation.judge_benchmarks import (
            pair_rows,
            read_prompts,
            read_questions,
            read_turns,
            single_rows,
            wording_of,
        )

        refuse_served_options(context)
        existing([answers, questions, references, judge_prompts, *([against] if against else [])])
        ours = one_model(read_turns(read_file(answers)), answers)
        known = one_model(read_turns(read_file(references)), references)[1]
        asked, prompts = read_questions(questions, ("category", "turns")), read_prompts(judge_prompts)
        theirs = None if against is None else one_model(read_turns(read_file(against)), against)
        if theirs is not None:
            different(ours[0], theirs[0], "--against")
        judge, asker = judge_at(endpoint_of(context), max_tokens, out, local, reasoning)
        sides = {"model": ours[0]} if theirs is None else {"model_1": ours[0], "model_2": theirs[0]}
        refuse_others(out, {**sides, "judge": judge.identity(wording_of(prompts), [])})
        if theirs is None:
            if empty := sum(not turn.strip() for turns in ours[1].values() for turn in turns):
                typer.echo(f"{ours[0]}: {empty} turns are empty; the judge rates them like any other")
            rows = single_rows(asked, ours[1], known, ours[0], prompts, judge)
            readable = [row["score"] >= 0 for row in rows]
        else:
            rows = pair_rows(asked, (ours[1], theirs[1]), known, (ours[0], theirs[0]), prompts, judge)
            readable = asked_for(
                [(row[f"g{game}_judgment"], row[f"g{game}_winner"] != "error") for row in rows for game in (1, 2)]
            )
        store(rows, readable, asker, out)


def one_model(found: Mapping[str, Any], path: Path) -> tuple[str, Any]:
    """The only model of a file of answers."""
    if not found:
        raise ValueError(f"{path} holds no answers.")
    if len(found) > 1:
        raise ValueError(f"{path} holds answers of {len(found)} models ({', '.join(found)}); give one model's file.")
    return next(iter(found.items()))


def different(ours: str, theirs: str, option: str) -> None:
    """Refuses a model against itself."""
    if ours == theirs:
        raise ValueError(f"--answers and {option} are both of {ours!r}. Give another model's answers on one side.")


def refuse_others(out: Path, mine: Mapping[str, str]) -> None:
    """`out` may be there only with judgments of the same models by the same judge, which a resumed command rewrites.

    Raises:
        ValueError: it holds others.
    """
    from sparring.data.rows import read_file
    from sparring.evaluation.judge_benchmarks import unserved

    if not out.exists():
        return
    for row in read_file(out):
        judge = row.get("judge")
        name = judge[0] if isinstance(judge, list) and judge else judge
        theirs = {**{key: row.get(key) for key in mine}, "judge": unserved(str(name))}
        if others := [key for key in mine if theirs[key] != mine[key]]:
            told = "; ".join(f"{key}: {theirs[key]} there, {mine[key]} here" for key in others)
            raise ValueError(f"--out: {out} holds other judgments ({told}). Give another --out.")


def asked_for(verdicts: Sequence[tuple[str, bool]]) -> list[bool]:
    """Whether each reply was readable, of (judgment, readable); says how many a rule decided."""
    from sparring.evaluation.judge_benchmarks import NOT_ASKED

    asked = [readable for judgment, readable in verdicts if not judgment.startswith(NOT_ASKED)]
    if ruled := len(verdicts) - len(asked):
        typer.echo(f"{ruled} games have an empty answer, which loses (two tie); the judge was not asked")
    return asked


def read_instruction(path: Path) -> str:
    """The judge's system prompt."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"--instruction {path} is not UTF-8 text.") from error
    if not text:
        raise ValueError(f"--instruction {path} is empty. Give the judge's system prompt.")
    return text


def refuse_served_options(context: typer.Context) -> None:
    """Raise a ValueError that names the options given beside --local that only a server takes."""
    sources = {name: context.get_parameter_source(name) for name in SERVED}
    given = [f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name != "DEFAULT"]
    if context.params["local"] and given:
        raise ValueError(f"--local runs the model here, without a server or a price: remove {', '.join(given)}.")


def endpoint_of(context: typer.Context) -> EndpointConfig:
    """The options that say where the judge is, how hard it is asked and for how much.

    Raises:
        ValueError: one is out of its bounds.
    """
    from pydantic import ValidationError

    from sparring.recipe.explain import explain
    from sparring.recipe.sections import EndpointConfig

    # The two commands declare these options and hand them on unread: nine arguments were easily exchanged.
    given = {name: context.params[name] for name in EndpointConfig.model_fields}
    given["key_env"] = given["key_env"] or None
    try:
        return EndpointConfig(**given)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, EndpointConfig, given, "judge."))) from error


def judge_at(config: EndpointConfig, max_tokens: int, out: Path, local: bool, reasoning: bool) -> tuple[Judge, Asker]:
    """The judge, its replies kept beside `out`.

    Raises:
        ValueError: a model or an endpoint that cannot be asked.
    """
    from sparring.endpoints.endpoint import Endpoint
    from sparring.evaluation.judge_benchmarks import Judge

    kept = out.with_name(f"{out.name}.replies.jsonl")
    if not local:
        asker: Asker = Endpoint(config, "judge", kept)
    else:
        from sparring.endpoints.local import LocalChat

        asker = LocalChat(config.model, str(kept), config.concurrency)
    return Judge(config.model, announced(asker, config.model), max_tokens, reasoning), asker


def announced(asker: Asker, model: str) -> Ask:
    """Asks after saying what it will take at most, in waves that show how far it is."""

    def ask(requests: Sequence[Request]) -> list[Any]:
        from sparring.runtime.progress import Progress

        progress = Progress()
        progress.say(f"judge {model} at {asker.where}: {asker.estimate(requests)}")
        replies: list[Any] = []
        with progress.task("judge", len(requests)) as advance:
            for begin in range(0, len(requests), asker.wave):
                replies += asker.ask(requests[begin : begin + asker.wave])
                advance(len(replies) - begin)
        if cut := sum(reply is not None and reply.cut for reply in replies):
            progress.say(f"{cut} of {len(replies)} replies were cut off at --max-tokens: they give no verdict")
        return replies

    return ask


def store(rows: Sequence[Mapping[str, Any]], readable: Sequence[bool], asker: Asker, out: Path) -> None:
    """The judgments as one file; `readable` has one entry per reply that was asked for.

    Raises:
        OracleError: too many replies gave no verdict; what there is was stored.
    """
    from sparring.oracles.guard import MAX_FAILED_SHARE
    from sparring.runtime.errors import OracleError
    from sparring.runtime.files import write_json_lines

    write_json_lines(out, rows)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{len(rows)} judgments in {out}", markup=False)
    if asker.paid is not None:
        console.print(f"all kept replies cost {asker.paid:.4f}")
    failed = Counter(readable)[False]
    unanswered = min(asker.counts["failed requests"], failed)
    told = f"{failed} of {len(readable)} replies gave no verdict ({unanswered} unanswered, the rest unreadable)"
    if failed > MAX_FAILED_SHARE * max(len(readable), 20):
        raise OracleError(
            f"{told}, more than {MAX_FAILED_SHARE:.0%}: a score of what is left would depend on which failed. The "
            f"judgments are stored in {out} all the same. The same command asks the unanswered again"
            f"{f' (last: {asker.last_error})' if asker.last_error else ''}; unreadable replies are kept and "
            "stay so: read some, then give --max-tokens, another judge or another wording, and another --out."
        )
    if failed:
        console.print(f"{told}; the scores count and leave them out")
