"""Claims on the exact updates of regularised methods: INPO, RSPO, MPO, MNPO, Nash-MD, EGPO, COMAL.

Each value is computed through the algorithm's own `exact_step`; that its loss gives the same policies is the claim
`fit_is_closed_form` (`fits.py`). Predicted values come from two solvers written independently of this library. Bounds
alone would prove little: at small T some exceed the largest possible KL, so values and slopes stand beside them.

    [claim.measured for claim in inpo_theorem_4(Effort())]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from sparring.certificates.claims.claim import (
    TAU,
    Check,
    Checks,
    Claim,
    Effort,
    exact,
    g3,
    kl_path,
    nash_target,
    number,
    over_seeds,
    regularised_target,
    slope,
    tabulated,
    vanishes,
)
from sparring.games.dynamics import comal_exact, inpo, mmd
from sparring.games.game import Array
from sparring.games.probabilities import log_normalise
from sparring.games.trajectory import trajectory


def inpo_theorem_4(effort: Effort) -> Iterable[Claim]:
    """INPO's last iterate with the theorem's schedule."""
    title = "last iterate of the schedule eta_t = tau (t + 2) / 2: KL(pi*, pi_T) on G3, tau .1"
    note = "at small T the bound exceeds the largest KL there is (2.04)"
    path = kl_path("inpo", 1000, schedule="theorem", kl_to_reference=TAU)
    source = "2407.00617, Thm 4"
    values, bound = _at_tens(path, (".0769", "4.35e-5", "5.2e-9")), "bound 32 C^2/(tau^2 (T+1)) at every T"
    yield tabulated("inpo_theorem_4", title, source, values, _below(path, 32), bound, note)
    yield _falls_as_1_over_t("inpo_theorem_4_slope", path, source)


def nash_md_falling_step(effort: Effort) -> Iterable[Claim]:
    """Nash-MD's last iterate with the falling step."""
    path = kl_path("nash_md", 1000, schedule="theorem", tau=TAU)
    title, source = "step 2/(tau (t + 2)): KL(pi*, pi_T), G3, tau .1", "2312.00886; bound from memory"
    values, bound = _at_tens(path, ("1.35e-3", "7.5e-5", "5.4e-7")), "bound 8/(tau^2 (T+1)) at every T"
    yield tabulated("nash_md_falling_step", title, source, values, _below(path, 8), bound)
    yield _falls_as_1_over_t("nash_md_falling_step_slope", path, "2312.00886")


def _at_tens(path: Array, texts: Sequence[str]) -> list[tuple[str, str, float]]:
    """Predicted and measured values of rounds 10, 100 and 1000."""
    return [(f"T={t}", text, path[t]) for t, text in zip((10, 100, 1000), texts, strict=True)]


def _below(path: Array, factor: float) -> bool:
    """Whether the path is at most factor / (tau^2 (T + 1)) at every T."""
    rounds = np.arange(1, len(path))
    return bool((path[1:] <= factor / (TAU**2 * (rounds + 1))).all())


def _falls_as_1_over_t(name: str, path: Array, source: str) -> Claim:
    fitted = slope([100, 1000], path[[100, 1000]])
    shown = f"log-log slope {fitted:.2f} over T = 100..1000"
    return Claim(name, "falls at least as 1/T", source, "slope <= -1", shown, fitted <= -1)


def spectral_radius() -> float:
    """s of G3 at its regularised Nash policy p: the largest modulus of an eigenvalue of P (diag p - p p^T)."""
    p = regularised_target()[0]
    return float(np.abs(np.linalg.eigvals(g3().preference[0] @ (np.diag(p) - np.outer(p, p)))).max())


def inpo_fixed_step(effort: Effort) -> Iterable[Claim]:
    """INPO with a fixed eta: the rate of convergence, and the cycle below the threshold."""
    s, rates = spectral_radius(), []
    for eta, text, last in ((0.3, ".92750", 300), (1.0, ".85348", 150), (5.0, ".96215", 300)):
        path = kl_path("inpo", last, eta=eta, tau=TAU)
        rounds = np.arange(last // 3, last)
        ratio = math.exp(np.polyfit(rounds, np.log(path[rounds]), 1)[0])
        rates.append((eta, text, ratio, (1 - TAU / eta) ** 2 + (s / eta) ** 2))
    close = all(abs(ratio - rate) < 2e-5 and abs(ratio - float(text)) < 2e-5 for _, text, ratio, rate in rates)
    predicted = ", ".join(f"eta {eta}: {rate:.5f}" for eta, _, _, rate in rates)
    measured = ", ".join(f"eta {eta}: {ratio:.5f}" for eta, _, ratio, _ in rates)
    claim = "fixed eta: KL shrinks per round by (1 - tau/eta)^2 + (s/eta)^2; G3, tau .1"
    note = f"s = {s:.6f}; ratio fitted over rounds"
    yield Claim("inpo_fixed_step_rate", claim, "derived", predicted, measured, close, note)
    path = kl_path("inpo", 1000, eta=0.25, tau=TAU)[20:]
    threshold = (TAU**2 + s**2) / (2 * TAU)
    shown = f"KL stays in {number(path.min())} to {number(path.max())} over rounds 20..1000"
    holds = bool(path.min() > 0.05 and path.max() < 0.08)
    claim = "below eta = (tau^2 + s^2)/(2 tau) the policy cycles; G3, tau .1, eta .25"
    predicted = f"threshold {threshold:.5f}; KL .05 to .08"
    yield Claim("inpo_fixed_step_cycle", claim, "derived", predicted, shown, holds)


def inpo_published_step(effort: Effort) -> Iterable[Claim]:
    """INPO at the step of the authors' script."""
    run = exact("inpo", 9, step_size=200.0, kl_to_reference=0.005 / 3)
    jumps = "".join("abc"[k] for k in run.policies[1:, 0].argmax(axis=-1))
    pure = bool(run.policies[1:].max(axis=-1).min() > 0.99)
    claim = "the authors' eta .005, solved exactly, jumps between pure policies on G3"
    note = "published settings work because one epoch stays far from the exact solution"
    holds = jumps == "bccaabbcc" and pure
    yield Claim("inpo_published_step_jumps", claim, "derived", "bccaabbcc", jumps, holds, note)


def nash_md_fixed_step(effort: Effort) -> Iterable[Claim]:
    """Nash-MD with a fixed step stays away from the equilibrium."""
    rows = ((0.3, "1.1e-4"), (1, "1.4e-3"), (2, "6.5e-3"))
    values = [(f"step {step}", text, kl_path("nash_md", 1000, eta=step, tau=TAU)[-1]) for step, text in rows]
    claim = "a fixed step converges to a biased point: limit of KL(pi*, pi_T), G3, tau .1"
    yield tabulated("nash_md_fixed_step_bias", claim, "derived", values)


def mnpo_fixed_point(effort: Effort) -> Iterable[Claim]:
    """MNPO's weighted history keeps INPO's fixed point."""
    ends = {step: kl_path("mnpo", 600, step_size=step)[-1] for step in (0.2, 1.0)}
    shown = ", ".join(f"step {step}: {number(end)}" for step, end in ends.items())
    claim = "the weighted history keeps the fixed point: KL(pi*, pi_600), G3, tau .1, weights .7 and .3"
    yield Claim("mnpo_fixed_point", claim, "derived", "0", shown, bool(max(ends.values()) < 1e-8))


def egpo_linear_rate(effort: Effort) -> Iterable[Claim]:
    """EGPO's last iterate."""
    values, bounded = [], True
    for step, text in ((0.3, ".937"), (0.5, ".892")):
        path = kl_path("egpo", 200, eta=step, beta=TAU)
        ratio = (path[200] / path[100]) ** 0.01
        bounded &= bool(ratio <= 1 - step * TAU)
        values.append((f"step {step}", text, ratio))
    claim = "last iterate: KL ratio per round, G3, beta .1"
    yield tabulated("egpo_linear_rate", claim, "2503.08942", values, bounded, "bound 1 - eta beta")


def magnetic_rate(name: str, effort: Effort) -> Iterable[Claim]:
    """Magnetic mirror descent is exact RSPO, and MPO within one period of its magnet."""
    values, bounded = [], True
    for step, text in ((0.1, ".9808"), (0.4, ".9310")):
        settings = {"c": TAU * step / 2} if name == "rspo" else {"tau": TAU, "M": 1000}
        path = kl_path(name, 1000, eta=step, **settings)
        decay = (1 + step * TAU) ** -np.arange(len(path), dtype=float)
        bounded &= bool((path <= path[0] * decay + 1e-15).all())
        values.append((f"step {step}", text, (path[300] / path[100]) ** (1 / 200)))
    claim = "magnetic mirror descent: KL ratio per round, G3, tau .1"
    note = "the exact dynamics; RSPO's own loss misses them, see rspo_loss_is_mirror_descent" if name == "rspo" else ""
    source, bound = "2503.00030, 2410.16714; bound from memory", "bound (1 + eta tau)^-t at every t"
    yield tabulated("magnetic_mirror_descent_rate", claim, source, values, bounded, bound, note)


@over_seeds(50)
def inpo_is_magnetic(effort: Effort) -> Iterable[Claim]:
    """INPO and magnetic mirror descent are one map."""
    rng, worst = np.random.default_rng(effort.seed), 0.0
    for _ in range(50):
        start, step = log_normalise(rng.normal(size=(1, 3))), float(rng.uniform(0.05, 5))
        magnetic = mmd(g3().preference, start, g3().log_reference, step, TAU)
        mirror = inpo(g3().preference, start, g3().log_reference, 1 / (1 / step + TAU), TAU)
        worst = max(worst, float(np.abs(magnetic - mirror).max()))
    claim = "INPO with eta = 1/step + tau is magnetic mirror descent: largest difference of log-policies"
    yield vanishes("inpo_is_magnetic_mirror_descent", claim, worst, 1e-12, "50 random policies and steps")


def comal_outer_steps(effort: Effort) -> Iterable[Claim]:
    """COMAL's moving reference reaches the Nash policy of the plain game."""
    falls, counts = True, []
    for tau, text in ((0.1, "18"), (0.5, "183")):
        run = trajectory(lambda game, past, tau=tau: comal_exact(game.preference, past[-1], tau), g3(), 200)
        falls &= bool((np.diff(run.kl_from(nash_target())) <= 1e-15).all())
        counts.append((f"tau {tau}", text, float(np.argmax(run.gaps() < 1e-7))))
    source, shown = "2410.23223", "monotone" if falls else "rises"
    claim = "KL(Nash, ref_k) never rises over 200 outer steps; G3, tau .1 and .5"
    yield Claim("comal_kl_never_rises", claim, source, "monotone", shown, falls)
    title = "outer steps until the unregularised gap is below 1e-7; G3, inner game solved exactly"
    yield tabulated("comal_outer_steps", title, source, counts, note="finite, and grows with tau")
    moving = exact("comal", 3000, eta=1.0, tau=TAU, M=100).gaps()[-1]
    fixed = exact("inpo", 3000, eta=1.0, tau=TAU).gaps()[-1]
    shown, holds = f"COMAL {number(moving)}, INPO {number(fixed)}", bool(moving < 1e-9 and fixed > 0.05)
    title = "reaches the Nash policy where INPO's last iterate stays biased: gap after 3000 rounds, period 100"
    yield Claim("comal_reaches_nash", title, source, "COMAL -> 0, INPO > .05", shown, holds)


CHECKS: Checks = {
    "inpo": (Check(inpo_theorem_4), Check(inpo_fixed_step), Check(inpo_published_step)),
    "rspo": (Check(partial(magnetic_rate, "rspo")),),
    "mpo": (Check(partial(magnetic_rate, "mpo")), Check(inpo_is_magnetic)),
    "nash_md": (Check(nash_md_falling_step), Check(nash_md_fixed_step)),
    "mnpo": (Check(mnpo_fixed_point),),
    "egpo": (Check(egpo_linear_rate),),
    "comal": (Check(comal_outer_steps),),
}
