"""The panel's criteria: signs of a good answer, each a small function of two texts.

Every score lies in [0, 1]. A criterion has a part that reads the text alone (`score`) and may have a part that reads
the sentence embedder's cosines (`evidence`); its value is their product. Every part saturates, so that more of a good
thing stops paying. Leaves out: truth. No criterion knows whether an answer is correct, and of a prompt's explicit
wishes they read only the length.

    CRITERIA["completeness"].score("Why is the sky blue?", "Because air scatters blue light.")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

VERSION = 1  # raise whenever a score can change: the panel's identity carries it


def either(*cues: str) -> re.Pattern[str]:
    """A pattern that finds any of the cues, whatever their case."""
    return re.compile("|".join(cues), re.I | re.M)


FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about above after again all also am an and any are as at be because been before being
        below between both but by can could did do does doing don down during each else even ever
        every few for from further get had has have having he her here hers him his how i if in into
        is it its itself just let like ll many may me might more most much must my need no nor not
        now of off on once one only or other our out over own re s same shall she should so some
        such t than that the their them then there these they this those through to too under until
        up upon us ve very was we were what when where which while who whom whose why will with
        within without would yes yet you your yours""",
    )
)
UNITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: value for value, word in enumerate(UNITS, 1)}
NUMBER = rf"\b(\d{{1,3}}|{'|'.join(UNITS)})"

# What the wording of a prompt says about the length of the answer (`demand`).
CODE = either(r"\b(code|python|sql|javascript|html|css|json|shell|regex|program)\b")
BARE = either(
    r"\b(one|single) word\b|yes or no|true or false|as a number|no other text",
    r"\bonly (the|a|yes|digits?|one)\b|\bjust (the|a) (number|word|name)\b",
    r"\bwith (a|the|only|just|digits?) ?\w* ?(number|digits?|only)\b",
)
MOST_WORDS = either(rf"\b(?:at most|no more than|exactly|under|up to|within|in) {NUMBER} words")
REWORDING = either(r"^\W*(re(write|phrase|word)|fix|correct|add punctuation|change|combine|join|replace)\b")
SHORT = either(
    r"\b(brief(ly)?|short|shorten|slogan|title|names? (for|of)|fact|joke|tweet|caption|headline)\b",
    r"\b(motto|haiku|riddle|tongue twister|sign|paraphrase|summari[sz]e|translate|comma)\b",
    r"\b(say|make|turn) this\b|\b(first|full|one|this) sentence\b",
    NUMBER + r"[ -](line|sentence)s?\b",
    r"\"[^\"]{20,}\"",
)
FACT = either(
    r"^\W*(how (many|much|old|far|tall)|which|who|when|where|name|at what|on what)\b",
    r"^\W*what (number|day|colou?r|kind)\b|\bhow (many|much|old) [^.?!]*\?$",
    r"^\W*what (is|are|was|do|does) (we|you|the (name|capital|opposite|plural|\w+est))\b",
    r"\d[^?]*\b(how long|what (is|time|day)|when|percent)\b",
)
LISTED = either(
    r"\b(list|bullet|bulleted|numbered|items|names)\b|\b(name|give me) (some|several|a few)\b",
    r"^(which|what) [^?]*\b(kinds|types|things|colou?rs|items)\b",
)
REUSING = either(  # the answer rightly holds the prompt's own phrases
    r"\b(lowercase|uppercase|capital letters|capitals|punctuation|spelling|grammar|rewrite)\b"
)

# What an answer shows (`ending`, `delivered`, `manner`).
FENCED = re.compile(r"```.*?(```|\Z)", re.S)
CLOSERS = "\"'”’»)]*_~` \n"
SIGNED = re.compile(
    r"([.!?]\s+(love|yours|best|warmly|with|your|sincerely|kind|regards|thanks)\b|,\n+\W*\w+)"
    r"[^.!?\n]{0,40}\Z",
    re.I,
)
LIST_ITEM = re.compile(r"^\s*(\d{1,2})[.)]\s*(.*)$", re.M)
PROMISE = either(
    rf"{NUMBER}\s+(?:\w+\s+){{0,2}}"
    r"(?:tips|ways|steps|uses|reasons|ideas|examples|things|benefits|facts|methods|rules)\b"
)
PREAMBLE = either(
    r"\A\W*(sure|certainly|absolutely|of course)(!|,? (here|i\b|let))|\A\W*(great|good) question",
    r"\A\W*i('d| would) be (happy|glad|delighted)|\A\W*i('m| am) (happy|glad|here|sorry|afraid)\b",
    r"\A\W*(i apologi[sz]e|thank you for|here (is|are)\b|here's\b|what an? \w+ (question|topic))",
    r"\A\W*(that|this)('s| is) an? [\w, -]{0,30}question\b",
    r"\bas an? (ai|assistant|language model)\b",
    r"\bsmollm|\bhugging ?face|\bi('m| am) (just )?an? (ai|assistant|bot)\b|\bhappy to help\b",
    r"\bi (cannot|can'?t|am unable to|don'?t have (access|the ability))\b|\bhere to help\b",
    r"\b(hope|trust) (this|that|it) helps\b|\blet me know if\b|\bfeel free to (ask|reach)\b",
)
STOCK = either(
    r"\bit('s| is) (important|essential|crucial|vital|worth) (to|not)",
    r"\bplays? an? (crucial|vital|key|significant|important) role\b",
    r"\bin (conclusion|summary|today's world)\b|\bone[- ]size[- ]fits[- ]all\b",
    r"\bthere are (many|several|numerous|various) (ways|things|factors|reasons|steps)\b",
    r"\ba (wide|broad) (range|variety) of\b|\bon (various|many|several) factors\b|\bsimple yet\b",
    r"\b(fascinating|multifaceted|tapestry|testament|game[- ]changer|delve|embark|great way to)\b",
    r"\bmany (things|factors) to consider\b|\beveryone is different\b|\btake your time\b",
    r"\bpatience and (practice|persistence)\b|\bvaries from person to person\b",
)
ROLES = either(
    r"<\|?\w+\|?>",
    r"^\s*(user|assistant|system|human|ai|bot|question|answer|q|a|input|output|response)\s*:",
)
DEBRIS = either(
    r"https?://|www\.|\.com\b|</?[a-z]+>|\\[a-z]+|[#*_=~|<>]{3,}|[{}\\^]|\[[^\]]{2,40}\]",
    r"[^\x00-\x7f‘’“”–—…°½¼£€·•×À-ÿ]",
)


@dataclass(frozen=True, slots=True)
class Demand:
    """How much text a prompt asks for, in words."""

    enough: int
    """From here on an answer is not too short."""
    most: int
    """From here on it grows too long."""
    own: int
    """Distinct content words of its own at which an answer is specific; 0 where none are needed."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the sentence embedder saw of one answer; cosines of embeddings lie in [-1, 1]."""

    similarity: float
    """Cosine of prompt and whole answer."""
    weakest_third: float
    """Smallest cosine of the prompt and a third of the answer: finds where it drifts off."""
    own_similarity: float
    """Cosine of the prompt and the answer's own content words, those the prompt does not hold."""
    cohesion: float
    """Smallest cosine of neighbouring thirds of the answer: finds where it changes the subject."""
    pieces: float
    """Vocabulary pieces per word: 1 for everyday words, more for rare and invented ones."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing a voter looks at."""

    score: Callable[[str, str], float]
    """Text part: prompt, answer -> [0, 1]."""
    scale: float
    """Difference of values at which the voter is 73 % sure; smaller is more decided."""
    about: str
    """One line for reports."""
    evidence: Callable[[Evidence], float] | None = None
    """Embedder part, multiplied with the text part."""


def ramp(x: float, low: float, high: float) -> float:
    """0 at `low`, 1 at `high`, linear between and flat outside; falls if high < low."""
    return min(1.0, max(0.0, (x - low) / (high - low)))


def words(text: str) -> list[str]:
    """Lower-case words; digits and fenced code are not words."""
    return re.findall(r"[^\W\d_]+", FENCED.sub(" ", text).lower())


def stem(word: str) -> str:
    """A crude stem, so that `boil`, `boils` and `boiling` count once."""
    for ending in ("ingly", "edly", "ing", "ies", "ed", "es", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def own_words(prompt: str, answer: str) -> list[str]:
    """The answer's distinct content words whose stem the prompt does not hold, in order."""
    seen = {stem(word) for word in words(prompt)}
    fresh = []
    for word in words(answer):
        if len(word) > 2 and word not in FUNCTION_WORDS and stem(word) not in seen:
            seen.add(stem(word))
            fresh.append(word)
    return fresh


def repeated(items: Sequence[Hashable]) -> float:
    """Share of `items` that were there before."""
    return 1 - len(set(items)) / len(items) if items else 0.0


def grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of `n` neighbouring tokens."""
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def demand(prompt: str) -> Demand:
    """How much text the prompt asks for, read from its wording."""
    if BARE.search(prompt):
        return Demand(enough=1, most=15, own=0)
    if limit := MOST_WORDS.search(prompt):
        most = NUMBERS.get(limit[1].lower()) or int(limit[1])
        own = 0 if REWORDING.search(prompt) else min(15, 1 + most // 4)
        return Demand(enough=min(25, (most + 1) // 2), most=most, own=own)
    if CODE.search(prompt):
        return Demand(enough=4, most=150, own=3)
    if REWORDING.search(prompt):
        return Demand(enough=5, most=60, own=0)
    if any(cue.search(prompt) for cue in (SHORT, FACT, LISTED)):
        return Demand(enough=7, most=60, own=4)
    return Demand(enough=25, most=150, own=15)


def body(prompt: str, answer: str) -> str:
    """The answer without what carries nothing: boilerplate, repeated and echoed sentences."""
    asked, seen, sentences = set(grams(words(prompt), 3)), set(), []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", answer):
        own = grams(words(sentence), 3)
        echo = bool(own) and not REUSING.search(prompt) and sum(g in asked for g in own) > 0.7 * len(own)
        if sentence.strip().lower() not in seen and not echo and not PREAMBLE.search(sentence):
            sentences.append(sentence)
        seen.add(sentence.strip().lower())
    return " ".join(sentences)


def own_phrases(prompt: str, answer: str) -> float:
    """1 when the answer's phrases are its own, falling to 0 when they are the prompt's.

    Rewards: not echoing; a prompt that quotes text may have much of it back. Gamed by:
    paraphrasing the prompt, which `richness` guards by counting fresh words.
    """
    if REUSING.search(prompt):
        return 1.0
    phrases, asked = grams(words(answer), 3), set(grams(words(prompt), 3))
    free, all_copied = (0.6, 1.0) if '"' in prompt else (0.2, 0.6)
    return ramp(sum(gram in asked for gram in phrases) / len(phrases), all_copied, free) if phrases else 1.0


def on_topic(seen: Evidence) -> float:
    """Closeness to the prompt, of the whole and of its most distant third; both saturate.

    Gamed by: naming the topic in every sentence, which `own_phrases` and `smoothness` guard.
    """
    return 0.6 * ramp(seen.similarity, 0.2, 0.65) + 0.4 * ramp(seen.weakest_third, 0.03, 0.4)


def richness(prompt: str, answer: str) -> float:
    """How many different content words the answer brings, up to what the prompt asks for.

    Rewards: details. Gamed by: keyword lists (`smoothness` wants function words), rambling (it
    saturates and `completeness` wants an end), words off the topic (`own_topic`).
    """
    wanted = demand(prompt).own
    own, tokens = len(own_words(prompt, answer)), words(answer)
    if wanted > 4:  # a heap of keywords counts for no more than the prose it would need
        own = min(own, 1.5 * sum(word in FUNCTION_WORDS for word in tokens))
    return ramp(own, 0, wanted) if wanted else 1.0


def own_topic(seen: Evidence) -> float:
    """Whether the answer's own words belong to the prompt's topic; words for any occasion do not.

    Gamed by: synonyms of the prompt, which is why it saturates at a cosine of 0.4.
    """
    return ramp(seen.own_similarity, 0.08, 0.4)


def prose(prompt: str, tokens: Sequence[str]) -> float:
    """1 where function words have the share that sentences have; lists and code need none."""
    if len(tokens) <= 15 or CODE.search(prompt) or LISTED.search(prompt):
        return 1.0
    share = sum(word in FUNCTION_WORDS for word in tokens) / len(tokens)
    return min(ramp(share, 0.12, 0.28), ramp(share, 0.8, 0.65))


def smoothness(prompt: str, answer: str) -> float:
    """Sentences, and no repetition of phrases, sentences or words.

    Rewards: text that moves on. Gamed by: fluent nonsense, which `on_topic` guards; a few words,
    which can hardly repeat, hence the share of a short body.
    """
    tokens = words(answer)
    lines = [line.strip().lower() for line in re.split(r"[.!?\n]+", answer) if len(line.split()) > 2]
    content = [stem(word) for word in tokens if word not in FUNCTION_WORDS]
    stutter = sum(a == b for a, b in pairwise(tokens))
    loops = 3 * repeated(grams(tokens, 3)) + repeated(lines) + 0.5 * repeated(content) + 0.2 * stutter
    filled = ramp(len(body(prompt, answer).split()), 0, min(12, demand(prompt).enough))
    return filled * prose(prompt, tokens) * ramp(loops, 1.1, 0.35)


def sense(seen: Evidence) -> float:
    """Words that exist, in parts that belong together; both saturate, to leave room for terms.

    Gamed by: plain words and one subject, which is no loss; one sentence said again in other
    words, which `own_words` counts and does not reward.
    """
    return ramp(seen.pieces, 1.3, 1.08) * ramp(seen.cohesion, 0.0, 0.3)


def addressed(seen: Evidence) -> float:
    """A complete answer answers this prompt: near 0 for a text about something else."""
    return 0.1 + 0.9 * ramp(seen.similarity, 0.05, 0.3)


def completeness(prompt: str, answer: str) -> float:
    """The answer has a body and an end: no stub, not cut off, promised items delivered.

    Rewards: stopping in time. Gamed by: one short sentence (the length ramp, `richness`), a full
    stop after anything (`on_topic`, `smoothness`).
    """
    asked, text = demand(prompt), body(prompt, answer)
    count = len(text.split())
    apt = ramp(count, 0, asked.enough) * (0.3 + 0.7 * ramp(count, 3 * asked.most, asked.most))
    return apt * prose(prompt, words(text)) * ending(prompt, answer) * delivered(prompt, answer)


def ending(prompt: str, answer: str) -> float:
    """1 for a finished end, 0.1 for a broken one; short texts need no full stop."""
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()] or [""]
    last = lines[-1].rstrip(CLOSERS)
    if answer.count("```") % 2 or (len(lines) > 1 and re.fullmatch(r"\W*\d+[.)]?", last)):
        return 0.1
    if last.endswith((".", "!", "?", "…")) or lines[-1] == "```" or SIGNED.search(answer.strip()):
        return 1.0
    terse = demand(prompt).own < 10 and len(answer.split()) < 45 and len(last.split()) <= 12
    return 1.0 if terse and not last.endswith((",", ":")) else 0.1


def delivered(prompt: str, answer: str) -> float:
    """Share of the promised numbered list ("three tips", "5 ways") that is there; 1 without one."""
    items = [(int(number), text) for number, text in LIST_ITEM.findall(answer)]
    promise = PROMISE.search(prompt) or PROMISE.search(answer)
    if not items or not promise:
        return 1.0
    wanted = NUMBERS.get(promise[1].lower()) or int(promise[1])
    return ramp(len({number for number, text in items if len(text.split()) > 1}), 0, max(1, wanted))


def manner(prompt: str, answer: str) -> float:
    """Straight to the point and clean: no preamble, self-reference, stock phrases or debris.

    Rewards: absence. Gamed by: saying little, which `completeness` and `richness` guard.
    """
    if not answer.strip():
        return 0.0
    faults = 2 * min(2, len(PREAMBLE.findall(answer))) + min(3, len(STOCK.findall(answer)))
    if not CODE.search(prompt):
        faults += 2 * min(2, len(ROLES.findall(answer))) + min(3, len(DEBRIS.findall(answer)))
    return 1 / (1 + 0.5 * (faults + answer.count("```") % 2))


CRITERIA: dict[str, Criterion] = {
    "relevance": Criterion(own_phrases, 0.08, "stays on the topic, in its own phrases", on_topic),
    "specificity": Criterion(richness, 0.08, "brings content words that the topic calls for", own_topic),
    "fluency": Criterion(smoothness, 0.08, "no loops, no invented words, one subject", sense),
    "completeness": Criterion(completeness, 0.15, "a whole answer to this prompt: long enough, not cut off", addressed),
    "manner": Criterion(manner, 0.12, "no preamble, self-reference, stock phrases or debris"),
}
