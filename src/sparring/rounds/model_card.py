"""The model card of an exported policy: what it is, how it was made, what was measured, which licences it inherits.

Says "not stated" where a licence could not be found; none is ever guessed. Leaves out: the weights (`export.py`).

    model_card("my-model", origin, {"dtype": "bfloat16", ...}, licence=None)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import yaml

import sparring
from sparring.evaluation.best_policy import Best, in_words
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import DatasetConfig
from sparring.report.numbers import judge_names
from sparring.report.summary import Summary
from sparring.runtime.plain_yaml import load_yaml
from sparring.runtime.words import counted

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
PRIVATE = {"trackers", "base_url", "key_env", "extra", "vllm"}
"""fields that a card does not show"""
UNKNOWN = "not stated"
SHIPPED_LICENCE = "Apache-2.0 (comes with Sparring)"


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that made the policy."""

    recipe: Recipe
    rounds: int
    """rounds of training behind the policy"""
    weights: str
    """hash of the policy"""
    summary: Summary | None
    """None where the run did not evaluate this policy; of an earlier one it may hold the judgments alone"""
    chosen: Best | None
    """where it was taken as the best evaluated policy"""
    data: Mapping[str, Any]
    """counts of the data stage"""
    start: Path
    """folder of the start model"""


def model_card(name: str, origin: Origin | None, export: dict[str, Any], licence: str | None) -> str:
    """Markdown with the metadata block that the hub reads; `origin`: None for a folder that no run made."""
    lines = [*_metadata(origin, licence), f"# {name}", ""]
    if origin is None:
        lines += ["Exported with Sparring; how it was trained is not recorded here.", "", *_use(name, False)]
        return "\n".join([*lines, *_export(export)])
    lines += [
        *_made(origin),
        *_use(name, origin.recipe.model.trust_remote_code),
        *_results(origin.summary, origin.chosen),
    ]
    lines += [*_data(origin), *_licences(origin, licence), *_export(export)]
    plain = yaml.safe_dump(public(origin.recipe.resolved()), sort_keys=False, allow_unicode=True)
    lines += ["## Recipe", "", "Where it ran is left out.", "", "```yaml", plain.rstrip(), "```", ""]
    return "\n".join(lines)


def public(value: Any) -> Any:
    """A recipe without its owner's services, addresses, and the folders above a file's name."""
    if isinstance(value, dict):
        return {name: public(part) for name, part in value.items() if name not in PRIVATE}
    if isinstance(value, list):
        return [public(part) for part in value]
    if isinstance(value, str) and value.startswith(("/", "~", "./", "../")):
        return Path(value).name
    return re.sub(r"://[^/\s@]*@", "://", value) if isinstance(value, str) else value


def _metadata(origin: Origin | None, licence: str | None) -> list[str]:
    meta: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    meta["tags"] = ["sparring", "self-play", *([origin.recipe.algorithm["name"]] if origin else [])]
    stated = licence or (base_licence(origin.start) if origin else UNKNOWN)
    if stated != UNKNOWN:
        meta["license"] = stated
    if origin is not None:
        path = origin.recipe.model.path
        if HUB_NAME.fullmatch(path) and not Path(path).is_dir():
            meta["base_model"] = path
        if hub_sets := [config.path for config in _sets(origin.recipe).values() if _is_hub(config)]:
            meta["datasets"] = list(dict.fromkeys(hub_sets))
    return ["---", yaml.safe_dump(meta, sort_keys=False).rstrip(), "---", ""]


def _made(origin: Origin) -> list[str]:
    recipe, about = origin.recipe, origin.recipe.build_algorithm().about
    oracle = recipe.oracle["name"] if recipe.oracle and recipe.asks_oracle() else None
    if recipe.oracle and oracle == "function":
        oracle = recipe.oracle["path"]
    judged = f" Preferences came from the oracle `{oracle}`." if oracle else " No oracle was asked in training."
    if recipe.environment is not None:
        judged = f" Rewards came from the environment `{recipe.environment['name']}`, in whose roles it played."
        if recipe.oracle is not None:
            judged += f" The oracle `{recipe.oracle.get('path', recipe.oracle['name'])}` compared in it."
    adapter = " It was trained as a LoRA adapter, merged here." if recipe.model.lora else ""
    system = recipe.model.system
    asked = f" Every prompt without a system message had this one; send it too: {system!r}." if system else ""
    return [
        f"`{_short(recipe.model.path)}` aligned by {counted(origin.rounds, 'round')} of {about.title} ({about.paper}) "
        f"with {_project()} {sparring.__version__}.{judged}{adapter}{asked}",
        "",
    ]


def _project() -> str:
    """The name, with a link where the package names its repository: a dead one would be in every card."""
    entries = (entry.split(", ", 1) for entry in metadata("sparring").get_all("Project-URL") or [])
    urls = {label.lower(): url for label, url in entries}
    return f"[Sparring]({urls['repository']})" if "repository" in urls else "Sparring"


def _use(name: str, own_code: bool) -> list[str]:
    code = ", trust_remote_code=True" if own_code else ""
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{name}"{code})',
        f'tokenizer = AutoTokenizer.from_pretrained("{name}"{code})',
        "```",
        "",
    ]


def _results(summary: Summary | None, chosen: Best | None) -> list[str]:
    if summary is None:
        return ["## Results", "", "This policy was not evaluated by its run.", ""]
    count = len(summary["samples"])
    lines = ["## Results", "", f"Against the start model on {count} held-out prompts, 95 % intervals over prompts.", ""]
    lines += ["| judgment | asked in training | win rate | interval | mean preference |", "|---|---|---|---|---|"]
    for name, judgment in zip(judge_names(summary["judgments"]), summary["judgments"], strict=True):
        win, mean = judgment["win_rate"], judgment["mean_preference"]
        lines.append(
            f"| {name} | {'yes' if judgment['seen_in_training'] else 'no'} | {win.value:.1%} | "
            f"{win.span('.1%')} | {mean.value:.3f} |"
        )
    if checks := summary["checks"]:
        lines.append(
            f"| rules that code checks ({checks['prompts']} prompts) | no | {checks['start'].value:.1%} to "
            f"{checks['final'].value:.1%} pass | {checks['difference'].scaled(100).span('+.1f')} points | |"
        )
    lines += ["", *([in_words(chosen), ""] if chosen else []), *(f"- Warning: {each}" for each in summary["warnings"])]
    return [*lines, ""] if summary["warnings"] else lines


def _data(origin: Origin) -> list[str]:
    counts = origin.data
    lines = ["## Data", ""]
    for name, config in _sets(origin.recipe).items():
        name = name.replace(".sets.", ".")
        count = counts.get(name, counts.get("train_sets", {}).get(name.removeprefix("train.")))
        used = "" if count is None else f", {count} usable examples"
        dropped = sum(counts.get("dropped", {}).get(name, {}).values())
        lines.append(f"- {name}: `{_short(config.path)}`{used}{f', {dropped} dropped' if dropped else ''}")
    return [*lines, ""]


def _licences(origin: Origin, licence: str | None) -> list[str]:
    lines = ["## Licences", "", f"- start model `{_short(origin.recipe.model.path)}`: {base_licence(origin.start)}"]
    for path in dict.fromkeys(config.path for config in _sets(origin.recipe).values()):
        lines.append(f"- data `{_short(path)}`: {SHIPPED_LICENCE if path.startswith('sparring:') else UNKNOWN}")
    lines += [f"- these weights: {licence or UNKNOWN}", ""]
    return [
        *lines,
        "Weights inherit obligations from the start model, the data and the oracle; check those not stated.",
        "",
    ]


def base_licence(start: Path) -> str:
    """The licence that the start model's own card states, or `UNKNOWN`."""
    card = start / "README.md"
    if not card.is_file():
        return UNKNOWN
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        meta = load_yaml(head.group(1)) if head else None
    except ValueError:
        return UNKNOWN
    return str(meta.get("license", UNKNOWN)) if isinstance(meta, dict) else UNKNOWN


def _export(export: dict[str, Any]) -> list[str]:
    return [
        "## Weights",
        "",
        f"{export['parameters']:,} parameters in {export['dtype']}, safetensors. SHA-256 over the tensors: "
        f"`{export['weights']}`; of the policy that was exported: `{export['source_weights']}`.",
        "",
    ]


def _sets(recipe: Recipe) -> dict[str, DatasetConfig]:
    return {**recipe.data.training_sets(), "held_out": recipe.data.held_out}


def _is_hub(config: DatasetConfig) -> bool:
    is_file = Path(config.path).suffix in (".jsonl", ".json", ".parquet", ".csv")
    return bool(HUB_NAME.fullmatch(config.path)) and not is_file


def _short(path: str) -> str:
    """A name as it is; of a path on some machine only the last part."""
    return Path(path).name if path.startswith(("/", "~", ".")) else path
