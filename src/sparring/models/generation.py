"""A model's generation settings (`generation_config.json`), made such that they can be saved with a policy.

model.generation_config = writable_generation(model.generation_config)
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

from transformers import GenerationConfig

ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def writable_generation(config: GenerationConfig) -> GenerationConfig:
    """The generation settings if transformers writes them, else what is nearest and can be written.

    It reads temperature and top_p without do_sample, and refuses to write them: they mean sampling, so that is set.
    Where this does not help, only the special tokens are kept.
    """
    if _writes(config):
        return config
    sampled = copy.deepcopy(config)
    sampled.do_sample = True
    if _writes(sampled):
        return sampled
    ends = {name: getattr(config, name) for name in ENDS}
    return GenerationConfig(
        **{name: value for name, value in ends.items() if not (isinstance(value, int) and value < 0)}
    )


def _writes(config: GenerationConfig) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            config.save_pretrained(folder)
            GenerationConfig.from_pretrained(folder)
        except Exception:  # values of any type stand in such files
            return False
    return True


def generation_note(folder: Path) -> str:
    """What `load_model` changes in the folder's generation settings, for the user; "" for nothing."""
    if not (folder / "generation_config.json").exists():
        return ""
    config = GenerationConfig.from_pretrained(folder)
    kept = writable_generation(config)
    if kept is config:
        return ""
    how = "they are kept with do_sample: true" if kept.do_sample else "only the special tokens are kept"
    return f"note  {folder / 'generation_config.json'} holds settings that cannot be saved again; {how}"
