"""Speaks the language of `vllm_child.py` without vLLM; FAKE_VLLM says how it misbehaves.

Tokens depend on the seed of the response alone; a log-probability on its token alone.
"""

import json
import os
import random
import sys
import time

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
    with open(sys.argv[1]) as stream:
        job = json.load(stream)
    if log := os.environ.get("FAKE_VLLM_JOBS"):
        with open(log, "a") as stream:
            stream.write(json.dumps(job) + "\n")
    off = 1.0 if fault == "other_weights" else 0.001
    size = int(value) if fault == "vocabulary" else VOCABULARY
    probe = [logp(token) + off for ids in job["probe"] for token in ids[1:]]
    say(ready={"vllm": "0.0-fake", "device": "cpu"}, vocabulary=size, probe=probe)
    said = 0
    for seed, rows, _ in reversed(job["requests"]):
        for index, row in enumerate(rows):
            if fault == "die" and said == int(value):
                print('{"row": 1, "tok', end="", flush=True)
                sys.exit("the engine core died")
            if fault == "silent" and said == int(value):
                time.sleep(60)
            ids, reason = tokens(seed + index, job["max_new_tokens"])
            say(row=row, token_ids=ids, finish_reason=reason)
            said += 1
    return None


if __name__ == "__main__":
    main()
