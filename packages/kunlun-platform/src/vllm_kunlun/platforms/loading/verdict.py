# SPDX-License-Identifier: Apache-2.0
"""Whether a checkpoint fills a model: every parameter, every part of a fused one, nothing cut."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch

from vllm_kunlun.platforms.errors import CheckpointError
from vllm_kunlun.platforms.loading.writes import Target, Writes

__all__ = ["OPTIONAL", "UNCHECKED", "check", "check_kinds", "fused_layers", "unfilled"]

OPTIONAL = (
    "g_idx",  # of GPTQ without desc_act, which some quantisers leave out
    "weight_g_idx",
    "weight_shape",  # the packed weight has the same numbers
    # Of a key-value cache in fp8, which there is not.
    "q_scale",
    "k_scale",
    "v_scale",
    "prob_scale",
    "q_zero_point",
    "k_zero_point",
    "v_zero_point",
    # What compressed-tensors' attention has made of these by the time of a reload.
    "_q_scale",
    "_k_scale",
    "_v_scale",
)
"""Last parts of the names of parameters that a checkpoint may leave out."""

UNCHECKED = "To load it as it is, set VLLM_KUNLUN_CHECK_WEIGHTS=0."
"""The last step that each refusal names."""

_FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
"""What most models call the parts of a fused layer, and some do not say."""

_SHOWN = 4
_EXPERT = re.compile(r"(.*\bexperts\.)(\d+)(\..+)")
_PART = re.compile(r"(?:(.+)\.)?(\w+)\.parts\.(\d+)\.(\w+)")
"""A parameter of one part of a fused layer whose parts are quantised in different ways."""


def check(
    writes: Writes,
    loaded: Collection[str] | None,
    *,
    place: str,
    ranks: Mapping[str, int],
    fused: Mapping[str, Sequence[str]],
) -> None:
    """Refuse a checkpoint by what its tensors wrote to a model's parameters.

    Args:
        loaded: the parameters that the model's ``load_weights`` says it has filled, also in ways of
            its own; None if it does not say.
        place: where the tensors came from, for the message.
        ranks: parameter -> how many ranks read one of its tensors together, where that is known.
        fused: name of a fused layer -> the layers of the checkpoint that it is made of.

    Raises:
        CheckpointError: naming the tensor: it is missing, it would be cut, or it holds numbers of
            another kind than the layer's.
    """
    check_kinds(writes)
    if missing := list(unfilled(writes.targets, loaded, fused)):
        more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise CheckpointError(
            f"{place} does not fill {len(missing)} of the model's {len(writes.targets)} "
            f"parameters; missing: {'; '.join(missing[:_SHOWN])}{more}. Copy all files of the "
            "checkpoint again; if none is missing, config.json (sizes, quantization_config) does "
            f"not belong to it. {UNCHECKED}"
        )
    for parameter, target in writes.targets.items():
        for source in target.sources.values():
            used = source.used * ranks.get(parameter, 0)
            size = math.prod(source.shape)
            if 0 < used < size:
                raise CheckpointError(
                    f"{source.name} in {source.file} has shape {list(source.shape)}, of which "
                    f"{parameter} takes {used} of {size} elements: config.json says that it is "
                    f"smaller. Use the config.json that belongs to the checkpoint. {UNCHECKED}"
                )


def check_kinds(writes: Writes) -> None:
    """Raises: CheckpointError: a tensor holds numbers of another kind than its parameter."""
    for parameter, source, came, expected in writes.casts:
        if "scale" in parameter.rpartition(".")[2]:
            continue  # powers of two, in floats of one byte
        plain = [str(each).removeprefix("torch.") for each in (came, expected)]
        raise CheckpointError(
            f"{source.name} in {source.file} is {plain[0]}, and {parameter} is {plain[1]}: the "
            "checkpoint is quantised in another way than config.json says, or damaged. Correct "
            f"quantization_config in config.json, or fetch the checkpoint again. {UNCHECKED}"
        )


def unfilled(
    targets: Mapping[str, Target],
    loaded: Collection[str] | None,
    fused: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """What is missing of the parameters ``targets``; arguments as of :func:`check`."""
    for name, target in targets.items():
        if 0 < target.written < target.size:
            yield _parts(name, target, fused)
        elif target.written < target.size and not (
            name in (loaded or ()) or name.rpartition(".")[2] in OPTIONAL
        ):
            yield _in_checkpoint(name, fused)


def _in_checkpoint(name: str, fused: Mapping[str, Sequence[str]]) -> str:
    """What the checkpoint calls a parameter: a part that is a layer of its own goes by its name."""
    found = _PART.fullmatch(name)
    if found is None or found[2] not in fused:
        return name
    layer = fused[found[2]][int(found[3])]
    return ".".join(part for part in (found[1], layer, found[4]) if part)


def _parts(name: str, target: Target, fused: Mapping[str, Sequence[str]]) -> str:
    """What is missing of a parameter that was written in part."""
    came = sorted(target.sources)
    layer, _, leaf = name.rpartition(".")
    stem, _, kind = layer.rpartition(".")
    absent = [
        f"{stem}.{part}.{leaf}"
        for part in fused.get(kind, ())
        if not any(f".{part}." in one for one in came)
    ]
    if not absent and (found := [match for one in came if (match := _EXPERT.fullmatch(one))]):
        stem = found[0][1]
        numbers = [int(each[2]) for each in found]
        every = {
            f"{stem}{number}{rest}"
            for number in range(min(numbers), max(numbers) + 1)
            for rest in {each[3] for each in found}
        }
        absent = sorted(every - set(came))
    if absent:
        return ", ".join(absent[:_SHOWN])
    share = f"{target.size - target.written} of {target.size} elements"
    return f"{share} of {name}, to which {', '.join(came[:_SHOWN])} belong"


def fused_layers(model: torch.nn.Module) -> dict[str, Sequence[str]]:
    """Name of a fused layer of ``model`` -> the layers of the checkpoint that it is made of."""
    said = [getattr(module, "packed_modules_mapping", None) or {} for module in model.modules()]
    return {name: parts for each in (_FUSED, *said) for name, parts in each.items()}
