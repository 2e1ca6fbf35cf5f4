"""A script inside vLLM's own environment: it serves one policy after the other, as its parent tells it.

Started as a script by `vllm_process.py`, possibly under another Python with other packages, so it imports the
standard library and vLLM and nothing of Sparring. A line of its standard input is one order as JSON: a policy to serve,
requests to answer, or to rest, which frees a GPU's memory. It writes one JSON line per finished response to what was
its standard output; vLLM's own chatter goes to standard error. When its standard input closes, its parent is gone, and
it ends with everything it started.

    python vllm_child.py check                 # is vLLM here, and which?
    python vllm_child.py serve
"""
# pyright: reportMissingImports=false

import importlib.metadata
import importlib.util
import json
import os
import queue
import signal
import sys
import threading

NUCLEUS = 512
"""tokens looked at first for top_p on CPUs; the whole vocabulary is sorted only for rows that need more"""
CPU_KV_CACHE_GIB = 2.0
"""on CPUs vLLM would take most of the machine's memory"""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""the sizes that vLLM has room for"""


PIECE = 2**22
"""weights whose bits are looked at together"""
MIX = -0x61C8864680B583EB
"""odd and large, so that sums of squares and of cubes do not make up for each other"""


def main():
    """Check, or serve until the parent is gone."""
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**message):
        lines.write(json.dumps(message) + "\n")

    if sys.argv[1] == "check":
        return say(**versions())
    orders = queue.SimpleQueue()
    threading.Thread(target=listen, args=(orders,), daemon=True).start()
    order = orders.get()
    server = Server(order["policy"])
    while True:
        if "policy" in order:
            server.serve(order["policy"], say)
        elif "requests" in order:
            server.draw(order["requests"], say)
            say(done=True)
        else:
            server.rest()
            say(resting=True)
        order = orders.get()


def listen(orders):
    """Pass on the lines of standard input; kill this process group when the parent's end of it closes."""
    for line in sys.stdin:
        orders.put(json.loads(line))
    os.killpg(os.getpgid(0), signal.SIGKILL)


def versions():
    """Versions of what is installed here; "vllm" is null where it is not."""
    if importlib.util.find_spec("vllm") is None:
        return {"vllm": None, "python": sys.version.split()[0]}
    names = importlib.metadata.packages_distributions().get("vllm", ["vllm"])
    return {"vllm": importlib.metadata.version(names[0]), "python": sys.version.split()[0]}


class Server:
    """vLLM with the policy that it serves."""

    def __init__(self, job):
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        from vllm.platforms import current_platform

        cpu = current_platform.is_cpu()
        if cpu and job["tensor_parallel"] == 1:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        if job["keep"]:
            # `fingerprints` goes to vLLM's own processes as a function; nobody else can send them any.
            os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
            if cpu:
                remember_packed()
        from vllm import LLM

        self.nucleus = cpu and job["top_p"] < 1 and job["tensor_parallel"] == 1
        self.llm = LLM(**engine_arguments(job, cpu, self.nucleus))
        self.about = {**versions(), "device": current_platform.device_name}
        self.sleeps, self.asleep = job["keep"] and not cpu, False
        self.model, self.adapters = job["model"], {"": None}
        self.job = job

    def serve(self, job, say):
        """Have a policy served, and say by what it can be recognised."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        self.job = job
        try:
            self.wake(job["model"] != self.model or (self.asleep and not job["adapter_rank"]))
        except Exception as error:  # of a version that cannot, or of this model: the parent starts another engine
            return say(stale=f"{type(error).__name__}: {error}"[:300])
        adapter = job["adapter_hash"]
        if adapter not in self.adapters:
            number = len(self.adapters)
            self.adapters[adapter] = LoRARequest(f"policy-{number}", number, job["adapter"])
        return say(
            ready=self.about,
            vocabulary=self.llm.llm_engine.model_config.hf_text_config.vocab_size,
            probe=probe(self.llm, SamplingParams, self.adapters[adapter], job["probe"]),
            fingerprint=self.fingerprint() if job["keep"] and not job["adapter_rank"] else None,
        )

    def wake(self, reload):
        """Take the GPU's memory back, and read the weights in the job's folder if they are others."""
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        if reload:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": self.job["model"]})
            self.llm.apply_model(pack_again)
            self.model = self.job["model"]
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        self.llm.reset_prefix_cache()

    def rest(self):
        """Free a GPU's memory: weights of whole models, which are read again anyway, and a base into main memory."""
        if self.sleeps:
            self.llm.sleep(level=1 if self.job["adapter_rank"] else 2)
            self.asleep = True

    def fingerprint(self):
        """`fingerprint` of what is served; None where values are of another kind than the policy's."""
        by_rank = self.llm.apply_model(fingerprints)
        total = 0
        for name in by_rank[0]:
            parts = [rank[name] for rank in by_rank]
            if None in parts:
                return None
            # What all ranks hold alike is one weight; else each has its part.
            total += parts[0] if len(set(parts)) == 1 else sum(parts)
        return total % 2**64

    def draw(self, requests, say):
        """Write every response as it is finished."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        job, engine = self.job, self.llm.llm_engine
        greedy = job["temperature"] == 0  # then all responses of a prompt are one, and vLLM refuses to draw several
        for index, (seed, rows, prompt_ids) in enumerate(requests):
            params = SamplingParams(
                n=1 if greedy else len(rows),
                seed=seed,
                temperature=job["temperature"],
                top_p=1.0 if self.nucleus else job["top_p"],
                max_tokens=job["max_new_tokens"],
                stop_token_ids=job["end_ids"],
                ignore_eos=True,  # the end tokens above say it all
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            lora = self.adapters[job["adapter_hash"]]
            engine.add_request(str(index), {"prompt_token_ids": prompt_ids}, params, lora_request=lora)
        while engine.has_unfinished_requests():
            for output in engine.step():
                rows = requests[int(output.request_id)][1]
                for drawn in output.outputs:
                    for row in rows if greedy else [rows[drawn.index]]:
                        say(row=row, token_ids=list(drawn.token_ids), finish_reason=drawn.finish_reason)


def fingerprint(weights):
    """A checksum of weights that does not see where a value lies; other values give another one but by rare chance.

    An engine fuses matrices, cuts them over devices and pads them with zeros, which count for nothing here. None:
    values of a kind that no policy has.
    """
    import torch

    total = 0
    for weight in weights:
        kind = {2: torch.int16, 4: torch.int32}.get(weight.element_size())
        if kind is None:
            return None
        for piece in weight.detach().reshape(-1).split(PIECE):
            bits = piece.view(kind).to(torch.int64)
            total += int((bits * bits * (bits + MIX)).sum())
    return total % 2**64


def fingerprints(model):
    """`fingerprint` of each weight that a rank of vLLM serves, by its name; runs in vLLM's own process."""
    found = {name: fingerprint([weight]) for name, weight in model.named_parameters()}
    for name, layer in model.named_modules():
        if hasattr(layer, "packed"):
            if not layer.weight.numel():  # the packed copy alone is left
                found[f"{name}.weight"] = layer.packed
            elif layer.packed != fingerprint([layer.weight]):  # a copy of other weights: the sum must not be right
                found[f"{name}.weight, packed"] = layer.packed
    return found


def pack_again(model):
    """Have layers pack their weights whose packed copy is of others: vLLM 0.32 forgets it for tied embeddings."""
    for layer in model.modules():
        if hasattr(layer, "packed") and layer.weight.numel() and layer.packed != fingerprint([layer.weight]):
            layer.quant_method.process_weights_after_loading(layer)


def remember_packed():
    """Have layers note the fingerprint of the weights that a CPU's kernels pack: those serve, and not the parameter."""
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    def noting(pack):
        def pack_and_note(method, layer):
            layer.packed = fingerprint([layer.weight])
            return pack(method, layer)

        return pack_and_note

    for kind in (UnquantizedLinearMethod, UnquantizedEmbeddingMethod):
        kind.process_weights_after_loading = noting(kind.process_weights_after_loading)


def engine_arguments(job, cpu, nucleus):
    """The arguments of vLLM's engine for a job."""
    gib = job["kv_cache_gib"] or (CPU_KV_CACHE_GIB if cpu else None)
    arguments = {
        "model": job["model"],
        "skip_tokenizer_init": True,
        "trust_remote_code": job["trust_remote_code"],
        "dtype": job["precision"],
        "tensor_parallel_size": job["tensor_parallel"],
        "max_model_len": job["max_tokens"],
        "enable_prefix_caching": job["prefix_caching"],
        "enforce_eager": job["eager"] or cpu,  # compiling costs a CPU more than it gives
        "generation_config": "vllm",  # nothing but what the job says
        "seed": 0,
    }
    if cpu:
        # A prompt run in two parts would rewind its generator, which a CPU's cannot do: the engine would die.
        arguments["enable_chunked_prefill"] = False
    else:
        arguments["gpu_memory_utilization"] = job["memory_share"]
        arguments["enable_sleep_mode"] = job["keep"]
    if gib is not None:
        arguments["kv_cache_memory_bytes"] = int(gib * 2**30)
    if job["max_sequences"] is not None:
        arguments["max_num_seqs"] = job["max_sequences"]
    if job["adapter_rank"]:
        rank = min((size for size in LORA_RANKS if size >= job["adapter_rank"]), default=job["adapter_rank"])
        arguments.update(enable_lora=True, max_lora_rank=rank, max_loras=1)
    if nucleus:
        arguments["logits_processors"] = [nucleus_processor(job["top_p"])]
    return arguments


def nucleus_processor(share):
    """A logits processor for the top_p of all rows; vLLM's own sorts the whole vocabulary for every token."""
    from vllm.v1.sample.logits_processor import LogitsProcessor

    def least_inside(descending, total):
        """Each row's smallest logit inside the nucleus, and whether these logits reach its mass."""
        mass = (descending - total).exp().cumsum(-1)
        last = (mass < share).sum(-1, keepdim=True).clamp_max(mass.shape[-1] - 1)
        return descending.gather(-1, last), mass[:, -1] >= share

    class Nucleus(LogitsProcessor):
        def __init__(self, vllm_config, device, is_pin_memory):
            pass

        def is_argmax_invariant(self):
            return True  # so that it sees logits after the temperature

        def update_state(self, batch_update):
            pass

        def apply(self, logits):
            total = logits.logsumexp(-1, keepdim=True)
            top = logits.topk(min(NUCLEUS, logits.shape[-1]), dim=-1).values
            least, reached = least_inside(top, total)
            if flat := (~reached).nonzero()[:, 0].tolist():
                least[flat] = least_inside(logits[flat].sort(dim=-1, descending=True).values, total[flat])[0]
            return logits.masked_fill_(logits < least, float("-inf"))

    return Nucleus


def probe(llm, params, lora, prompts):
    """Log-probability of every token of each prompt but its first.

    One request per token, which may sample no other one: vLLM gives log-probabilities of the bare distribution. Those
    that it gives for prompts fail with adapters on a CPU (its kernel expects one row per request).
    """
    wanted = [(ids[:end], ids[end]) for ids in prompts for end in range(1, len(ids))]
    if not wanted:
        return []
    outputs = llm.generate(
        [{"prompt_token_ids": before} for before, _ in wanted],
        [params(max_tokens=1, temperature=0, logprobs=0, allowed_token_ids=[t], detokenize=False) for _, t in wanted],
        use_tqdm=False,
        lora_request=lora,
    )
    return [output.outputs[0].logprobs[0][token].logprob for output, (_, token) in zip(outputs, wanted, strict=True)]


if __name__ == "__main__":
    main()
