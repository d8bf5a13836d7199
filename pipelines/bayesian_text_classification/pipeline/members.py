"""The models of an ensemble: as a list, and as files next to the first model."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer

from .errors import in_one_line
from .options import MEMBERS, PREDICTION_SETS, SCOPE, default_count
from .saving import KEY, Saved, loaded_adapter, save_adapter, saved_options, unloaded
from .twin import shared_copy


@dataclass(frozen=True)
class Members:
    """The models of a pipeline and their tokenizers, the first one first."""

    models: tuple[Any, ...]
    tokenizers: tuple[Any, ...]

    @classmethod
    def given(cls, model: Any, tokenizer: Any) -> "Members":
        """What a caller passes as `model` and `tokenizer`: one of each, or lists. One tokenizer may be for all models.

        Raises:
            ValueError: There are no models or not as many tokenizers, or a model is not loaded.
        """
        several = isinstance(model, (list, tuple))
        models = tuple(model) if several else (model,)
        tokenizers = tuple(tokenizer) if isinstance(tokenizer, (list, tuple)) else (tokenizer,) * len(models)
        if not models or len(tokenizers) != len(models):
            raise ValueError(
                f"got {len(models)} models and {len(tokenizers)} tokenizers; pass at least one model, and one "
                "tokenizer for all models or for each"
            )
        if several and any(isinstance(one, str) for one in models):
            raise ValueError(
                f"model={list(models)!r}; the models of a list must be loaded: pass instances, or call "
                f"bayesian_text_classification.load({list(models)!r})"
            )
        if several and None in tokenizers:
            raise ValueError(
                "a list of models needs tokenizer=...: one for all, or a list of one for each model; "
                "bayesian_text_classification.load([...]) finds them"
            )
        if len({id(one) for one in models}) < len(models):
            raise ValueError("the list has one model twice, so these members would always agree; list each model once")
        own = ("calibration", "threshold", "temperature", "dropout", SCOPE, PREDICTION_SETS)
        if several and any(saved_options(model.config).get(name) for model in models for name in own):
            warnings.warn(
                "what was saved with one model alone (its dropout, calibration, threshold, scope and prediction sets) "
                "is not used for the ensemble; pass dropout=..., and call classifier.calibrate(texts, labels), "
                "classifier.learn_scope(texts) for a scope, and classifier.conformalize(texts, labels) for prediction "
                "sets",
                UserWarning,
                stacklevel=3,
            )
        if several and any(saved_options(model.config).get(MEMBERS, 1) > 1 for model in models):
            raise ValueError("one of the models is itself a saved ensemble; list the models, or load that folder alone")
        return cls(models, tokenizers)

    def defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a list of models, each of which `given` has or not (`Saved`)."""
        options = dict(given)
        if isinstance(options["posterior"], Saved):
            options["posterior"] = "ensemble"
        if isinstance(options["num_samples"], Saved):
            options["num_samples"] = default_count(options["posterior"], len(self.models))
        return options

    def with_saved(self) -> "Members":
        """These, or the ensemble that was saved with the only model."""
        if len(self.models) > 1:
            return self
        (first,), (tokenizer,) = self.models, self.tokenizers
        count = saved_options(getattr(first, "config", None)).get(MEMBERS, 1)
        pairs = [(first, tokenizer), *(_saved_member(first, tokenizer, number) for number in range(1, count))]
        return Members(*zip(*pairs, strict=True))


def adapted(base: Any, adapter: str) -> Any:
    """A PEFT model with this adapter that shares the weights of `base`. It warns if that is not the adapter's model.

    Raises:
        ValueError: `base` is itself a PEFT model.
        ImportError: `peft` is not installed.
    """
    if hasattr(base, "peft_config"):
        raise ValueError("the model is itself an adapter; pass its base model, and all adapters as adapters=[...]")
    found: Any = loaded_adapter(shared_copy(base), adapter, None, None)
    (settings,) = found.peft_config.values()
    names = [Path(str(name)).name for name in (settings.base_model_name_or_path or "", base.config.name_or_path or "")]
    if all(names) and names[0] != names[1]:  # folders move, and keep their names
        warnings.warn(
            f"the adapter {adapter} was trained on {names[0]} but is loaded on {names[1]}; unless these are the same "
            "model, its answers are meaningless",
            UserWarning,
            stacklevel=4,
        )
    return found


def save_members(members: Members, orders: Sequence[Sequence[int]], folder: Any, **kwargs: Any) -> None:
    """Write all models but the first into folders of their own; of adapters on one base, only the adapters.

    Args:
        members: The models.
        orders: For each model but the first, its class ids in the order of the first one's. Its labels get the first
            one's names, which may have changed.
        folder: The folder of the first model.
        **kwargs: Arguments of the models' and the tokenizers' `save_pretrained`.

    Raises:
        ValueError: Some of the models are adapters, and they do not share one base.
    """
    root = Path(folder) / MEMBERS
    on_one_base = are_adapters_of_one_base(members)
    names = members.models[0].config.id2label
    others = zip(members.models[1:], members.tokenizers[1:], orders, strict=True)
    for number, (model, tokenizer, order) in enumerate(others, start=1):
        # Other threads may be reading the caller's config.
        copied: Any = shared_copy(getattr(model, "_orig_mod", model))
        target = root / str(number)
        if on_one_base:
            save_adapter(copied, target)
            continue
        for name in (KEY, "custom_pipelines"):  # the options are those of the ensemble, at the root
            if hasattr(copied.config, name):
                delattr(copied.config, name)
        copied.config.id2label = {own: names[i] for i, own in enumerate(order)}
        copied.config.label2id = {names[i]: own for i, own in enumerate(order)}
        copied.save_pretrained(target, **kwargs)
        tokenizer.save_pretrained(target, **kwargs)


def are_adapters_of_one_base(members: Members) -> bool:
    """Whether the models are PEFT adapters that share the weights of one base.

    Raises:
        ValueError: Only some of them are.
    """
    adapted = [hasattr(model, "peft_config") for model in members.models]
    if len(adapted) == 1 or not any(adapted):
        return False
    if all(adapted):
        bases = [_base_weights(model) for model in members.models]
        if all(weights == bases[0] for weights in bases[1:]):
            return True
    raise ValueError(
        "an ensemble with adapters can be saved if all members are adapters of one base; load them together with "
        "load(base, adapters=[...]), or merge each adapter into its model (merge_and_unload)"
    )


def check_code(members: Members) -> None:
    """Raise ValueError if a model but the first has code of its own, which would not be found again."""
    for number, model in enumerate(members.models[1:], start=2):
        if getattr(model, "_auto_class", None) is not None or getattr(model.config, "auto_map", None):
            raise ValueError(
                f"model {number} of the ensemble has custom code, and only the first model's code is saved; save the "
                "models one by one, and load them with bayesian_text_classification.load([...])"
            )


def _saved_member(first: Any, tokenizer: Any, number: int) -> tuple[Any, Any]:
    """A model that was saved next to the first one, and its tokenizer."""
    name, where = first.config.name_or_path, f"{MEMBERS}/{number}"
    revision = getattr(first.config, "_commit_hash", None)
    if hasattr(first, "peft_config"):
        return loaded_adapter(_base(first), name, where, revision), tokenizer
    if Path(name).is_dir() and not (Path(name) / where).is_dir():
        raise OSError(
            f"model {number + 1} of the ensemble is missing: {name} has no folder {where}; save the ensemble again"
        )
    at: dict[str, Any] = {"subfolder": where, "revision": revision, "trust_remote_code": False}
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name, dtype="auto", use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **at
        )
        tokenizer = AutoTokenizer.from_pretrained(name, **at)
    except (OSError, ValueError) as error:
        reason = in_one_line(error)
        raise OSError(
            f"model {number + 1} of the ensemble did not load from {where}: {reason} (a folder that was written with "
            "model.save_pretrained lacks it; write it with classifier.save_pretrained. For a private repository, log "
            "in with `hf auth login` or set HF_TOKEN)"
        ) from error
    if lacking := sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}):
        raise ValueError(f"{where} lacks {', '.join(lacking[:3])}, which would be random; save the ensemble again")
    return model.eval(), tokenizer


def _base_weights(adapted: Any) -> set[int]:
    """Where the weights of the base are: those that are not of an adapter, and of which no adapter has a copy."""
    names = [name for name, _ in adapted.named_parameters()]
    copied = tuple(name.partition(".modules_to_save.")[0] for name in names if ".modules_to_save." in name)
    of_adapters = tuple(f".{name}" for name in adapted.peft_config)
    return {
        weight.data_ptr()
        for name, weight in adapted.named_parameters()
        if not name.startswith(copied) and not any(part in name for part in of_adapters)
    }


def _base(adapted: Any) -> Any:
    """A copy of the model inside a PEFT adapter, with the same weights."""
    return unloaded(shared_copy(getattr(adapted, "_orig_mod", adapted)))
