"""The base class for what belongs to a classifier's scope: learning it, and the level below which a text is too new."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, in_one_line
from .features import NO_STATES
from .inputs import first_half, text_and_pair, text_key
from .options import SCOPE, Activation, Options
from .progress import Progress, progress_bar
from .sampled import SampledPipeline
from .saved_arrays import UNREADABLE, file_of, read_arrays, write_arrays
from .scope import LEAST_TEXTS, Scope, scope_of
from .targets import labeled
from .text_sampler import some_weights

_LEARN = "call classifier.learn_scope(texts)"


class ScopedPipeline(SampledPipeline):
    """A pipeline that knows what the texts that it was made for look like."""

    @property
    def scope(self) -> Scope | None:
        """What `learn_scope` has learned; None if nothing. Set it to that of another classifier of the same weights."""
        return self._sampler.known_scope()

    @scope.setter
    def scope(self, value: Scope | None) -> None:
        if value is not None:  # a classifier that was loaded with the code of a saved folder has classes of its own
            value = Scope.of_saved(value.saved())
            if not value.is_of(some_weights(self.model)):
                raise ValueError(f"the scope was learned for other weights; {_LEARN}")
            if self.novelty_level is not None:
                value.check_level(self.novelty_level)
        elif self.novelty_level is not None:
            self.novelty_level = None
        self._sampler.know_scope(value)

    @property
    def novelty_level(self) -> float | None:
        """Default p-value at or below which a text is too new to be classified; None: every text is classified."""
        return self.sampling.novelty_level

    @novelty_level.setter
    def novelty_level(self, value: float | None) -> None:
        self._scope_for(replace(self.sampling, novelty_level=value))
        self._change({"novelty_level": value})

    def learn_scope(
        self,
        texts: Sequence[Any],
        labels: Sequence[Any] | None = None,
        held_out: Sequence[Any] | None = None,
        *,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> Scope:
        """Learn what texts of the classifier's scope look like, and report the novelty of every text from now on.

        Each result then also has `novelty`, the distance of the text's features from the nearest class (see `Scope`),
        and `novelty_p_value`: the share of texts of the scope that are at least as far. With `novelty_level=0.01`, a
        text whose p-value is at most 0.01 gets no label. That happens to at most 1% of the texts of the scope, on
        average over draws of the held-out texts and over all classes (not within each class). With n held-out texts,
        the share is drawn from Beta(k, n + 1 - k), k = floor(0.01 (n + 1)): for n = 1,000, 0.5 to 1.7% in 95% of draws.

        Novelty takes one ordinary pass: that of `num_samples=0` itself, or one more for a sampled call. An ensemble
        takes the features of its first model. `save_pretrained` saves the scope.

        Args:
            texts: Texts like those that the classifier is for, as in a call. They may be its training texts if
                `held_out` is given.
            labels: Their true classes, as for `calibrate`. None: the classes that the model predicts.
            held_out: Other such texts, for the p-values. The model must not have been trained on them: its training
                texts are closer to their classes than new ones, so too many new texts would seem strange. Pass them as
                they come; repeated texts count as often as they are there. Those that are also in `texts` are left out.
                None: half of the distinct `texts`, chosen by their hash. The model must then have been trained on none
                of them.
            progress: Called after each batch with its number of texts. None: a bar appears after 5 seconds, in a
                terminal or a notebook.
            **kwargs: Arguments of the tokenizer's call, and `batch_size`.

        Raises:
            ValueError: There are too few texts, a label is unknown, the model's outputs are not finite, or it has no
                hidden states.
        """
        _, call = self._for_arrays({**kwargs, "num_samples": 0})
        head = self._activation_of(self.model.config)
        if isinstance(texts, (str, Mapping)):
            raise ValueError("texts is a single text; pass a list of texts (load_texts reads them from a file)")
        texts = list(texts)
        targets = None
        if labels is not None:
            texts, targets = labeled(texts, labels, self.model.config, head)
        for i, item in enumerate(texts):
            text_and_pair(item, f"input {i}")  # an error names the text
        keys = np.array(list(map(text_key, texts)), dtype=object)
        if held_out is None:
            half = first_half(keys)
            known = np.array([key in half for key in keys], dtype=bool)
        else:
            held_out = [held_out] if isinstance(held_out, (str, Mapping)) else list(held_out)
            known, own = np.ones(len(texts), dtype=bool), set(keys)
            kept = [item for item in held_out if text_key(item) not in own]
            if left := len(held_out) - len(kept):
                warnings.warn(
                    f"left out {left:,} of the {len(held_out):,} texts in held_out, because they are also in texts",
                    stacklevel=2,
                )
            held_out = kept
        self._warn_of_learned(texts if held_out is None else held_out, "too many ordinary texts will seem new")
        counts = len(set(keys[known])), len(set(map(text_key, held_out)) if held_out is not None else set(keys[~known]))
        if min(counts) < LEAST_TEXTS:
            raise ValueError(
                f"a scope needs at least {LEAST_TEXTS} distinct texts to learn from and {LEAST_TEXTS} others to hold "
                f"out, and there are {counts[0]} and {counts[1]}; pass more"
            )
        with progress_bar(progress, len(texts) + len(held_out or ()), "text") as advance:
            run: dict[str, Any] = {**call, "progress": advance}
            p, features = self._features(texts, run)
            others = features[~known] if held_out is None else self._features(held_out, run)[1]
        _, first = np.unique(keys[known], return_index=True)  # a class is not the mean of what comes most often
        distinct = np.flatnonzero(known)[first]
        classes = _classes(p[distinct], None if targets is None else targets[distinct], head)
        found = scope_of(features[distinct], classes, others)
        self.scope = replace(found, weights=some_weights(self.model))
        return self.scope

    def novelty(self, texts: Iterable[Any], *, progress: Progress | None = None, **kwargs: Any) -> NDArray[np.float64]:
        """How far texts are from the scope, in one ordinary pass; NaN if outputs are not finite. *Shape:* (texts,).

        `scope.p_values` gives their p-values.

        Args:
            texts: The texts, in any form that a call accepts.
            progress: Called after each batch with its number of texts.
            **kwargs: Arguments of the tokenizer's call, and `batch_size`.

        Raises:
            ValueError: There is no scope for the model's weights.
        """
        if self.scope is None:
            raise ValueError(f"novelty needs a scope of the model's present weights; {_LEARN}")
        options, call = self._for_arrays({**kwargs, "num_samples": 0})
        samples = self._samples(texts, options, progress=progress, scope=self.scope, **call)
        found = [draws.novelty for _, draws in samples if draws.novelty is not None]
        return np.concatenate(found) if found else np.empty(0)

    def saved_options(self) -> dict[str, Any]:
        """The options that are saved with the model, as JSON values. Raises ValueError for a level without a scope."""
        self._scope_for(self.sampling)
        return super().saved_options() | ({SCOPE: True} if self.scope is not None else {})

    def _save_arrays(self, folder: Any) -> None:
        if self.scope is not None:
            write_arrays(folder, SCOPE, self.scope.saved())

    def _features(
        self, texts: Sequence[Any], run: Mapping[str, Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities and features of texts. Raises ValueError if they are not finite, or the model has none."""
        try:
            parts = list(self._sampler.features(texts, **run))
        except InputError as error:
            if NO_STATES in str(error):
                raise ValueError(f"{NO_STATES}; use another model") from error
            raise
        p, features = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if not (np.isfinite(p).all() and np.isfinite(features).all()):
            raise ValueError("the model's outputs are NaN or infinite; its weights are damaged or need a wider dtype")
        return p, features

    def _scope_for(self, options: Options) -> Scope | None:
        """The scope for a call. Raises ValueError if its level needs another one. Warns once about old ones."""
        scope, level = self.scope, options.novelty_level
        if scope is None and self._sampler.has_scope():
            old = f"the scope was learned for other weights of the model; {_LEARN} again"
            if level is not None:
                raise ValueError(f"novelty_level={level:g}: {old}")
            self._warn_once(f"{old}; until then, results have no novelty")
        elif scope is None and level is not None:
            raise ValueError(f"novelty_level={level:g} needs a scope; {_LEARN}, or pass novelty_level=None")
        elif scope is not None and level is not None:
            scope.check_level(level)
        return scope


def saved_scope(model: Any, saved: Mapping[str, Any]) -> Scope | None:
    """The scope that was saved next to a model. Warns if it is not there, or belongs to other weights."""
    if not saved.get(SCOPE):
        return None
    try:
        scope = Scope.of_saved(read_arrays(model, SCOPE))
        if scope.is_of(some_weights(model)):
            return scope
        reason = "it was learned for other weights"
    except UNREADABLE as error:
        reason = in_one_line(error)
    warnings.warn(
        f"the scope did not load from {file_of(SCOPE)} ({reason}), so results have no novelty; call "
        "classifier.learn_scope(texts), and write the folder with classifier.save_pretrained",
        UserWarning,
        stacklevel=3,
    )
    return None


def _classes(p: NDArray[np.float32], targets: NDArray[np.int64] | None, activation: Activation) -> NDArray[np.int64]:
    """The class of each text: its label, else the predicted one. *Shape:* (texts,).

    Of several labels, the one with the highest probability. One output has two classes, numbers have one.
    """
    if activation == "none":
        return np.zeros(len(p), dtype=np.int64)
    if targets is None:
        return (p[:, 0] >= 0.5).astype(np.int64) if p.shape[1] == 1 else p.argmax(1)
    if targets.ndim == 1:
        return targets
    if targets.shape[1] == 1:
        return targets[:, 0]
    likeliest = np.where(targets == 1, p, -1.0).argmax(1)
    return np.asarray(np.where(targets.any(1), likeliest, p.argmax(1)))
