"""Text encodings by prompt: a distinct prompt is encoded once, alone, and kept in host memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

Encoding = dict[str, torch.Tensor]
"""What a text encoder makes of one prompt, by the names of the pipeline's arguments."""

KEPT_BYTES = 2 * 2**30
"""Encodings of earlier prompts are forgotten beyond this; those asked for last are kept whatever they take."""


class Encodings:
    """Encodes prompts one at a time: the encoding of a prompt must not depend on which others came along."""

    def __init__(self, encode: Callable[[str], Encoding]) -> None:
        self._encode = encode
        self._kept: dict[str, Encoding] = {}

    def missing(self, prompts: Iterable[str]) -> list[str]:
        """The distinct prompts that are not encoded yet."""
        return [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._kept]

    def add(self, prompts: Sequence[str]) -> None:
        """Encodes what is missing."""
        for prompt in self.missing(prompts):
            self._kept[prompt] = {name: tensor.cpu() for name, tensor in self._encode(prompt).items()}
        if sum(tensor.nbytes for encoding in self._kept.values() for tensor in encoding.values()) > KEPT_BYTES:
            self._kept = {prompt: self._kept[prompt] for prompt in dict.fromkeys(prompts)}

    def batch(self, prompts: Sequence[str], device: torch.device) -> Encoding:
        """The encodings of prompts, stacked: each [batch, ...]."""
        self.add(prompts)
        names = self._kept[prompts[0]]
        return {name: torch.stack([self._kept[prompt][name] for prompt in prompts]).to(device) for name in names}
