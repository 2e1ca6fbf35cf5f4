"""Bad input: an error that names field, value and remedy, before work starts, with nothing half-written."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import LlamaForSequenceClassification, PreTrainedModel

import oracle_fakes
from command import Outcome, sparring
from conftest import byte_tokenizer, tiny_llama, write_jsonl
from model_zoo import config, folder_of, tiny
from sparring.recipe.reading import load_recipe, parse_recipe
from sparring.rounds.policies import Policies
from sparring.rounds.run import check, run
from sparring.runtime.errors import OracleError
from sparring.runtime.files import read_table
from sparring.runtime.progress import Progress
from sparring.sampling.transformers_engine import TransformersEngine

Plain = dict[str, Any]
GONE = object()


def changed(recipe: Plain, **fields: Any) -> Plain:
    """The recipe with `a__b=value` set, or removed when the value is GONE."""
    plain = copy.deepcopy(recipe)
    for key, value in fields.items():
        *parents, last = key.split("__")
        section = plain
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is GONE:
            section.pop(last)
        else:
            section[last] = value
    return plain


def go(plain: Plain, out: Path) -> dict[str, Any]:
    return run(parse_recipe(plain), out, Progress(quiet=True))


def command(plain: Plain, folder: Path, *words: str) -> Outcome:
    """`sparring run` of the recipe, into folder/run."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain))
    return sparring("run", path, "--out", folder / "run", *words)


def untouched(out: Path) -> bool:
    """No stage has run, and nothing is half-written."""
    return not out.exists() or {path.name for path in out.rglob("*")} <= {"run.lock", "recipe.yaml"}


def half_written(out: Path) -> list[Path]:
    """Partial files that are not shards or checkpoints kept for the resume."""
    kept = [p for p in out.rglob("*.partial") if p.is_dir() and p.name != "policy.partial"]
    partial = [p for p in out.rglob("*") if "partial" in p.name and p not in kept]
    return [p for p in partial if p.parent not in kept or p.name.startswith(".")]


# ---- the recipe ----------------------------------------------------------------------------------

SPIN, SPAC = {"name": "spin"}, {"name": "spac"}
RECIPES: list[tuple[Plain, str]] = [
    # unknown and misspelt keys
    ({"samplng": {}}, r"samplng: unknown key\. Did you mean 'sampling'\?"),
    ({"fit__learning_rat": 1}, r"fit\.learning_rat: unknown key\. Did you mean 'learning_rate'\?"),
    ({"fit__tripwires__repetitions": 1}, r"fit\.tripwires\.repetitions: .* 'repetition'\?"),
    ({"model__lora": {"rnk": 4}}, r"model\.lora\.rnk: unknown key\. Did you mean 'rank'\?"),
    (
        {"data__train__sets": {"a": {"path": "a.jsonl"}, "b": {"path": "b.jsonl"}}},
        r"data\.train\.path: it does not go with the keys beside it\. Leave it out, or those of the other form\.",
    ),
    ({"data__train__colums": {}}, r"data\.train\.colums: unknown key\. Did you mean 'columns'\?"),
    ({"data__train__columns__chosn": "c"}, r"data\.train\.columns\.chosn: .* 'chosen'\?"),
    (
        {"algorithm__step_sise": 2},
        r"algorithm\.step_sise: unknown key\. Did you mean 'step_size'\?",
    ),
    (
        {"algorithm__name": "inop"},
        r"algorithm\.name: unknown algorithm 'inop'\. Did you mean 'inpo'\?",
    ),
    ({"algorithm__name": "no_module:X"}, r"algorithm\.name: cannot import 'no_module:X'"),
    ({"zzzz": 1}, r"zzzz: unknown key\. Allowed: model, data, algorithm"),
    # wrong types
    ({"rounds": "three"}, r"rounds = 'three': .*valid integer"),
    ({"algorithm": "inpo"}, r"algorithm = 'inpo': give a section: \{name: inpo\}"),
    ({"model__path": 5}, r"model\.path = 5: .*valid string"),
    ({"fit__learning_rate": "fast"}, r"fit\.learning_rate = 'fast': .*valid number"),
    ({"algorithm__samples": "many"}, r"algorithm\.samples = 'many': .*valid integer"),
    ({"sampling": 3}, r"sampling = 3: "),
    ({"fit__schedule": "sine"}, r"fit\.schedule = 'sine': .*'cosine'"),
    ({"keep_iterates": "al"}, r"problems:\n  keep_iterates = 'al': input should be a valid integer or 'all'\.$"),
    (
        {"model__lora": {"target_modules": {"q_proj": 1}}},
        r"problems:\n  model\.lora\.target_modules = \{'q_proj': 1\}: input should be a valid list or 'all-linear'\.$",
    ),
    (
        {"algorithm": {"name": "spac", "data_weight": -1}, "rounds": "two"},
        r"problems:\n  algorithm\.data_weight = -1: input should be greater than 0 or 'sqrt_n'\.$",
    ),
    # out of range
    ({"rounds": 0}, r"rounds = 0: .*greater than or equal to 1"),
    ({"seed": -1}, r"seed = -1: .*greater than or equal to 0"),
    ({"sampling__temperature": -1}, r"sampling\.temperature = -1: .*greater than or equal to 0"),
    ({"sampling__top_p": 0}, r"sampling\.top_p = 0: .*greater than 0"),
    ({"fit__learning_rate": 0}, r"fit\.learning_rate = 0: .*greater than 0"),
    ({"fit__warmup": 1}, r"fit\.warmup = 1: .*less than 1"),
    ({"algorithm__step_size": -2}, r"algorithm\.step_size = -2: .*greater than 0"),
    ({"algorithm__step_size": float("inf")}, r"algorithm\.step_size = inf: .*finite"),
    ({"fit__learning_rate": float("inf")}, r"fit\.learning_rate = inf: .*finite"),
    ({"fit__betas": [0.9, 1.5]}, r"fit\.betas: betas = \[0\.9, 1\.5\]: .*below 1"),
    # conflicts
    (
        {"algorithm__samples": 1},
        r"algorithm: samples = 1 with pairing = 'best_worst': .*samples >= 2",
    ),
    (
        {"algorithm__kl_to_reference": 0.6},
        r"kl_to_reference = 0\.6 \(tau\) exceeds 1 / step_size = 0\.5",
    ),
    (
        {"algorithm__pairing": "knockout", "algorithm__samples": 6},
        r"samples = 6 with pairing = 'knockout': give a power of two",
    ),
    ({"algorithm__pairing": "iid", "algorithm__samples": 3}, r"samples = 3 with pairing = 'iid'"),
    (
        {"algorithm__target": "win_rate", "algorithm__pairing": "knockout"},
        r"target = 'win_rate' with pairing = 'knockout'",
    ),
    (
        {"algorithm__schedule": "theorem", "algorithm__kl_to_reference": 0},
        r"kl_to_reference = 0 with schedule = 'theorem'",
    ),
    ({"algorithm": {**SPIN, "window": 0}}, r"algorithm: window = 0: give at least 1"),
    (
        {"algorithm": {**SPIN, "window": 2, "sampler": "mixture"}},
        r"sampler = 'mixture' with window = 2",
    ),
    ({"sampling__temperature": 0}, r"sampling\.temperature = 0 makes all responses to a prompt the same"),
    ({"oracle": GONE}, r"oracle: missing, but algorithm 'inpo' asks for preferences"),
    (
        {"oracle": GONE, "algorithm": SPAC, "data__collect": {}},
        r"oracle: missing, but data\.collect asks",
    ),
    (
        {"algorithm": {**SPIN, "window": 3}, "rounds": 4, "keep_iterates": 1},
        r"keep_iterates = 1, .*at least 2",
    ),
    ({"keep_iterates": -1}, r"keep_iterates = -1"),
    (
        {"data__collect": {}},
        r"data\.collect builds chosen and rejected, but algorithm 'inpo' does not",
    ),
    # missing
    ({"model": GONE}, r"model: missing; it has no default"),
    ({"data__held_out": GONE}, r"data\.held_out: missing"),
    ({"algorithm": GONE}, r"algorithm: missing"),
    ({"algorithm__name": GONE}, r"algorithm\.name: missing\. Give one of spac"),
]


@pytest.mark.parametrize(("fields", "message"), RECIPES, ids=[message for _, message in RECIPES])
def test_a_recipe_that_makes_no_sense(fields: Plain, message: str, tiny_recipe: Plain, tmp_path: Path) -> None:
    plain = changed(tiny_recipe, **fields)
    with pytest.raises(ValueError, match=message):
        parse_recipe(plain)
    code, out, err = command(plain, tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert not (tmp_path / "run").exists()


def test_every_problem_is_told_at_once(tiny_recipe: Plain) -> None:
    plain = changed(tiny_recipe, rounds=0, fit__learning_rat=1, model__path=5)
    with pytest.raises(ValueError, match="the recipe has problems") as caught:
        parse_recipe(plain)
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rounds", "section.field=value"),
        ("=3", "section.field=value"),
        ("rounds.x=3", "is a value, not a section"),
        ("fit.learning_rate=[", "not readable YAML"),
        ("fit.learning_rate=-1e-5", "fit.learning_rate = -1e-05"),
        ("fit.lerning_rate=1e-5", "Did you mean 'learning_rate'?"),
        ("algorithm.sampels=2", "Did you mean 'samples'?"),
    ],
)
def test_overrides(override: str, message: str, tiny_recipe: Plain, tmp_path: Path) -> None:
    code, _, err = command(tiny_recipe, tmp_path, "--set", override)
    assert code == 2
    assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("- 1", "must hold keys"),
        ("a: [", "not readable"),
        (b"\xff\xfe", "not readable"),
        ("rounds: 2\nrounds: 3\n", "'rounds' is given twice"),
    ],
)
def test_recipe_files(content: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert sparring("run", path).code == 2


# ---- the data ------------------------------------------------------------------------------------

HELD: list[Plain] = [{"prompt": "Say yak"}]
ROWS: list[tuple[Plain, list[Plain] | bytes | None, str]] = [
    ({}, None, r"train\.jsonl' is not a file"),
    ({}, b"", r"train\.jsonl' is empty"),
    ({}, b'{"prompt": "a"}\n{"prompt": \n', r"train\.jsonl', line 2: not valid JSON"),
    ({}, b'{"prompt": "\xe9"}\n', r"not UTF-8 \(byte 12\)"),
    ({}, [{"text": "a"}], r"no column 'prompt'; it has 'text'"),
    ({}, [{"prompt": None}, {"prompt": " "}], r"1 x the prompt is null; 1 x the prompt is empty"),
    (
        {},
        [{"prompt": "a" * 500}],
        r"data\.train: every example was dropped: 1 x prompt longer than 248 tokens",
    ),
    ({}, HELD, r"data\.held_out: every held-out prompt is also a training prompt"),
    (
        {"sampling__max_new_tokens": 256},
        [{"prompt": "a"}],
        r"sampling\.max_new_tokens = 256 leaves no room",
    ),
    ({"algorithm": SPAC}, [{"prompt": "a"}], r"no column 'chosen'; it has 'prompt'.*data\.collect"),
    ({"algorithm": SPIN}, [{"prompt": "a"}], r"no column 'gold'"),
    (
        {"algorithm": SPAC},
        [{"prompt": "a", "chosen": "b", "rejected": "b"}],
        r"1 x chosen and rejected are identical",
    ),
    (
        {"algorithm": SPIN, "data__max_response_tokens": 3},
        [{"prompt": "a", "gold": "four"}],
        r"1 x response longer than 3 tokens",
    ),
    (
        {"algorithm": SPIN, "data__train__columns": {"gold": "best"}},
        [{"prompt": "a"}],
        r"no column 'best'",
    ),
]


@pytest.mark.parametrize(("fields", "rows", "message"), ROWS, ids=[message for *_, message in ROWS])
def test_data_that_cannot_be_used(
    fields: Plain,
    rows: list[Plain] | bytes | None,
    message: str,
    tiny_recipe: Plain,
    tmp_path: Path,
) -> None:
    train = tmp_path / "train.jsonl"
    train.unlink()
    if isinstance(rows, bytes):
        train.write_bytes(rows)
    elif rows is not None:
        write_jsonl(train, rows)
    write_jsonl(tmp_path / "held.jsonl", HELD)
    with pytest.raises(ValueError, match=message):
        go(changed(tiny_recipe, **fields), tmp_path / "run")
    assert untouched(tmp_path / "run")


MISTAKES: list[tuple[Plain, str]] = [
    ({"data__train__path": "promts.jsonl"}, r"^data\.train: 'promts\.jsonl' is not a file"),
    ({"data__held_out__path": "promts.jsonl"}, r"^data\.held_out: 'promts\.jsonl' is not a file"),
    ({"data__train__split": "tain"}, r"^data\.train: split: 'tain' is set, but .* has no column 'split'"),
    ({"data__train__columns": {"prompt": "q"}}, r"^data\.train: .*no column 'q'"),
    ({"data__held_out__columns": {"prompt": "q"}}, r"^data\.held_out: .*no column 'q'"),
    ({"data__held_out__path": "train.jsonl"}, r"^data\.held_out: .*train\.jsonl' is data\.train too"),
]


@pytest.mark.parametrize(("fields", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_mistake_in_the_data_is_found_before_a_judge_is_asked(
    verb: str, fields: Plain, message: str, tiny_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt path was found after minutes of loading the model, and after paid judges had been asked."""
    monkeypatch.setattr("sparring.rounds.run.probe", lambda *_: pytest.fail("a judge was asked"))
    if fields.get("data__held_out__path") == "train.jsonl":
        fields = {"data__held_out": tiny_recipe["data"]["train"]}
    recipe, out = parse_recipe(changed(tiny_recipe, **fields)), tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        run(recipe, out, Progress(quiet=True)) if verb == "run" else check(recipe, Progress(quiet=True))
    assert not out.exists()


def test_rows_that_cannot_be_used_are_counted(tiny_recipe: Plain, tmp_path: Path) -> None:
    good = {"prompt": "Say owl", "gold": "owl owl"}
    rows = [good, good, {**good, "prompt": ""}, {**good, "prompt": None}]
    rows += [{**good, "prompt": "a" * 300}, {**good, "gold": "b" * 30}, {**good, "gold": " "}]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "held.jsonl", [good, *HELD])
    fields = {"algorithm": SPIN, "data__max_response_tokens": 20, "rounds": 1}
    code, out, err = command(changed(tiny_recipe, **fields), tmp_path)
    assert (code, err) == (0, "")
    facts = json.loads((tmp_path / "run/manifest.json").read_text())["data"]["facts"]
    assert facts == {
        "train": 1,
        "held_out": 1,
        "dropped": {
            "train": {
                "duplicate": 1,
                "the prompt is empty": 1,
                "the prompt is null": 1,
                "the response is empty": 1,
                "prompt longer than 248 tokens": 1,
                "response longer than 20 tokens": 1,
            },
            "held_out": {"also a training prompt": 1},
        },
    }
    assert "data  train: dropped 1: duplicate" in out
    assert "data  held_out: dropped 1: also a training prompt" in out


# ---- the model -----------------------------------------------------------------------------------


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def _no_config(model: Path) -> None:
    (model / "config.json").unlink()


def _broken_config(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": ')


def _not_causal(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))


def _saved(model: Path, other: PreTrainedModel) -> None:
    shutil.rmtree(model)
    folder_of(other, model)


def _config_with(model: Path, **fields: Any) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _encoder(model: Path) -> None:
    _saved(model, tiny("bert"))


def _vision(model: Path) -> None:
    _config_with(model, model_type="clip")


def _quantised(model: Path) -> None:
    _config_with(model, quantization_config={"quant_method": "gptq", "bits": 4})


def _reward_model(model: Path) -> None:
    _saved(model, LlamaForSequenceClassification(config("llama", num_labels=1)))


def _tied_reward_model(model: Path) -> None:
    _saved(model, LlamaForSequenceClassification(config("llama", num_labels=1, tie_word_embeddings=True)))


def _fewer_layers(model: Path) -> None:
    _config_with(model, num_hidden_layers=1)


def _more_layers(model: Path) -> None:
    _config_with(model, num_hidden_layers=3)


def _other_width(model: Path) -> None:
    _config_with(model, vocab_size=300)


def _adapter(model: Path) -> None:
    """With a config.json beside it, as several trainers leave it."""
    _adapter_beside(model)
    (model / "model.safetensors").unlink()


def _adapter_beside(model: Path) -> None:
    peft.get_peft_model(tiny_llama(), peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(model))


def _lost_shard(model: Path) -> None:
    shutil.rmtree(model)
    tiny_llama().save_pretrained(model, max_shard_size=40_000)
    byte_tokenizer().save_pretrained(model)
    (model / "model-00002-of-00003.safetensors").unlink()


def _lost_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def _pointer(model: Path) -> None:
    """What a checkout without git-lfs holds."""
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def _pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def _truncated(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _remote_code(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "code.Model"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text("raise SystemExit('foreign code ran')")


def _no_tokenizer(model: Path) -> None:
    for path in model.glob("token*"):
        path.unlink()
    (model / "chat_template.jinja").unlink()


def _no_template(model: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    (model / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(model)


def _larger_tokenizer(model: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = "{% for m in messages %}<|turn|>{{ m['content'] }}<|end|>{% endfor %}<|turn|>"
    tokenizer.save_pretrained(model)


def _no_end(model: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(model)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"model: .* is not a folder"),
        (_no_config, r"holds no config\.json.*save_pretrained"),
        (_broken_config, r"model: .*config\.json is not readable JSON"),
        (_not_causal, r"is an encoder-decoder \(t5\)"),
        (_encoder, r"BertLMHeadModel gives other logits token by token"),
        (_vision, r"\(clip\) is no causal language model"),
        (_quantised, r"holds quantised weights \(gptq\).*float32"),
        (_reward_model, r"no weights for lm_head\.weight; they would be random.*with its head"),
        (_tied_reward_model, r"weights that are no part of it as a causal language model: score\.weight"),
        (_fewer_layers, r"no part of it.*model\.layers\.1\..* and 4 more"),
        (_more_layers, r"no weights for model\.layers\.2\..* and 4 more; they would be random"),
        (
            _other_width,
            r"other sizes than its config\.json says: model\.embed_tokens\.weight \(260, 32\) for \(300, 32\)",
        ),
        (_adapter, r"holds an adapter, not a whole model.*sparring export"),
        (_adapter_beside, r"holds an adapter .* beside whole weights.*sparring export ADAPTER --base"),
        (_lost_shard, r"is not complete: model-00002-of-00003\.safetensors of the 3 files"),
        (_lost_tensor, r"no weights for model\.norm\.weight"),
        (_pointer, r"model\.safetensors is not a whole safetensors file"),
        (_pickled, r"no \*\.safetensors; found pickled weights \['pytorch_model\.bin'\]"),
        (_truncated, r"model\.safetensors is not a whole safetensors file"),
        (_remote_code, r"its own Python code \(auto_map.*model\.trust_remote_code: true"),
        (_no_tokenizer, r"holds no tokenizer that can be loaded"),
        (_no_template, r"model\.chat_template: .*no chat template.*'plain'"),
        (_no_end, r"no EOS token"),
        (
            _larger_tokenizer,
            r"has 261 tokens, but the model embeds 260, .* token 260 \('<\|turn\|>'\).*resize_token_embeddings\(261\)",
        ),
    ],
)
def test_a_folder_that_is_not_a_model(
    spoil: Callable[[Path], None], message: str, model: Path, tiny_recipe: Plain, tmp_path: Path
) -> None:
    spoil(model)
    with pytest.raises(ValueError, match=message):
        go(changed(tiny_recipe, model__path=str(model), fit__layout="padded"), tmp_path / "run")
    assert untouched(tmp_path / "run")


@pytest.mark.parametrize("spoil", [_reward_model, _adapter_beside, _lost_shard, _quantised, _not_causal])
def test_a_plan_refuses_what_the_run_would(
    spoil: Callable[[Path], None], model: Path, tiny_recipe: Plain, tmp_path: Path
) -> None:
    spoil(model)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(changed(tiny_recipe, model__path=str(model))))
    code, _, err = sparring("plan", path)
    assert (code, err.count("\n"), err[:14]) == (2, 1, "error: model: ")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nobody/nothing", r"neither a local folder nor could it be fetched.*spelling"),
        ("pypi:no-such-package", r"'no-such-package' is not installed.*pip install"),
    ],
)
def test_a_model_that_is_nowhere(path: str, message: str, tiny_recipe: Plain, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        go(changed(tiny_recipe, model__path=path), tmp_path / "run")
    assert untouched(tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model__revision": "main"}, r"model\.revision = 'main' with the folder"),
        ({"model__lora": {"target_modules": ["q_prj"]}}, r"model\.lora\.target_modules = \['q_prj'\]: .*q_proj"),
    ],
)
def test_model_fields_that_do_not_fit_the_model(
    fields: Plain, message: str, tiny_recipe: Plain, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        go(changed(tiny_recipe, **fields), tmp_path / "run")
    assert untouched(tmp_path / "run")


REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"
)


@pytest.mark.parametrize(
    ("template", "system", "message"),
    [
        (REFUSING, "Be brief.", r"model\.system: the chat template refuses system messages .*no system role"),
        ("{% for m in messages %}{{ m['content'] }", None, r"model\.chat_template: the template refuses"),
    ],
)
def test_a_template_that_refuses(
    template: str, system: str | None, message: str, tiny_recipe: Plain, tmp_path: Path
) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(template)
    fields = {"model__chat_template": str(path), "model__system": system}
    with pytest.raises(ValueError, match=message):
        go(changed(tiny_recipe, **fields), tmp_path / "run")
    assert untouched(tmp_path / "run")


def test_a_tokenizer_without_pad_token_works(model: Path, tiny_recipe: Plain, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(model)
    llama = tiny_llama()
    llama.config.pad_token_id = None
    llama.save_pretrained(model)
    plain = changed(tiny_recipe, model__path=str(model), rounds=1)
    assert go(plain, tmp_path / "run")["headline"]


def test_a_base_model_with_the_plain_template(model: Path, tiny_recipe: Plain, tmp_path: Path) -> None:
    _no_template(model)
    fields = {"model__path": str(model), "model__chat_template": "plain", "rounds": 1}
    assert go(changed(tiny_recipe, **fields), tmp_path / "run")["headline"]


# ---- the oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "panle"}, r"oracle\.name: unknown oracle 'panle'\. Did you mean 'panel'"),
        ({}, r"oracle\.name: missing\. Give one of panel"),
        ({"name": "function"}, r"oracle\.path: missing"),
        ({"name": "function", "pth": "x:y"}, r"oracle\.pth: unknown key.*Did you mean 'path'"),
        ({"name": "function", "path": "no_module:f"}, r"oracle\.path: cannot import 'no_module:f'"),
        ({"name": "function", "path": "oracle_fakes:math"}, r"oracle\.path: .*is not a function"),
        ({"name": "function", "path": ":f"}, r"oracle\.path: cannot import ':f'"),
        ({"name": "panel", "voters": ["fluency"]}, r"oracle\.voters = \['fluency'\]: .*valid dictionary"),
        ({"name": "mutual_information", "scale": -1}, r"oracle\.scale = -1: input should be greater than 0"),
        (
            {"name": "reward_model", "model": "m", "batch_size": 0},
            r"oracle\.batch_size = 0: .*greater than or equal to 1",
        ),
        ({"name": "mutual_information", "scale": "wide"}, r"oracle\.scale = 'wide': .*valid number"),
    ],
)
@pytest.mark.parametrize("place", ["oracle", "evaluation__oracles"])
def test_an_oracle_that_cannot_be_made(
    place: str, section: Plain, message: str, tiny_recipe: Plain, tmp_path: Path
) -> None:
    value = section if place == "oracle" else [section]
    with pytest.raises(ValueError, match=message) as caught:
        go(changed(tiny_recipe, **{place: value}), tmp_path / "run")
    start = "oracle." if place == "oracle" else "evaluation.oracles.0: "
    assert str(caught.value).startswith(start)
    assert untouched(tmp_path / "run")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", "the judge is down"),
        ("nan", r"no preference came of 4 of the first 4 questions"),
        ("outside", "1.5, outside [0, 1]"),
        ("lopsided", "P(a, b) + P(b, a) = 0.8 + 0.8 is not 1"),
    ],
)
def test_an_oracle_that_answers_nonsense(function: str, message: str, tiny_recipe: Plain, tmp_path: Path) -> None:
    code, _, err = command(changed(tiny_recipe, oracle__path=f"oracle_fakes:{function}"), tmp_path)
    assert code == 3
    assert err.startswith("stopped: oracle function(oracle_fakes:")
    assert message in err
    assert untouched(tmp_path / "run")


def test_both_orders_make_an_asymmetric_oracle_usable(tiny_recipe: Plain, tmp_path: Path) -> None:
    oracle = {"name": "function", "path": "oracle_fakes:lopsided", "both_orders": True}
    with pytest.raises(ValueError, match=r"no training pair is left: .* tie"):
        go(changed(tiny_recipe, oracle=oracle), tmp_path / "run")


def _silent(*_: str) -> float:
    raise RuntimeError("no answer")


@pytest.mark.parametrize("failure", [_silent, oracle_fakes.nan])
def test_a_few_failed_comparisons_are_counted_and_left_out(
    failure: Callable[..., float],
    tiny_recipe: Plain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed: set[tuple[str, ...]] = set()

    def answer(*asked: str) -> float:
        if asked[0] == "Say bee" and not failed:
            failed.add(asked)
        return failure(*asked) if asked in failed else oracle_fakes.more_vowels(*asked)

    monkeypatch.setattr(oracle_fakes, "answer", answer)
    plain = changed(tiny_recipe, oracle__path="oracle_fakes:moody", rounds=1)
    code, out, _ = command(plain, tmp_path)
    assert code == 0
    assert "round 1/1  judge: 1 of 36 comparisons failed" in out
    rows = read_table(tmp_path / "run/rounds/000/verdicts.parquet")
    assert sum(row["preference"] is None for row in rows) == 1
    facts = json.loads((tmp_path / "run/manifest.json").read_text())["rounds/000/judge"]["facts"]
    assert (facts["comparisons"], facts["failed"]) == (36, 1)


@pytest.mark.parametrize("failure", [_silent, oracle_fakes.nan, oracle_fakes.outside])
def test_many_failed_comparisons_stop_the_run_and_it_can_go_on(
    failure: Callable[..., float],
    tiny_recipe: Plain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(*asked: str) -> float:
        return (failure if asked[0] == "Say bee" else oracle_fakes.more_vowels)(*asked)

    plain = changed(tiny_recipe, oracle__path="oracle_fakes:moody", rounds=1)
    with monkeypatch.context() as patch:
        patch.setattr(oracle_fakes, "answer", answer)
        with pytest.raises(OracleError, match=r"comparisons failed|outside \[0, 1\]"):
            go(plain, tmp_path / "run")
        assert command(plain, tmp_path).code == 3
    assert half_written(tmp_path / "run") == []
    assert list(json.loads((tmp_path / "run/manifest.json").read_text())) == [
        "data",
        "rounds/000/sample",
    ]
    code, out, _ = command(plain, tmp_path)
    assert code == 0
    assert "sample own from start" not in out.partition("evaluation")[0]


# ---- the machine ---------------------------------------------------------------------------------


def failing(true: Callable[..., Any], nth: int, error: BaseException) -> Callable[..., Any]:
    """A function that fails at its n-th call."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise error
        return true(*args, **kwargs)

    return call


FULL = OSError(errno.ENOSPC, "No space left on device")
FULL_IN_WORDS = SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("owner", "name", "nth", "error"),
    [
        (pq, "write_table", 1, FULL),
        (pq, "write_table", 2, FULL),
        (Path, "write_bytes", 1, FULL),
        (Path, "write_bytes", 3, FULL),
        (os, "fsync", 1, FULL),
        (os, "fsync", 9, FULL),
        (PreTrainedModel, "save_pretrained", 1, FULL_IN_WORDS),
    ],
)
def test_a_full_disk_stops_with_a_message_and_the_run_can_go_on(
    owner: Any,
    name: str,
    nth: int,
    error: Exception,
    tiny_recipe: Plain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = changed(tiny_recipe, rounds=1)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), nth, error))
        code, _, err = command(plain, tmp_path)
    assert code == 3
    assert re.fullmatch(
        r"stopped: the disk is full( \(.*/run/.* was not written\))?\. "
        r"Free some space and give the same command to go on\.\n",
        err,
    )
    assert ("was not written" in err) == (error is FULL)
    assert half_written(tmp_path / "run") == []
    assert command(plain, tmp_path).code == 0


def test_no_permission_to_write(tiny_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, true = tmp_path / "run", Path.mkdir

    def mkdir(path: Path, *args: Any, **options: Any) -> None:
        if path == out:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        true(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    code, _, err = command(tiny_recipe, tmp_path)
    assert code == 2
    assert err == f"error: no permission for {out}. Give another --out, or change its owner.\n"
    assert not out.exists()


def test_out_holds_other_files(tiny_recipe: Plain, tmp_path: Path) -> None:
    """A run would overwrite a `data/train.parquet` or `recipe.yaml` of the user's own."""
    out = tmp_path / "run"
    (out / "data").mkdir(parents=True)
    (out / "data/train.parquet").write_text("mine")
    code, _, err = command(tiny_recipe, tmp_path)
    assert code == 2
    assert "holds files and is not a run folder" in err
    assert (out / "data/train.parquet").read_text() == "mine"
    assert [path.name for path in out.iterdir()] == ["data"]


def test_out_is_a_file(tiny_recipe: Plain, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    code, _, err = command(tiny_recipe, tmp_path)
    assert code == 2
    assert "is a file, not a run folder. Give another --out." in err
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize(
    ("owner", "name", "nth"),
    [(TransformersEngine, "sample", 2), (Policies, "save", 1), (Policies, "load_scoring", 1)],
)
def test_ctrl_c_stops_cleanly_and_the_run_can_go_on(
    owner: Any,
    name: str,
    nth: int,
    tiny_recipe: Plain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = changed(tiny_recipe, rounds=1)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), nth, KeyboardInterrupt()))
        code, _, err = command(plain, tmp_path)
    assert code == 130
    assert err == "stopped. What was finished is kept; give the same command to go on.\n"
    assert half_written(tmp_path / "run") == []
    assert command(plain, tmp_path).code == 0


@pytest.mark.parametrize(
    ("owner", "words", "message"),
    [
        (
            "sparring.rounds.run.probe",
            ("run", "inpo", "--check"),
            "--check keeps nothing; the same command starts over.",
        ),
        (
            "sparring.cli.certify.claims",
            ("certify", "inpo"),
            "Nothing is kept of it; the same command starts over.",
        ),
    ],
)
def test_a_stopped_command_promises_no_more_than_it_keeps(
    owner: str, words: Sequence[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--check` and `certify` promised that the same command would go on."""

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, stopped)
    outcome = sparring(*words)
    assert (outcome.code, outcome.err) == (130, f"stopped. {message}\n")


def test_sigterm_stops_with_a_word_and_the_run_can_go_on(
    tiny_recipe: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedulers and containers send it; the command ended without one."""
    plain = changed(tiny_recipe, rounds=1)

    def ended(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(Policies, "load_scoring", ended)
            code, _, err = command(plain, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 143
    assert err == "stopped. What was finished is kept; give the same command to go on.\n"
    assert half_written(tmp_path / "run") == []
    assert command(plain, tmp_path).code == 0
