"""Writes the tables of docs/systems/tree-search.md and its figure: search on solved positions against simulations.

python docs/make_tree_search.py
"""

from __future__ import annotations

from tables import DOCS, table, write_section

from sparring.certificates.claims.tree_search import COUNTS, GUIDES, POSITIONS, curve, positions
from sparring.certificates.panels import Curve, LogPanel
from sparring.certificates.plot import svg
from sparring.runtime.files import write_text

PAGE, SCRIPT = "systems/tree-search.md", "make_tree_search.py"


def main() -> None:
    """Search from all positions, and write."""
    chosen = positions(POSITIONS)
    results = {label: curve(errors, chosen, COUNTS) for label, errors in GUIDES.items()}
    head = [str(count) for count in COUNTS]
    errors, losses, curves = [], [], []
    for label, found in results.items():
        critic = GUIDES[label].critic
        shown = [f"{error:.3f}" for error in found.value_error]
        errors.append([label, f"{found.pruner_error:.3f}", f"{critic:g}", *shown, f"{max(found.excess(critic)):.2f}"])
        losses.append([label, *(f"{loss:.3f}" for loss in found.move_loss)])
        curves.append(Curve(label, COUNTS, [max(error, 1e-3) for error in found.value_error]))
    curves.append(Curve("moves / sqrt N, exact", COUNTS, [results["exact"].moves / n**0.5 for n in COUNTS]))
    write_section(PAGE, SCRIPT, table(["guide", "eps_pruner", "eps_critic", *head, "C"], errors), "errors")
    write_section(PAGE, SCRIPT, table(["guide", *head], losses), "losses")
    panel = LogPanel(f"Error of the root's value, {POSITIONS} positions", "simulations", "error", curves, log_x=True)
    write_text(DOCS / "pictures/tree-search.svg", svg([panel]))


if __name__ == "__main__":
    main()
