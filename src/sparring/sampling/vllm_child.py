"""A script inside vLLM's own environment: it serves one policy for one job and exits.

Started as a script by `vllm_engine.py`, possibly under another Python with other packages, so it imports the
standard library and vLLM and nothing of Sparring. It reads a job (JSON file) and writes one JSON line per
finished response to what was its standard output; vLLM's own chatter goes to standard error. When its
standard input closes, its parent is gone, and it ends with everything it started.

    python vllm_child.py check                 # is vLLM here, and which?
    python vllm_child.py job.json
"""
# pyright: reportMissingImports=false

import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import threading

NUCLEUS = 512
"""tokens looked at first for top_p on CPUs; the whole vocabulary is sorted only for rows that need more"""
CPU_KV_CACHE_GIB = 2.0
"""on CPUs vLLM would take most of the machine's memory"""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""the sizes that vLLM has room for"""


def main():
    """Check, or serve a job."""
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**message):
        lines.write(json.dumps(message) + "\n")

    if sys.argv[1] == "check":
        return say(**versions())
    threading.Thread(target=end_with_parent, daemon=True).start()
    with open(sys.argv[1], encoding="utf-8") as stream:
        job = json.load(stream)
    serve(job, say)
    lines.flush()
    # Interpreter shutdown can hang in vLLM's threads, and every line is written.
    os._exit(0)


def versions():
    """Versions of what is installed here; "vllm" is null where it is not."""
    if importlib.util.find_spec("vllm") is None:
        return {"vllm": None, "python": sys.version.split()[0]}
    names = importlib.metadata.packages_distributions().get("vllm", ["vllm"])
    return {"vllm": importlib.metadata.version(names[0]), "python": sys.version.split()[0]}


def end_with_parent():
    """Kill this process group when the parent's end of standard input closes."""
    while os.read(0, 1):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


def serve(job, say):
    """Serve the policy: write its log-probabilities of the probe, then every response as it is finished."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from vllm.platforms import current_platform

    cpu = current_platform.is_cpu()
    if cpu and job["tensor_parallel"] == 1:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind

    nucleus = cpu and job["top_p"] < 1 and job["tensor_parallel"] == 1
    llm = LLM(**engine_arguments(job, cpu, nucleus))
    lora = LoRARequest("policy", 1, job["adapter"]) if job["adapter"] else None
    config = llm.llm_engine.model_config.hf_text_config
    say(
        ready={**versions(), "device": current_platform.device_name},
        vocabulary=config.vocab_size,
        probe=probe(llm, SamplingParams, lora, job["probe"]),
    )
    engine = llm.llm_engine
    greedy = job["temperature"] == 0  # then all responses of a prompt are one, and vLLM refuses to draw several
    for index, (seed, rows, prompt_ids) in enumerate(job["requests"]):
        params = SamplingParams(
            n=1 if greedy else len(rows),
            seed=seed,
            temperature=job["temperature"],
            top_p=1.0 if nucleus else job["top_p"],
            max_tokens=job["max_new_tokens"],
            stop_token_ids=job["end_ids"],
            ignore_eos=True,  # the end tokens above say it all
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(str(index), {"prompt_token_ids": prompt_ids}, params, lora_request=lora)
    while engine.has_unfinished_requests():
        for output in engine.step():
            rows = job["requests"][int(output.request_id)][1]
            for drawn in output.outputs:
                for row in rows if greedy else [rows[drawn.index]]:
                    say(row=row, token_ids=list(drawn.token_ids), finish_reason=drawn.finish_reason)


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
    if gib is not None:
        arguments["kv_cache_memory_bytes"] = int(gib * 2**30)
    if job["max_sequences"] is not None:
        arguments["max_num_seqs"] = job["max_sequences"]
    if job["adapter"]:
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
