"""The model card of an exported policy: what it is, how it was made, what was measured, which licences it inherits.

Says "not stated" where a licence could not be found; it never guesses one. Leaves out: the weights (`export.py`).

    model_card("my-model", facts, {"dtype": "bfloat16", ...}, licence=None)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

import sparring
from sparring.recipe.recipe import Recipe
from sparring.recipe.sections import DatasetConfig

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
PRIVATE = {"trackers", "base_url", "key_env", "extra", "vllm"}
"""fields that a card does not show"""
UNKNOWN = "not stated"
SHIPPED_LICENCE = "Apache-2.0 (comes with Sparring)"


def model_card(name: str, facts: dict[str, Any], export: dict[str, Any], licence: str | None) -> str:
    """Markdown with the metadata block that the hub reads; `facts` is empty for a folder that no run made."""
    recipe: Recipe | None = facts.get("recipe")
    lines = [*_metadata(recipe, facts, licence), f"# {name}", ""]
    lines += (
        _made(recipe, facts) if recipe else ["Exported with Sparring; how it was trained is not recorded here.", ""]
    )
    lines += _use(name, recipe)
    if recipe is not None:
        lines += _results(facts.get("summary"))
        lines += _data(recipe, facts)
        lines += _licences(recipe, facts, licence)
    lines += _export(export)
    if recipe is not None:
        plain = yaml.safe_dump(public(recipe.resolved()), sort_keys=False, allow_unicode=True)
        lines += ["## Recipe", "", "Where it ran is left out.", "", "```yaml", plain.rstrip(), "```", ""]
    return "\n".join(lines)


def public(value: Any) -> Any:
    """A recipe without what is its owner's business: services, addresses, and folders above a file's name."""
    if isinstance(value, dict):
        return {name: public(part) for name, part in value.items() if name not in PRIVATE}
    if isinstance(value, list):
        return [public(part) for part in value]
    if isinstance(value, str) and value.startswith(("/", "~", "./", "../")):
        return Path(value).name
    return re.sub(r"://[^/\s@]*@", "://", value) if isinstance(value, str) else value


def _metadata(recipe: Recipe | None, facts: dict[str, Any], licence: str | None) -> list[str]:
    meta: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    meta["tags"] = ["sparring", "self-play", *([recipe.algorithm["name"]] if recipe else [])]
    if licence is not None or (recipe and base_licence(facts) != UNKNOWN):
        meta["license"] = licence or base_licence(facts)
    if recipe and HUB_NAME.fullmatch(recipe.model.path) and not Path(recipe.model.path).is_dir():
        meta["base_model"] = recipe.model.path
    hub_sets = [s.path for s in _sets(recipe).values() if _is_hub(s)] if recipe else []
    if hub_sets:
        meta["datasets"] = list(dict.fromkeys(hub_sets))
    return ["---", yaml.safe_dump(meta, sort_keys=False).rstrip(), "---", ""]


def _made(recipe: Recipe, facts: dict[str, Any]) -> list[str]:
    about = recipe.build_algorithm().about
    oracle = recipe.oracle["name"] if recipe.oracle and recipe.asks_oracle() else None
    judged = f" Preferences came from the oracle `{oracle}`." if oracle else " No oracle was asked in training."
    adapter = " It was trained as a LoRA adapter, merged here." if recipe.model.lora else ""
    system = recipe.model.system
    asked = f" Every prompt without a system message had this one; send it too: {system!r}." if system else ""
    return [
        f"`{_short(recipe.model.path)}` aligned by {facts['rounds']} rounds of {about.title} ({about.paper}) with "
        f"[Sparring](https://pypi.org/project/sparring/) {sparring.__version__}.{judged}{adapter}{asked}",
        "",
    ]


def _use(name: str, recipe: Recipe | None) -> list[str]:
    code = "" if recipe is None or not recipe.model.trust_remote_code else ", trust_remote_code=True"
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'model = AutoModelForCausalLM.from_pretrained("{name}"{code})',
        f'tokenizer = AutoTokenizer.from_pretrained("{name}"{code})',
        "```",
        "",
    ]


def _results(summary: dict[str, Any] | None) -> list[str]:
    if summary is None:
        return ["## Results", "", "This policy was not evaluated by its run.", ""]
    count = len(summary["samples"])
    lines = ["## Results", "", f"Against the start model on {count} held-out prompts, 95 % intervals over prompts.", ""]
    lines += ["| judgment | asked in training | win rate | interval | mean preference |", "|---|---|---|---|---|"]
    for judgment in summary["judgments"]:
        win, mean = judgment["win_rate"], judgment["mean_preference"]
        lines.append(
            f"| {judgment['name']} | {'yes' if judgment['seen_in_training'] else 'no'} | {win.value:.1%} | "
            f"{win.span('.1%')} | {mean.value:.3f} |"
        )
    if checks := summary["checks"]:
        lines.append(
            f"| rules that code checks ({checks['prompts']} prompts) | no | {checks['start'].value:.1%} to "
            f"{checks['final'].value:.1%} pass | {checks['difference'].scaled(100).span('+.1f')} points | |"
        )
    lines += ["", *(f"- Warning: {warning}" for warning in summary["warnings"])]
    return [*lines, ""] if summary["warnings"] else lines


def _data(recipe: Recipe, facts: dict[str, Any]) -> list[str]:
    counts = facts.get("data") or {}
    lines = ["## Data", ""]
    for name, config in _sets(recipe).items():
        used = f", {counts[name]} usable examples" if name in counts else ""
        dropped = sum(counts.get("dropped", {}).get(name, {}).values())
        lines.append(f"- {name}: `{_short(config.path)}`{used}{f', {dropped} dropped' if dropped else ''}")
    return [*lines, ""]


def _licences(recipe: Recipe, facts: dict[str, Any], licence: str | None) -> list[str]:
    lines = ["## Licences", "", f"- start model `{_short(recipe.model.path)}`: {base_licence(facts)}"]
    for config in {config.path: config for config in _sets(recipe).values()}.values():
        found = SHIPPED_LICENCE if config.path.startswith("sparring:") else UNKNOWN
        lines.append(f"- data `{_short(config.path)}`: {found}")
    lines.append(f"- these weights: {licence or UNKNOWN}")
    return [
        *lines,
        "",
        "Weights inherit obligations from the start model, the data and the oracle; check those not stated.",
        "",
    ]


def base_licence(facts: dict[str, Any]) -> str:
    """What the start model's own card says, or `UNKNOWN`."""
    card = Path(facts["start"]) / "README.md"
    if not card.is_file():
        return UNKNOWN
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        meta = yaml.safe_load(head.group(1)) if head else None
    except yaml.YAMLError:
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
    return {"train": recipe.data.train, "held_out": recipe.data.held_out}


def _is_hub(config: DatasetConfig) -> bool:
    known = Path(config.path).suffix in (".jsonl", ".json", ".parquet", ".csv")
    return bool(HUB_NAME.fullmatch(config.path)) and not known


def _short(path: str) -> str:
    """A name as it is; of a path on some machine only the last part."""
    return Path(path).name if path.startswith(("/", "~", ".")) else path
