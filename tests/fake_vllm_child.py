"""Speaks the language of `vllm_child.py` without vLLM; FAKE_VLLM says how it misbehaves.

Tokens depend on the seed of the response alone; a log-probability on its token alone.
"""

import json
import os
import random
import runpy
import sys
import time
from pathlib import Path

CHILD = Path(__file__).parents[1] / "src/sparring/sampling/vllm_child.py"

END, VOCABULARY = 256, 260


def tokens(seed, length):
    draw = random.Random(seed)
    ids = [draw.randrange(97, 123) for _ in range(draw.randrange(1, length + 2))]
    return (ids[:length], "length") if len(ids) > length else ([*ids[:-1], END], "stop")


def logp(token):
    return -1 - token % 7 / 7


def say(**message):
    print(json.dumps(message), flush=True)


def main():
    fault, _, value = os.environ.get("FAKE_VLLM", "").partition("=")
    if fault == "start":
        sys.exit(value)
    if sys.argv[1] == "check":
        return say(vllm=None if fault == "missing" else "0.0-fake", python="3")
    job, started = {}, None
    for line in sys.stdin:
        order = json.loads(line)
        if log := os.environ.get("FAKE_VLLM_JOBS"):
            with open(log, "a") as stream:
                stream.write(json.dumps({"process": os.getpid(), **order}) + "\n")
        if "policy" in order:
            job = order["policy"]
            reloaded = started is not None and started != job["model"]
            started = job["model"]
            if fault == "always_stale":
                say(stale="RuntimeError: no prefix cache")
                continue
            if fault == "cannot_reload" and reloaded:
                say(stale="TypeError: reload_weights() got an unexpected keyword")
                continue
            off = 1.0 if fault == "other_weights" or (fault == "stale_probe" and reloaded) else 0.001
            size = int(value) if fault == "vocabulary" else VOCABULARY
            other = fault == "other_form" or (fault == "stale_weights" and reloaded)
            probe = [logp(token) + off for ids in job["probe"] for token in ids[1:]]
            fingerprint = 1 if other else fingerprint_of(job["model"])
            if os.environ.get("FAKE_VLLM_MODEL") == "true":
                probe, fingerprint = true_probe(job)
            say(
                ready={"vllm": "0.0-fake", "device": "cpu"},
                vocabulary=size,
                probe=probe,
                fingerprint=fingerprint if job["keep"] else None,
            )
        elif "requests" in order:
            draw(order["requests"], job, fault, value)
            say(done=True)
        elif fault == "cannot_rest":
            sys.exit("CUDA error: out of memory, at rest")
        else:
            say(resting=True)
            if fault == "dies_at_rest":
                sys.exit("CUDA error: out of memory, at rest")
    return None


def true_probe(job):
    """Of the model in the folder, as vLLM would say it: for parents in other processes, which no test can patch."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=getattr(torch, job["precision"]))
    with torch.inference_mode():
        logps = [model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1) for ids in job["probe"]]
    probe = [float(p[i, ids[i + 1]]) for p, ids in zip(logps, job["probe"], strict=True) for i in range(len(ids) - 1)]
    return probe, runpy.run_path(str(CHILD))["fingerprint"](model.parameters())


def fingerprint_of(folder):
    """Of what the fake serves from a folder."""
    return sum(folder.encode())


def draw(requests, job, fault, value):
    said = 0
    for seed, rows, _ in reversed(requests):
        for index, row in enumerate(rows):
            if fault == "die" and said == int(value):
                print('{"row": 1, "tok', end="", flush=True)
                sys.exit("the engine core died")
            if fault == "die_once" and not os.path.exists(value):
                open(value, "w").close()
                sys.exit("the engine core died, once")
            if fault == "silent" and said == int(value):
                time.sleep(60)
            ids, reason = tokens(seed + index, job["max_new_tokens"])
            say(row=row, token_ids=ids, finish_reason=reason)
            said += 1


if __name__ == "__main__":
    main()
