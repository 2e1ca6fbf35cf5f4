"""Write the figures of docs/gpu.md from docs/gpu.json; a file of `sparring bench gpu --json` becomes that first.

    python docs/make_gpu.py [runs/gpu.json]

A rehearsal changes nothing. Leaves out: measuring (`sparring bench gpu`, `make test-gpu`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tables import DOCS, table, write_section

PAGE, SCRIPT, DATA = "gpu.md", "make_gpu.py", DOCS / "gpu.json"
NOT_YET = "**Not run on a GPU yet.**"


def page_lines(found: Mapping[str, Any] | None) -> list[str]:
    """The section's lines; None: there are no figures yet."""
    if found is None:
        return [NOT_YET]
    machine = found["machine"]
    versions = {name: machine[name] for name in ("torch", "transformers", "python")} | found["versions"]
    lines = [
        f"Measured on one {machine['device']} with {found['memory'] / 1e9:.0f} GB, {machine['cores']} CPU cores; "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        + ".",
        "",
    ]
    rows = [
        [name, one["status"], f"{one['seconds']:.0f} s", "; ".join(filter(None, (one.get("why"), shown(one))))]
        for name, one in found["checks"].items()
    ]
    return [*lines, *table(["check", "result", "took", "figures"], rows, left=2)]


def shown(one: Mapping[str, Any]) -> str:
    """A check's figures in a line."""
    figures = one.get("figures", {})
    if "forms" in figures:
        return "; ".join(
            f"{row['form']}: {row['nats_per_token']:.1e} nats a token, gradient {row['gradient_difference']:.1e}, "
            f"{1e3 * row['seconds']:.0f} ms"
            for row in figures["forms"]
        )
    if "policies" in figures:
        return vllm_shown(figures)
    if "step_seconds" in figures:
        return fit_shown(figures)
    return ", ".join(f"{name.replace('_', ' ')} {plain(value)}" for name, value in figures.items())


def plain(value: Any) -> str:
    """A figure, or some by name."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {plain(one)}" for name, one in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def vllm_shown(figures: Mapping[str, Any]) -> str:
    """Two policies by one engine."""
    parts = []
    for one in figures["policies"]:
        same = "" if one["same_tokens"] is None else f", {one['same_tokens']:.0%} of greedy tokens the same"
        parts.append(
            f"first response after {one['first_response_seconds']:.1f} s, {one['tokens_per_second']:,.0f} tokens/s, "
            f"{one['serving_bytes'] / 1e9:.1f} GB serving and {one['resting_bytes'] / 1e9:.1f} at rest{same}"
        )
    return "; reloaded: ".join(parts)


def fit_shown(figures: Mapping[str, Any]) -> str:
    """A fit of ours or the peer's."""
    size = f"micro-batch {figures['micro_batch']} of {', '.join(figures['tried'])}, " if "tried" in figures else ""
    shares = [
        f", {figures[name]:.0%} of {what}"
        for name, what in (("share_of_peak", "the data sheet's peak"), ("share_of_measured_peak", "a product's rate"))
        if name in figures
    ]
    return (
        f"{size}{figures['step_seconds']:.2f} s a step, {figures['pair_tokens_per_second']:,.0f} pair tokens/s"
        f"{''.join(shares)}, peak {figures['peak_bytes'] / 1e9:.1f} GB, "
        f"{figures['bytes_per_token'] / 1e3:.0f} kB a token above the state"
    )


def main() -> None:
    """Take the file's figures over, unless they are a rehearsal's, and write the page."""
    if len(sys.argv) > 1:
        found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        if found["rehearsal"]:
            print(f"{sys.argv[1]} is a rehearsal on a CPU: docs/{PAGE} stays as it is.")
            return
        for one in found["checks"].values():
            one.pop("details", None)  # what a failed process printed names the folders of that machine
        DATA.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_section(PAGE, SCRIPT, page_lines(json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else None))


if __name__ == "__main__":
    main()
