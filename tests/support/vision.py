# SPDX-License-Identifier: Apache-2.0
"""Tiny random vision-language checkpoints with a processor, and what HF transformers answers.

The tokenizer has a token for each byte and no merges; pictures are noise of a few patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from packaging.version import Version
from PIL import Image
from safetensors.torch import load_file, save_file
from support import rope_index
from support.checkpoints import VOCABULARY
from support.reference import judgement
from support.w8a8 import float_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata

COUNTS_AS_PUBLISHED = Version(transformers.__version__).major < 5
"""Whether transformers numbers what follows a video as :mod:`support.rope_index` does."""

SPECIAL = {
    "<|endoftext|>": 256,
    "<|im_start|>": 257,
    "<|im_end|>": 258,
    "<|vision_start|>": 259,
    "<|vision_end|>": 260,
    "<|image_pad|>": 261,
    "<|video_pad|>": 262,
    "<img>": 263,
    "</img>": 264,
    "<IMG_CONTEXT>": 265,
    "<video>": 266,
}
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% elif 'image' in part.type %}" + IMAGE + "{% elif 'video' in part.type %}" + VIDEO + ""
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)

_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "initializer_range": 0.15,
    "tie_word_embeddings": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 256,
}
_IDS = {
    "image_token_id": SPECIAL["<|image_pad|>"],
    "video_token_id": SPECIAL["<|video_pad|>"],
    "vision_start_token_id": SPECIAL["<|vision_start|>"],
    "vision_end_token_id": SPECIAL["<|vision_end|>"],
    "tie_word_embeddings": False,
}
_PATCHES = {"temporal_patch_size": 2, "spatial_merge_size": 2, "initializer_range": 0.1}
_EIGHT = {"depth": 4, "num_heads": 4, "hidden_size": 64, "intermediate_size": 96, **_PATCHES}


def _qwen2_vl() -> transformers.PretrainedConfig:
    vision = {"depth": 3, "embed_dim": 64, "hidden_size": 128, "num_heads": 4, "mlp_ratio": 2,
              "patch_size": 14, **_PATCHES}  # fmt: skip
    return transformers.Qwen2VLConfig(text_config=_TEXT, vision_config=vision, **_IDS)


def _qwen2_5_vl() -> transformers.PretrainedConfig:
    vision = {**_EIGHT, "out_hidden_size": 128, "patch_size": 14, "window_size": 56,
              "fullatt_block_indexes": [1, 3], "tokens_per_second": 2}  # fmt: skip
    return transformers.Qwen2_5_VLConfig(text_config=_TEXT, vision_config=vision, **_IDS)


_QWEN3_VISION = {**_EIGHT, "out_hidden_size": 128, "patch_size": 16,
                 "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]}  # fmt: skip
_QWEN3_TEXT = {
    **_TEXT,
    "rope_scaling": {
        "rope_type": "default",
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    },
}


def _qwen3_vl() -> transformers.PretrainedConfig:
    return transformers.Qwen3VLConfig(text_config=_QWEN3_TEXT, vision_config=_QWEN3_VISION, **_IDS)


def _qwen3_vl_moe() -> transformers.PretrainedConfig:
    # No matrix is square, so that none can be mistaken for its transpose.
    experts = {"moe_intermediate_size": 96, "num_experts": 8, "num_experts_per_tok": 2,
               "norm_topk_prob": True}  # fmt: skip
    return transformers.Qwen3VLMoeConfig(
        text_config={**_QWEN3_TEXT, **experts}, vision_config=_QWEN3_VISION, **_IDS
    )


def _internvl() -> transformers.PretrainedConfig:
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
              "num_attention_heads": 4, "image_size": [56, 56], "patch_size": [14, 14],
              "use_qk_norm": False, "layer_scale_init_value": 1.0,
              "initializer_range": 0.1}  # fmt: skip
    text = transformers.Qwen2Config(
        **{**_TEXT, "rope_scaling": None, "architectures": ["Qwen2ForCausalLM"]}
    )
    return transformers.InternVLConfig(
        text_config=text.to_dict(),
        vision_config=vision,
        image_token_id=SPECIAL["<IMG_CONTEXT>"],
        image_seq_length=4,
        tie_word_embeddings=False,
    )


CONFIGURATIONS = {
    "internvl": _internvl,
    "qwen2-vl": _qwen2_vl,
    "qwen2.5-vl": _qwen2_5_vl,
    "qwen3-vl": _qwen3_vl,
    "qwen3-vl-moe": _qwen3_vl_moe,
}


# InternVL's processor asks its tokenizer for these by name; Qwen's would take "video_token", too.
_INTERNVL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def tokenizer(**named: Any) -> transformers.PreTrainedTokenizerFast:
    """A byte is a token; ``named`` special tokens can be asked for by their name."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    return transformers.Qwen2TokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
        extra_special_tokens=named,
        chat_template=CHAT,
    )


def _processor(name: str) -> transformers.ProcessorMixin:
    if name == "internvl":
        size = {"height": 56, "width": 56}
        return transformers.InternVLProcessor(
            image_processor=transformers.GotOcr2ImageProcessorFast(
                size=size, crop_to_patches=True, min_patches=1, max_patches=4
            ),
            tokenizer=tokenizer(**_INTERNVL_TOKENS),
            video_processor=transformers.InternVLVideoProcessor(size=size),
            image_seq_length=4,
            chat_template=CHAT,
        )
    patch = 16 if name.startswith("qwen3") else 14
    token = (2 * patch) ** 2
    sizes = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    sizes |= {"min_pixels": 4 * token, "max_pixels": 16 * token}
    if name.startswith("qwen3"):
        # As public ones have: pictures and videos alike, or newer vLLM confuses them.
        sizes |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    kinds = {
        "qwen2-vl": (transformers.Qwen2VLProcessor, transformers.Qwen2VLVideoProcessor),
        "qwen2.5-vl": (transformers.Qwen2_5_VLProcessor, transformers.Qwen2VLVideoProcessor),
    }
    kind, video = kinds.get(
        name, (transformers.Qwen3VLProcessor, transformers.Qwen3VLVideoProcessor)
    )
    return kind(
        image_processor=transformers.Qwen2VLImageProcessorFast(**sizes),
        tokenizer=tokenizer(),
        video_processor=video(**sizes),
        chat_template=CHAT,
    )


def write(name: str, folder: Path, seed: int = 0) -> Path:
    """Save a random checkpoint of one of the configurations, in float32, with its processor."""
    torch.manual_seed(seed)
    configuration = CONFIGURATIONS[name]()
    model = transformers.AutoModelForImageTextToText.from_config(configuration)
    for key, parameter in model.named_parameters():
        # Norm weights start as constants: give them values that a mistake would show.
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=parameter.data.mean().item(), std=0.1)
        elif "experts" in key:
            torch.nn.init.normal_(parameter, std=0.15)
        assert torch.isfinite(parameter).all(), key
    # Never an answer: a judge would take it for a picture's place.
    model.get_output_embeddings().weight.data[list(SPECIAL.values())] = 0
    model.save_pretrained(folder)
    if name == "qwen3-vl-moe":
        _experts_as_published(folder / "model.safetensors")
    _processor(name).save_pretrained(folder)
    return folder


def _experts_as_published(file: Path) -> None:
    """Public ones hold ``[experts, in, out]``; transformers 5 saves its own form."""
    weights = load_file(file)
    for name, weight in list(weights.items()):
        if name.endswith("experts.down_proj") and weight.shape[-1] != _TEXT["hidden_size"]:
            for each in (name, name.replace("down_proj", "gate_up_proj")):
                weights[each] = weights[each].transpose(1, 2).contiguous()
    save_file(weights, file, metadata={"format": "pt"})


@dataclass(frozen=True)
class Request:
    """A prompt, with what its placeholders stand for."""

    prompt: str
    images: Sequence[Image.Image] = ()
    video: np.ndarray | None = field(default=None, compare=False)
    """uint8 ``[frames, height, width, 3]``."""

    def placed(self, name: str) -> Request:
        """The request with the placeholders of the model ``name``."""
        if name != "internvl":
            return self
        prompt = self.prompt.replace(IMAGE, "<IMG_CONTEXT>").replace(VIDEO, "<video>")
        return replace(self, prompt=prompt)

    def metadata(self) -> dict[str, Any]:
        """Two frames a second, all of them taken."""
        assert self.video is not None
        count = len(self.video)
        return {
            "fps": 2.0,
            "duration": count / 2,
            "total_num_frames": count,
            "frames_indices": list(range(count)),
            "video_backend": "opencv",
        }

    def for_vllm(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if self.images:
            data["image"] = list(self.images)
        if self.video is not None:
            data["video"] = [(self.video, {**self.metadata(), "do_sample_frames": False})]
        return {"prompt": self.prompt, **({"multi_modal_data": data} if data else {})}


def picture(seed: int, height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def clip(seed: int, frames: int, height: int, width: int) -> np.ndarray:
    shape = (frames, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


ENGINE: dict[str, Any] = {
    "skip_tokenizer_init": False,
    "limit_mm_per_prompt": {"image": 2, "video": 1},
    "max_model_len": 512,
    "kv_cache_memory_bytes": None,  # measured by its largest step, as for a user
}
"""What an engine must be told to answer :data:`REQUESTS`."""

REQUESTS = [
    Request(f"{IMAGE}What is this?", [picture(0, 60, 90)]),
    Request("No picture at all here."),
    Request(f"One {IMAGE} and another {IMAGE}: compare.", [picture(1, 84, 56), picture(2, 56, 56)]),
    Request(f"Watch {VIDEO} and tell.", video=clip(3, 4, 56, 84)),
    Request(f"{VIDEO}{IMAGE}Both.", [picture(4, 120, 60)], clip(5, 6, 56, 56)),
]


class VisionReference:
    """HF's model, or one with its processor that is made already."""

    def __init__(self, folder: Path, model: transformers.PreTrainedModel | None = None) -> None:
        self.model = float_model(folder) if model is None else model
        self.processor = AutoProcessor.from_pretrained(folder)
        if self.has_frame_positions and not COUNTS_AS_PUBLISHED:
            self.model.model.get_rope_index = self._rope_index

    @property
    def has_frame_positions(self) -> bool:
        """Whether a video's tokens count its frames, which later models tell by text between."""
        return self.model.config.model_type in ("qwen2_vl", "qwen2_5_vl")

    def positions(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Those of :mod:`support.rope_index` for one prompt that the processor made."""
        config = self.model.config
        kinds = torch.zeros_like(inputs["input_ids"][0])
        kinds[inputs["input_ids"][0] == config.image_token_id] = rope_index.IMAGE
        kinds[inputs["input_ids"][0] == config.video_token_id] = rope_index.VIDEO
        seconds = inputs.get("second_per_grid_ts")
        return rope_index.positions(
            kinds.tolist(),
            inputs.get("image_grid_thw"),
            inputs.get("video_grid_thw"),
            merge=config.vision_config.spatial_merge_size,
            frame_step=1.0
            if seconds is None
            else config.vision_config.tokens_per_second * float(seconds[0]),
        )

    def _rope_index(self, input_ids: torch.Tensor, **others: Any) -> tuple[torch.Tensor, ...]:
        """Stands for the method of HF's model, for one prompt without padding."""
        made = self.positions({"input_ids": input_ids, **others})
        return made[:, None], (made.max() + 1 - made.shape[1]).reshape(1, 1)

    def inputs(self, request: Request) -> Mapping[str, torch.Tensor]:
        media: dict[str, Any] = {}
        if request.images:
            media["images"] = list(request.images)
        if request.video is not None:
            media["videos"] = [request.video]
            media["video_metadata"] = [VideoMetadata(**request.metadata())]
            media["do_sample_frames"] = False
        made: Mapping[str, torch.Tensor] = self.processor(
            text=[request.prompt], return_tensors="pt", **media
        )
        return made

    @torch.inference_mode()
    def greedy(self, request: Request, count: int) -> list[int]:
        """``count`` greedy tokens, end-of-sequence ignored."""
        inputs = self.inputs(request)
        output = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
        )
        answer: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
        return answer

    @torch.inference_mode()
    def judge(self, request: Request, tokens: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """As :meth:`support.reference.Reference.judge`."""
        inputs = dict(self.inputs(request))
        length = inputs["input_ids"].shape[1]
        answer = torch.tensor([tokens[:-1]])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
        if "mm_token_type_ids" in inputs:  # of transformers 5: an answer is text, kind 0
            kinds = inputs["mm_token_type_ids"]
            inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(answer)], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return judgement(self.model(**inputs).logits[0, length - 1 :], tokens)
