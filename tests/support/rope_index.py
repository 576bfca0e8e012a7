# SPDX-License-Identifier: Apache-2.0
"""Positions of a prompt with pictures and videos, as section 2.1 of Qwen2-VL's paper defines them.

arXiv 2409.12191: each kind of input begins one after the largest position of what stands before it.
transformers 4 counts so. transformers 5 begins after a video at its height or width, whichever is
larger, so that what follows a long clip gets positions that the clip's frames have already.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

__all__ = ["TEXT", "IMAGE", "VIDEO", "positions"]

TEXT, IMAGE, VIDEO = range(3)


def positions(
    kinds: Sequence[int],
    images: torch.Tensor | None,
    videos: torch.Tensor | None,
    *,
    merge: int,
    frame_step: float = 1.0,
) -> torch.Tensor:
    """Time, row and column of each token of one prompt.

    With ``b`` one more than all positions before: text counts ``b, b + 1, ...`` in all three; the
    token of a frame ``t``, row ``r`` and column ``c`` has ``(b + floor(t * step), b + r, b + c)``.

    Args:
        kinds: of each token; every picture and video has tokens of other kinds at its sides.
        images: frames, rows and columns of patches of each picture, ``[pictures, 3]``.
        videos: those of each video.
        merge: patches a token, along rows and along columns.
        frame_step: positions from one pair of frames of a video to the next.

    Returns:
        int64 ``[3, tokens]``.
    """
    grids = {
        kind: iter([] if table is None else table.tolist())
        for kind, table in ((IMAGE, images), (VIDEO, videos))
    }
    parts: list[torch.Tensor] = []
    begin = 0
    for kind, group in groupby(kinds):
        if kind == TEXT:
            axis = torch.arange(len(list(group)))
            part = axis.expand(3, -1)
        else:
            frames, rows, columns = next(grids[kind])
            step = frame_step if kind == VIDEO else 1.0
            times = (torch.arange(frames) * step).floor().long()
            axes = times, torch.arange(rows // merge), torch.arange(columns // merge)
            part = torch.cartesian_prod(*axes).T
            assert part.shape[1] == len(list(group))
        parts.append(part + begin)
        begin = int(parts[-1].max()) + 1
    return torch.cat(parts, 1)
