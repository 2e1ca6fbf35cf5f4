"""Claims on the exact updates of regularised methods: INPO, RSPO, MPO, MNPO, Nash-MD, EGPO, COMAL.

Each value is computed through the algorithm's own `exact_step`; that its loss gives the same policies is F1
(`claims_fit.py`). Predicted values come from two solvers written independently of this library. Bounds alone would
prove little: at small T some exceed the largest possible KL, so values and slopes stand beside them.

    [claim.measured for claim in i2(Effort())]
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import numpy as np

from sparring.certificates.certify import build_for_game, play
from sparring.certificates.claim import (
    TAU,
    Check,
    Checks,
    Claim,
    Effort,
    exact,
    g3,
    nash_target,
    number,
    regularised_target,
    slope,
    tabulated,
)
from sparring.games.dynamics import comal_exact, inpo, log_normalise, mmd, trajectory

OURS = "derived"
TENS = (10, 100, 1000)


def i2(effort: Effort) -> Iterable[Claim]:
    """INPO's Theorem 4."""
    path = exact("inpo", 1000, schedule="theorem", kl_to_reference=TAU).kl_from(regularised_target())
    bounded = all(path[t] <= 32 / (TAU**2 * (t + 1)) for t in range(1, 1001))
    values = [(f"T={t}", text, path[t]) for t, text in zip(TENS, (".0769", "4.35e-5", "5.2e-9"), strict=True)]
    title = "last iterate of the schedule eta_t = tau (t + 2) / 2: KL(pi*, pi_T) on G3, tau .1"
    note = "at small T the bound exceeds the largest KL there is (2.04)"
    bound = "bound 32 C^2/(tau^2 (T+1)) at every T"
    yield tabulated("I2", "inpo", title, "2407.00617, Thm 4", values, bounded, bound, note)
    fitted = slope([100, 1000], path[[100, 1000]])
    shown = f"log-log slope {fitted:.2f} over T = 100..1000"
    yield Claim("I2 slope", "inpo", "falls at least as 1/T", "2407.00617, Thm 4", "slope <= -1", shown, fitted <= -1)


def spectral_radius() -> float:
    """s of G3 at its regularised Nash: the modulus of the linearised win rates."""
    p = regularised_target()[0]
    return float(np.abs(np.linalg.eigvals(g3().preference[0] @ (np.diag(p) - np.outer(p, p)))).max())


def i4(effort: Effort) -> Iterable[Claim]:
    """INPO with a fixed step."""
    s, values = spectral_radius(), []
    for eta, text, last in ((0.3, ".92750", 300), (1.0, ".85348", 150), (5.0, ".96215", 300)):
        path = exact("inpo", last, eta=eta, tau=TAU).kl_from(regularised_target())
        rounds = np.arange(last // 3, last)
        ratio = math.exp(np.polyfit(rounds, np.log(path[rounds]), 1)[0])
        values.append((eta, text, ratio, (1 - TAU / eta) ** 2 + (s / eta) ** 2))
    close = all(
        abs(ratio - predicted) < 2e-5 and abs(ratio - float(text)) < 2e-5 for _, text, ratio, predicted in values
    )
    predicted = ", ".join(f"eta {eta}: {rho:.5f}" for eta, _, _, rho in values)
    measured = ", ".join(f"eta {eta}: {ratio:.5f}" for eta, _, ratio, _ in values)
    claim = "fixed eta: KL shrinks per round by (1 - tau/eta)^2 + (s/eta)^2; G3, tau .1"
    yield Claim("I4", "inpo", claim, OURS, predicted, measured, close, f"s = {s:.6f}; ratio fitted over rounds")
    path = exact("inpo", 1000, eta=0.25, tau=TAU).kl_from(regularised_target())[20:]
    threshold = (TAU**2 + s**2) / (2 * TAU)
    shown = f"KL stays in {number(path.min())} to {number(path.max())} over rounds 20..1000"
    holds = bool(path.min() > 0.05 and path.max() < 0.08)
    claim = "below eta = (tau^2 + s^2)/(2 tau) the policy cycles; G3, tau .1, eta .25"
    yield Claim("I4 cycle", "inpo", claim, OURS, f"threshold {threshold:.5f}; KL .05 to .08", shown, holds)


def i5(effort: Effort) -> Iterable[Claim]:
    """INPO at the authors' step."""
    run = exact("inpo", 9, step_size=200.0, kl_to_reference=0.005 / 3)
    jumps = "".join("abc"[k] for k in run.policies[1:, 0].argmax(axis=-1))
    pure = bool(run.policies[1:].max(axis=-1).min() > 0.99)
    claim = "the authors' eta .005, solved exactly, jumps between pure policies on G3"
    note = "published settings work because one epoch stays far from the exact solution"
    yield Claim("I5", "inpo", claim, OURS, "bccaabbcc", jumps, jumps == "bccaabbcc" and pure, note)


def r1(name: str, effort: Effort) -> Iterable[Claim]:
    """Magnetic mirror descent, which exact RSPO and one magnet period of MPO are."""
    values, bounded = [], True
    for step, text in ((0.1, ".9808"), (0.4, ".9310")):
        settings = {"c": TAU * step / 2} if name == "rspo" else {"tau": TAU, "M": 1000}
        run = play(build_for_game(name, {"eta": step, **settings}), g3(), "exact", 1000)
        path = run.kl_from(regularised_target())
        decay = (1 + step * TAU) ** -np.arange(len(path), dtype=float)
        bounded &= bool((path <= path[0] * decay + 1e-15).all())
        values.append((f"step {step}", text, (path[300] / path[100]) ** (1 / 200)))
    claim = "magnetic mirror descent: KL ratio per round, G3, tau .1"
    note = "the exact dynamics; RSPO's own loss misses them, see R3" if name == "rspo" else ""
    bound = "bound (1 + eta tau)^-t at every t"
    yield tabulated("R1", name, claim, "2503.00030, 2410.16714; bound from memory", values, bounded, bound, note)


def r2(effort: Effort) -> Iterable[Claim]:
    """INPO and magnetic mirror descent are one map."""
    rng, worst = np.random.default_rng(effort.seed), 0.0
    for _ in range(50):
        start, step = log_normalise(rng.normal(size=(1, 3))), float(rng.uniform(0.05, 5))
        ours = mmd(g3().preference, start, g3().log_reference, step, TAU)
        other = inpo(g3().preference, start, g3().log_reference, 1 / (1 / step + TAU), TAU)
        worst = max(worst, float(np.abs(ours - other).max()))
    claim = "INPO with eta = 1/step + tau is magnetic mirror descent: largest difference of log-policies"
    yield Claim("R2", "mpo", claim, OURS, "0", number(worst), worst < 1e-12, "50 random policies and steps")


def n1(effort: Effort) -> Iterable[Claim]:
    """Nash-MD with the falling step."""
    path = exact("nash_md", 1000, schedule="theorem", tau=TAU).kl_from(regularised_target())
    values = [(f"T={t}", text, path[t]) for t, text in zip(TENS, ("1.35e-3", "7.5e-5", "5.4e-7"), strict=True)]
    bounded = all(path[t] <= 8 / (TAU**2 * (t + 1)) for t in range(1, 1001))
    title, bound = "step 2/(tau (t + 2)): KL(pi*, pi_T), G3, tau .1", "bound 8/(tau^2 (T+1)) at every T"
    yield tabulated("N1", "nash_md", title, "2312.00886; bound from memory", values, bounded, bound)
    fitted = slope([100, 1000], path[[100, 1000]])
    shown = f"log-log slope {fitted:.2f} over T = 100..1000"
    yield Claim("N1 slope", "nash_md", "falls at least as 1/T", "2312.00886", "slope <= -1", shown, fitted <= -1)


def n2(effort: Effort) -> Iterable[Claim]:
    """Nash-MD with a fixed step."""
    values = []
    for step, text in ((0.3, "1.1e-4"), (1, "1.4e-3"), (2, "6.5e-3")):
        path = exact("nash_md", 1000, eta=step, tau=TAU).kl_from(regularised_target())
        values.append((f"step {step}", text, path[-1]))
    claim = "a fixed step converges to a biased point: limit of KL(pi*, pi_T), G3, tau .1"
    yield tabulated("N2", "nash_md", claim, OURS, values)


def mnpo_limit(effort: Effort) -> Iterable[Claim]:
    """A history with weights keeps INPO's fixed point."""
    ends = {step: exact("mnpo", 600, step_size=step).kl_from(regularised_target())[-1] for step in (0.2, 1.0)}
    shown = ", ".join(f"step {step}: {number(end)}" for step, end in ends.items())
    claim = "the weighted history keeps the fixed point: KL(pi*, pi_600), G3, tau .1, weights .7 and .3"
    yield Claim("T1", "mnpo", claim, OURS, "0", shown, bool(max(ends.values()) < 1e-8))


def e1(effort: Effort) -> Iterable[Claim]:
    """EGPO's linear rate."""
    values, bounded = [], True
    for step, text in ((0.3, ".937"), (0.5, ".892")):
        path = exact("egpo", 200, eta=step, beta=TAU).kl_from(regularised_target())
        ratio = (path[200] / path[100]) ** 0.01
        bounded &= bool(ratio <= 1 - step * TAU)
        values.append((f"step {step}", text, ratio))
    claim = "last iterate: KL ratio per round, G3, beta .1"
    yield tabulated("E1", "egpo", claim, "2503.08942", values, bounded, "bound 1 - eta beta")


def c1(effort: Effort) -> Iterable[Claim]:
    """COMAL's outer steps."""
    falls, counts = True, []
    for tau, text in ((0.1, "18"), (0.5, "183")):
        run = trajectory(lambda game, past, tau=tau: comal_exact(game.preference, past[-1], tau), g3(), 200)
        falls &= bool((np.diff(run.kl_from(nash_target())) <= 1e-15).all())
        counts.append((f"tau {tau}", text, float(np.argmax(run.gaps() < 1e-7))))
    claim = "KL(Nash, ref_k) never rises over 200 outer steps; G3, tau .1 and .5"
    yield Claim("C1", "comal", claim, "2410.23223", "monotone", "monotone" if falls else "rises", falls)
    title = "outer steps until the unregularised gap is below 1e-7; G3, inner game solved exactly"
    yield tabulated("C2", "comal", title, "2410.23223", counts, note="finite, and grows with tau")
    run = exact("comal", 3000, eta=1.0, tau=TAU, M=100)
    fixed = exact("inpo", 3000, eta=1.0, tau=TAU)
    shown = f"COMAL {number(run.gaps()[-1])}, INPO {number(fixed.gaps()[-1])}"
    holds = bool(run.gaps()[-1] < 1e-9 and fixed.gaps()[-1] > 0.05)
    title = "reaches the Nash policy where INPO's last iterate stays biased: gap after 3000 rounds, period 100"
    yield Claim("C3", "comal", title, "2410.23223", "COMAL -> 0, INPO > .05", shown, holds)


CHECKS: Checks = {
    "inpo": (Check(i2), Check(i4), Check(i5)),
    "rspo": (Check(partial(r1, "rspo")),),
    "mpo": (Check(partial(r1, "mpo")), Check(r2)),
    "nash_md": (Check(n1), Check(n2)),
    "mnpo": (Check(mnpo_limit),),
    "egpo": (Check(e1),),
    "comal": (Check(c1),),
}
