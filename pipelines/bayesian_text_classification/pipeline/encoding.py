"""Texts as model inputs: tokenized once, truncated to the model's limit, padded batch by batch."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .inputs import shown, text_and_pair
from .options import is_int

PADDING = ("padding", "pad_to_multiple_of", "padding_side")


@dataclass(frozen=True)
class Encoded:
    """Tokenized texts.

    Attributes:
        rows: Lists of unequal length, by the tokenizer's names.
        pairs: Whether each item is a pair of texts.
        truncated: Whether each item was longer than the limit.
        padding: The tokenizer's padding arguments, as the caller gave them.
    """

    rows: dict[str, list[list[int]]]
    pairs: list[bool]
    truncated: list[bool]
    padding: dict[str, Any]

    def __len__(self) -> int:
        return len(self.truncated)

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each text."""
        return [len(ids) for ids in self.rows["input_ids"]]

    @property
    def padded_lengths(self) -> list[int]:
        """Number of tokens of each text in a batch by itself, with the caller's padding."""
        if not self.padded:
            return self.lengths
        least = self.padding.get("max_length") or 0
        multiple = self.padding.get("pad_to_multiple_of") or 1
        return [-(-max(length, least) // multiple) * multiple for length in self.lengths]

    @property
    def padded(self) -> bool:
        """Whether the caller allows padding."""
        return self.padding.get("padding", True) not in (False, "do_not_pad")


@dataclass(frozen=True)
class Encoder:
    """A tokenizer with the limits of its model.

    Attributes:
        tokenizer: A transformers tokenizer.
        model: The classifier.
        lock: Guards the tokenizer: fast tokenizers keep truncation and padding in state that threads share.
    """

    tokenizer: Any
    model: nn.Module
    lock: AbstractContextManager[Any]

    @property
    def can_pad(self) -> bool:
        """Whether padding is possible. Decoders need `config.pad_token_id` to find a text's last token."""
        config = self.model.config.get_text_config()  # type: ignore[operator, union-attr]
        return self.tokenizer.pad_token_id is not None and getattr(config, "pad_token_id", None) is not None

    def may_pad(self, encoded: Encoded) -> bool:
        """Whether the caller's padding is one that the probe covered: on the tokenizer's own side."""
        side = encoded.padding.get("padding_side", self.tokenizer.padding_side)
        return self.can_pad and encoded.padded and bool(side == self.tokenizer.padding_side)

    def encode(self, items: Sequence[Any], options: Mapping[str, Any], first: int = 0) -> Encoded:
        """Tokenize to lists of ids without padding, truncated to the model's limit.

        Args:
            items: Texts, each a str or a dict with "text" and, for a pair, "text_pair".
            options: Arguments of the tokenizer's call.
            first: Number of the first item, for error messages.
        """
        options = dict(options)
        padding = {name: options.pop(name) for name in PADDING if name in options}
        multiple = padding.get("pad_to_multiple_of")
        if multiple is not None and not (is_int(multiple) and multiple >= 1):
            raise ValueError(f"pad_to_multiple_of={multiple!r}; it must be an integer of at least 1")
        pair_for_all = options.pop("text_pair", None)
        pairs = [text_and_pair(item, f"input {first + i}") for i, item in enumerate(items)]
        texts, seconds = (
            [text for text, _ in pairs],
            [pair_for_all if second is None else second for _, second in pairs],
        )
        options.setdefault("truncation", True)
        if options["truncation"] or padding.get("padding") == "max_length":
            limits = [limit for limit in (options.get("max_length"), self.length_limit()) if limit is not None]
            options["max_length"] = min(limits, default=None)
        if padding.get("padding") == "max_length":
            padding["max_length"] = options["max_length"]
        with self.lock:
            rows = _tokenized(self.tokenizer, texts, seconds, options)
            truncated = [False] * len(texts)
            full = [i for i, ids in enumerate(rows["input_ids"]) if len(ids) == options.get("max_length")]
            if options["truncation"] and full:
                untruncated = {**options, "truncation": False, "max_length": None, "verbose": False}
                whole = _tokenized(self.tokenizer, [texts[i] for i in full], [seconds[i] for i in full], untruncated)
                for i, ids in zip(full, whole["input_ids"], strict=True):
                    truncated[i] = len(ids) > len(rows["input_ids"][i])
        if empty := [i for i, ids in enumerate(rows["input_ids"]) if not ids]:
            reason = "it tokenizes to zero tokens"
            message = f"input {first + empty[0]} is {shown(items[empty[0]])}; {reason}"
            raise InputError(message, {first + i: reason for i in empty})
        # The model does not accept offsets and lengths.
        rows = {name: values for name, values in rows.items() if name in self.tokenizer.model_input_names}
        return Encoded(rows, [second is not None for second in seconds], truncated, padding)

    def end_counts(self, encoded: Encoded) -> list[int]:
        """Number of end-of-sequence tokens in each text; a text may contain one literally, such as "</s>"."""
        config = self.model.config.get_text_config()  # type: ignore[operator, union-attr]
        known = getattr(config, "eos_token_id", None)
        ends = set(known if isinstance(known, (list, tuple)) else [known])
        return [sum(token in ends for token in ids) for ids in encoded.rows["input_ids"]]

    def tensors(self, encoded: Encoded, texts: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Build the inputs of `texts` (indices) as one batch, padded to the longest. *Shape:* (texts, length) each."""
        rows: Mapping[str, Any] = {name: [values[i] for i in texts] for name, values in encoded.rows.items()}
        if encoded.padded and self.can_pad:
            with self.lock:
                rows = self.tokenizer.pad(rows, **{"padding": True, **encoded.padding}, return_tensors="pt")
        return {name: torch.as_tensor(values).to(device) for name, values in rows.items()}

    @property
    def truncation(self) -> dict[str, Any]:
        """The tokenizer options that truncate to the model's limit."""
        limit = self.length_limit()
        return {} if limit is None else {"truncation": True, "max_length": limit}

    def length_limit(self) -> int | None:
        """The most tokens that tokenizer and model accept; None if neither has a limit."""
        limits = [self.tokenizer.model_max_length] if self.tokenizer.model_max_length < 10**9 else []
        config = self.model.config.get_text_config()  # type: ignore[operator, union-attr]
        positions = getattr(config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            # RoBERTa and similar models number positions from padding_idx + 1.
            offsets = [
                padding_idx + 1
                for name, module in self.model.named_modules()
                if name.endswith("position_embeddings")
                and isinstance(padding_idx := getattr(module, "padding_idx", None), int)
            ]
            limits.append(positions - max(offsets, default=0))
        return min(limits, default=None)


def _tokenized(
    tokenizer: Any, texts: list[str], seconds: list[str | None], options: Mapping[str, Any]
) -> dict[str, list[list[int]]]:
    """Tokenize texts; one by one if only some are pairs, since the tokenizer would mix them up in one call."""
    if all(second is None for second in seconds):
        return dict(tokenizer(texts, **options))
    if all(second is not None for second in seconds):
        return dict(tokenizer(texts, seconds, **options))
    rows = [tokenizer(text, second, **options) for text, second in zip(texts, seconds, strict=True)]
    return {name: [row[name] for row in rows] for name in rows[0]}
