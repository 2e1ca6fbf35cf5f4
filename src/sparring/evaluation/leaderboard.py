"""The Open LLM Leaderboard's tasks through lm-eval: per-document scores, stored, so that two policies can be paired.

Names of the leaderboard's first version (arc, hellaswag, mmlu, truthfulqa, winogrande, gsm8k) and second one (ifeval,
bbh, math, gpqa, musr, mmlu_pro) carry its shots and metric; any other name is lm-eval's own. Documents come from the
hub, or from local files in the hub's field names. A group's score is the mean over all its documents. A finished task
is a file under the hash of the weights and is not run twice, unless tokenizer or template change. Leaves out:
statistics (`paired.py`), and the second version's rescaling between chance and one.

    scores = Leaderboard(folder, Path("scores")).run(find_benchmark("arc"))
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

from sparring.data.instructions.language import offer_sentences
from sparring.data.rows import read_file
from sparring.models.identity import hash_reading, hash_weights
from sparring.models.template import FIXED_DAY, Template
from sparring.models.weights import load_model, load_tokenizer
from sparring.runtime import gpus
from sparring.runtime.errors import first_line, reason_of
from sparring.runtime.files import hash_file, read_json, write_json, write_text
from sparring.runtime.precision import computed
from sparring.runtime.progress import plain_lines
from sparring.training.packing import Rollout
from sparring.training.rollout_logps import rollout_logps
from sparring.training.scorer import scorer_of


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A task of the leaderboard."""

    name: str
    task: str
    """lm-eval's task or group"""
    shots: int | None
    """None: as lm-eval defines the task"""
    metric: str | None
    """lm-eval's metric, and its filter where there are several; None: the first that the task reports"""
    documents: int | None = None
    """documents of the whole benchmark; scores on fewer do not compare with published ones"""


BENCHMARKS = {
    b.name: b
    for b in (
        Benchmark("arc", "arc_challenge", 25, "acc_norm", 1172),
        Benchmark("hellaswag", "hellaswag", 10, "acc_norm", 10042),
        Benchmark("mmlu", "mmlu", 5, "acc", 14042),
        Benchmark("truthfulqa", "truthfulqa_mc2", 0, "acc", 817),
        Benchmark("winogrande", "winogrande", 5, "acc", 1267),
        Benchmark("gsm8k", "gsm8k", 5, "exact_match,strict-match", 1319),
        Benchmark("ifeval", "leaderboard_ifeval", None, "prompt_level_strict_acc", 541),
        Benchmark("bbh", "leaderboard_bbh", None, "acc_norm"),
        Benchmark("math", "leaderboard_math_hard", None, "exact_match"),
        Benchmark("gpqa", "leaderboard_gpqa", None, "acc_norm"),
        Benchmark("musr", "leaderboard_musr", None, "acc_norm"),
        Benchmark("mmlu_pro", "leaderboard_mmlu_pro", None, "acc"),
    )
}
TEMPLATES: Mapping[str, tuple[str, str, str | None]] = {
    "arc": ("arc/arc_challenge.yaml", "test", "training_split"),
    "mmlu": ("mmlu/default/_default_template_yaml", "test", None),
    "truthfulqa": ("truthfulqa/truthfulqa_mc2.yaml", "validation", None),
    "winogrande": ("winogrande/default.yaml", "validation", "training_split"),
    "gsm8k": ("gsm8k/gsm8k.yaml", "test", None),
    "ifeval": ("leaderboard/ifeval/ifeval.yaml", "train", None),
}
"""lm-eval's file, the split that is scored, and the split that a local copy may lack"""
SHOT_SPLITS = {"mmlu": "dev", "gsm8k": "train", "arc": "train", "winogrande": "train"}
FIELDS = {
    "arc": ("question", "choices", "answerKey"),
    "hellaswag": ("query", "choices", "label"),
    "mmlu": ("question", "choices", "answer", "subject"),
    "truthfulqa": ("question", "mc2_targets"),
    "winogrande": ("sentence", "option1", "option2", "answer"),
    "gsm8k": ("question", "answer"),
    "ifeval": ("key", "prompt", "instruction_id_list", "kwargs"),
}
LocalData = Mapping[str, Mapping[str, Path]]
"""by benchmark: files by split, "test" and perhaps "shots" """


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name in `BENCHMARKS`, else lm-eval's task of that name."""
    return BENCHMARKS.get(name, Benchmark(name, name, None, None))


# ---------------------------------------------------------------- local files


def check_local(name: str, files: Mapping[str, Path]) -> None:
    """Check that local files have the fields that the task needs.

    Raises:
        ValueError: the benchmark has no local form, or a file is missing, cut short or lacks a field.
    """
    if name not in FIELDS:
        raise ValueError(f"--data {name}: local files are known for {', '.join(FIELDS)}; others come from the hub.")
    for path in files.values():
        if not path.is_file():
            raise ValueError(f"--data {name}={path}: it is not a file.")
        rows = read_file(path)
        for number, row in enumerate(rows, start=1):
            if missing := [field for field in FIELDS[name] if field not in row]:
                raise ValueError(f"--data {name}={path}, document {number}: it has no {missing[0]!r}.")
        if not rows:
            raise ValueError(f"--data {name}={path}: it holds no document.")


def local_tasks(name: str, files: Mapping[str, Path], folder: Path) -> list[str]:
    """Write task files for lm-eval that read local data; returns the task names."""
    if name == "mmlu":
        return _subjects(files, folder)
    return [_write_task(folder, f"local_{name}", _local_config(name, files))]


def _local_config(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    if name == "hellaswag":
        return _plain_choices(files)
    template, split, lacking = TEMPLATES[name]
    paths = {split: str(files["test"].resolve())}
    config = _including(template)
    if "shots" in files:
        paths[SHOT_SPLITS.get(name, "train")] = str(files["shots"].resolve())
    elif lacking is not None:
        config[lacking] = None
    if name == "arc":
        config["validation_split"] = None
    if name == "gsm8k" and "shots" not in files:
        config |= {"training_split": None, "fewshot_split": split}
    return {**config, "dataset_kwargs": {"data_files": paths}}


def _plain_choices(files: Mapping[str, Path]) -> dict[str, Any]:
    """HellaSwag with its query and choices already prepared."""
    measures = [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "acc_norm")]
    return {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(files["test"].resolve())}},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "{{query}}",
        "doc_to_target": "{{label}}",
        "doc_to_choice": "choices",
        "metric_list": measures,
    }


def _subjects(files: Mapping[str, Path], folder: Path) -> list[str]:
    """One task per subject, as lm-eval has it: shots and the introduction are the subject's own."""
    by_subject: dict[str, dict[str, list[str]]] = {split: {} for split in files}
    for split, path in files.items():
        for row in read_file(path):
            by_subject[split].setdefault(row["subject"], []).append(json.dumps(row) + "\n")
    names = []
    for subject in sorted(by_subject["test"]):
        paths = {}
        for split, lines in by_subject.items():
            path = folder / f"mmlu_{subject}_{split}.jsonl"
            write_text(path, "".join(lines.get(subject, [])))
            paths["test" if split == "test" else "dev"] = str(path.resolve())
        about = subject.replace("_", " ")
        config = {
            **_including(TEMPLATES["mmlu"][0]),
            "dataset_kwargs": {"data_files": paths},
            "description": f"The following are multiple choice questions (with answers) about {about}.\n\n",
        }
        if "shots" not in files:
            config["fewshot_split"] = "test"
        names.append(_write_task(folder, f"local_mmlu_{subject}", config))
    return names


def _including(template: str) -> dict[str, Any]:
    """A task like lm-eval's own in `template`, which reads JSON files in the hub's stead."""
    path = Path(str(lm_eval().__file__)).parent / "tasks" / template
    return {"include": str(path), "dataset_path": "json", "dataset_name": None}


def lm_eval(module: str = "lm_eval") -> Any:
    """lm-eval, or one of its modules. Raises ValueError where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError("leaderboard tasks need lm-eval: pip install 'sparring[leaderboard]'") from error


def _write_task(folder: Path, name: str, config: Mapping[str, Any]) -> str:
    write_text(folder / f"{name}.yaml", yaml.safe_dump({"task": name, **config}, sort_keys=False))
    return name


# ---------------------------------------------------------------- running


@dataclass
class Leaderboard:
    """One policy's scores, document by document, stored under `out/HASH/` of its weights.

    Raises:
        ValueError: lm-eval is not installed, or torch cannot use the device.
    """

    folder: Path
    out: Path
    data: LocalData = field(default_factory=dict)
    limit: int | None = None
    """documents per task of lm-eval"""
    shots: int | None = None
    """replaces the benchmarks' own number"""
    chat: bool = False
    batch_size: int = 8
    device: str | None = None
    """None: the accelerator, where there is one"""
    precision: str = "float32"

    def __post_init__(self) -> None:
        self.version = str(lm_eval().__version__)
        transformers.utils.logging.disable_progress_bar()
        self.device = self.device or gpus.device_type()
        try:
            torch.empty(0, device=self.device)
        except (AssertionError, RuntimeError) as error:
            why = f"torch cannot use it here ({first_line(error)})"
            raise ValueError(f"--device {self.device}: {why}. Give another.") from error
        self.weights = hash_weights(self.folder)

    def run(self, benchmark: Benchmark) -> dict[str, Any]:
        """The benchmark's documents with their scores: read where they are stored, else evaluated and stored.

        Raises:
            ValueError: the task is unknown, cannot be loaded, or has no such metric.
        """
        asked = self._asked(benchmark)
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
        path = self.out / self.weights[:12] / f"{benchmark.name}-{key}.json"
        if path.exists():
            return read_json(path)
        results = self._evaluate(benchmark)
        documents = [d for task, rows in results["samples"].items() for d in _documents(task, rows, benchmark)]
        scores = {
            "asked": asked,
            "metric": documents[0]["metric"],
            "total": sum(n["original"] for n in results["n-samples"].values()),
            "shots": max(results["n-shot"].values(), default=0),
            "task_versions": dict(results["versions"]),
            "documents": documents,
        }
        write_json(path, scores)
        return scores

    def _asked(self, benchmark: Benchmark) -> dict[str, Any]:
        """All that the scores depend on."""
        return {
            "weights": self.weights,
            "reading": hash_reading(self.folder),
            "task": benchmark.task,
            "metric": benchmark.metric,
            "shots": self._shots(benchmark),
            "limit": self.limit,
            "chat": self.chat,
            "precision": self.precision,
            "lm_eval": self.version,
            "data": {split: hash_file(path) for split, path in self.data.get(benchmark.name, {}).items()},
            **({"day": str(FIXED_DAY)} if self.chat and self.template.clock else {}),
        }

    def _shots(self, benchmark: Benchmark) -> int | None:
        return benchmark.shots if self.shots is None else self.shots

    def _evaluate(self, benchmark: Benchmark) -> dict[str, Any]:
        manager, tasks = self._tasks(benchmark)
        lm = self.lm
        try:
            with plain_lines():
                results = lm_eval().simple_evaluate(
                    model=lm,
                    tasks=list(tasks),
                    num_fewshot=self._shots(benchmark),
                    limit=self.limit,
                    apply_chat_template=self.chat,
                    bootstrap_iters=0,
                    task_manager=manager,
                    log_samples=True,
                )
        except AssertionError as error:
            raise ValueError(
                f"task {benchmark.name}: lm-eval refuses it ({str(error) or 'it does not say why'}). Its answers may "
                f"need more room than the model's context of {lm.max_length} tokens: then leave the task out."
            ) from error
        except (OSError, ImportError, ValueError, KeyError) as error:
            raise ValueError(
                f"task {benchmark.name}: {reason_of(error)}. Where the hub is not reachable, give its documents "
                f"with --data {benchmark.name}=FILE (known for {', '.join(FIELDS)})."
            ) from error
        return dict(results)

    def _tasks(self, benchmark: Benchmark) -> tuple[Any, Sequence[str]]:
        if "ifeval" in benchmark.task:
            offer_sentences(self.out / "nltk_data")  # or lm-eval fails without a network, after all answers
        task_manager = lm_eval("lm_eval.tasks").TaskManager
        if files := self.data.get(benchmark.name):
            folder = self.out / "tasks"
            names = local_tasks(benchmark.name, files, folder)
            return task_manager(include_path=str(folder), include_defaults=False), names
        manager = task_manager()
        if benchmark.task not in manager.all_tasks:
            near = difflib.get_close_matches(benchmark.task, [*BENCHMARKS, *manager.all_tasks], n=3)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise ValueError(f"task {benchmark.name!r} is unknown.{hint} Ours are {', '.join(BENCHMARKS)}.")
        return manager, [benchmark.task]

    @cached_property
    def lm(self) -> Any:
        """lm-eval's wrapper of the policy, loaded when first needed."""
        wrapper = lm_eval("lm_eval.models.huggingface").HFLM
        place = torch.device(self.device or gpus.device_type())
        model = load_model(self.folder, computed(self.precision, place.type)).to(place)  # type: ignore[arg-type]
        tokenizer = self.template.tokenizer
        if clock := self.template.clock:  # lm-eval has no option for it, and its scores would change with the day
            tokenizer.apply_chat_template = partial(tokenizer.apply_chat_template, **clock)  # type: ignore[method-assign]
        return wrapper(pretrained=model, tokenizer=tokenizer, batch_size=self.batch_size)

    @cached_property
    def template(self) -> Template:
        """The policy's own template, for which it is always the same day."""
        return Template(load_tokenizer(self.folder), day=FIXED_DAY)

    def own_log_likelihoods(self, documents: Sequence[Mapping[str, Any]]) -> list[list[float] | None]:
        """Each document's choices under our own scorer, prompts shared; None where lm-eval would cut the prompt.

        The tokens are lm-eval's, so that what is compared is the model's arithmetic and nothing else.
        """
        by_document = [[self.lm._encode_pair(*choice) for choice in document["choices"]] for document in documents]
        fits = [all(len(c) + len(choice) <= self.lm.max_length for c, choice in pairs) for pairs in by_document]
        whole = [pairs for pairs, fit in zip(by_document, fits, strict=True) if fit]
        rollouts = [Rollout(context, [choice]) for pairs in whole for context, choice in pairs]
        scorer = scorer_of(load_model(self.folder).to(self.device))  # type: ignore[arg-type]
        logps = iter(rollout_logps(scorer, rollouts, 4096, "float32"))
        return [[next(logps)[0] for _ in pairs] if fit else None for pairs, fit in zip(by_document, fits, strict=True)]


def _documents(task: str, rows: Sequence[Mapping[str, Any]], benchmark: Benchmark) -> list[dict[str, Any]]:
    """A task's documents with the wanted metric, and log-likelihoods by choice where the task has them."""
    name, _, chosen = (benchmark.metric or "").partition(",")
    filters = list(dict.fromkeys(row["filter"] for row in rows))
    wanted = [row for row in rows if row["filter"] == (chosen or filters[0])]
    if not wanted:
        raise ValueError(f"task {benchmark.name}: it has no filter {chosen!r}, only {', '.join(filters)}.")
    name = name or wanted[0]["metrics"][0]
    if name not in wanted[0]:
        raise ValueError(f"task {benchmark.name}: no metric {name!r}, only {', '.join(wanted[0]['metrics'])}.")
    return [_document(task, row, name) for row in wanted]


def _document(task: str, row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    first = [response[0] for response in row["resps"]]
    scored = [pair for pair in first if isinstance(pair, tuple | list)]
    return {
        "task": task,
        "document": row["doc_hash"],
        "prompt": row["prompt_hash"],
        "metric": metric,
        "score": float(row[metric]),
        "log_likelihoods": [float(pair[0]) for pair in scored],
        "choices": [list(arguments) for arguments in row["arguments"]] if scored else [],
        "texts": [text for text in first if isinstance(text, str)],
    }


def _by_document(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    """By task, content and occurrence: some tasks hold a document twice."""
    seen: Counter[tuple[str, str]] = Counter()
    by_document = {}
    for document in documents:
        key = document["task"], document["document"]
        by_document[*key, seen[key]] = document
        seen[key] += 1
    return by_document


def pair_documents(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Scores of two policies on the same documents, in the same order.

    Raises:
        ValueError: documents or prompts differ, so that the scores do not compare.
    """
    old, new = (_by_document(scores["documents"]) for scores in (before, after))
    if old.keys() != new.keys():
        raise ValueError("the two policies were scored on different documents. Give both the same --limit and --data.")
    if changed := [key for key in old if old[key]["prompt"] != new[key]["prompt"]]:
        raise ValueError(
            f"{len(changed)} documents were shown with different prompts (first in {changed[0][0]}): with --chat both "
            "policies need the same chat template."
        )
    return [document["score"] for document in old.values()], [new[key]["score"] for key in old]
