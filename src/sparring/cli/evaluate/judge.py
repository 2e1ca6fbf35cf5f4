"""`sparring evaluate judge-arena-hard` and `judge-mt-bench`: have a language model judge, and store its judgments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sparring.evaluation.judge_files import JudgeSettings

KEYWORD = inspect.Parameter.KEYWORD_ONLY
Answers = Annotated[Path, typer.Option(help="One model's answers, in the benchmark's format.")]
Questions = Annotated[Path, typer.Option(help="The benchmark's question.jsonl.")]
Out = Annotated[Path, typer.Option(help="Where the judgments go; replies are kept beside them, and never paid twice.")]
OPTIONS: dict[str, tuple[Any, Any]] = {
    "model": (
        Annotated[str, typer.Option(help="The judging model's name at the endpoint; it stands in every judgment.")],
        inspect.Parameter.empty,
    ),
    "local": (
        Annotated[bool, typer.Option("--local", help="Run --model here: a folder, a hub name or pypi:PACKAGE.")],
        False,
    ),
    "max_tokens": (
        Annotated[int, typer.Option(min=1, help="Longest reply. Part of the judge's name: scores depend on it.")],
        None,
    ),
    "concurrency": (
        Annotated[int, typer.Option(min=1, help="Requests under way at once; with --local, run together.")],
        8,
    ),
}
"""annotation and default of each option that says who judges"""
SERVED: dict[str, tuple[Any, Any]] = {
    "base_url": (Annotated[str | None, typer.Option(help="Any OpenAI-compatible endpoint; default: OpenAI's.")], None),
    "key_env": (
        Annotated[str, typer.Option(help="Environment variable that holds the key; empty for an endpoint without.")],
        "OPENAI_API_KEY",
    ),
    "reasoning": (
        Annotated[
            bool, typer.Option("--reasoning", help="A reasoning model: sends max_completion_tokens, no temperature.")
        ],
        False,
    ),
    "timeout": (Annotated[float, typer.Option(help="Seconds for one reply.")], 300.0),
    "attempts": (Annotated[int, typer.Option(min=1, help="Tries of one request, with growing waits between them.")], 5),
    "max_cost": (Annotated[float | None, typer.Option(help="Stop before paying more; needs both prices.")], None),
    "price_in": (Annotated[float | None, typer.Option(help="Per million tokens read.")], None),
    "price_out": (Annotated[float | None, typer.Option(help="Per million tokens written.")], None),
}
"""the same of those that only a served judge has"""


def with_judge(max_tokens: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that say who judges, whose settings it gets as its argument `judge`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def verb(context: typer.Context, **values: Any) -> None:
            _refuse_served_options(context)
            options = {name: values.pop(name) for name in (*OPTIONS, *SERVED)}
            command(judge=_judge_settings(options), **values)

        own = inspect.signature(command, eval_str=True).parameters.values()
        options = {**OPTIONS, **SERVED, "max_tokens": (OPTIONS["max_tokens"][0], max_tokens)}
        parameters = [
            inspect.Parameter("context", KEYWORD, annotation=typer.Context),
            *(p.replace(kind=KEYWORD) for p in own if p.name != "judge"),
            *(inspect.Parameter(n, KEYWORD, default=value, annotation=kind) for n, (kind, value) in options.items()),
        ]
        verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        verb.__annotations__ = {p.name: p.annotation for p in parameters}
        return verb

    return decorate


@with_judge(max_tokens=4096)
def arena_hard(
    answers: Answers,
    baseline_answers: Annotated[Path, typer.Option(help="The baseline's answers.")],
    questions: Questions,
    instruction: Annotated[Path, typer.Option(help="A text file with the judge's system prompt.")],
    out: Out,
    judge: Any,
) -> None:
    """Judge answers against the baseline in both orders, with five-level verdicts."""
    from sparring.cli.result import existing
    from sparring.evaluation.judge_files import judge_arena_hard
    from sparring.runtime.locks import locked_path
    from sparring.runtime.progress import Progress

    existing([answers, baseline_answers, questions, instruction])
    with locked_path(out):
        judge_arena_hard(answers, baseline_answers, questions, instruction, judge, out, Progress())


@with_judge(max_tokens=2048)
def mt_bench(
    answers: Answers,
    questions: Questions,
    references: Annotated[Path, typer.Option(help="FastChat's reference answers.")],
    judge_prompts: Annotated[Path, typer.Option(help="FastChat's judge_prompts.jsonl.")],
    out: Out,
    judge: Any,
    against: Annotated[Path | None, typer.Option(help="Answers of another model: pairwise games.")] = None,
) -> None:
    """Rate a model's two turns, or compare two models in both orders."""
    from sparring.cli.result import existing
    from sparring.evaluation.judge_files import judge_mt_bench
    from sparring.runtime.locks import locked_path
    from sparring.runtime.progress import Progress

    existing([answers, questions, references, judge_prompts, *([against] if against else [])])
    with locked_path(out):
        judge_mt_bench(answers, questions, references, judge_prompts, against, judge, out, Progress())


def _refuse_served_options(context: typer.Context) -> None:
    """Raise a ValueError that names the options given beside --local that only a server takes."""
    sources = {name: context.get_parameter_source(name) for name in SERVED}
    named = [f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name != "DEFAULT"]
    if context.params["local"] and named:
        raise ValueError(f"--local runs the model here, without a server or a price: remove {', '.join(named)}.")


def _judge_settings(options: dict[str, Any]) -> JudgeSettings:
    """The judge's settings; ValueError for an option out of its bounds."""
    from pydantic import ValidationError

    from sparring.evaluation.judge_files import JudgeSettings
    from sparring.recipe.sections import EndpointConfig
    from sparring.runtime.explain import explain

    fields = {name: options[name] for name in EndpointConfig.model_fields}
    fields["key_env"] = fields["key_env"] or None
    try:
        endpoint = EndpointConfig(**fields)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, EndpointConfig, fields, "judge."))) from error
    return JudgeSettings(endpoint, options["max_tokens"], options["local"], options["reasoning"])
