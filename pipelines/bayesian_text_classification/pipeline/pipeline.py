"""`pipeline("bayesian-text-classification")`: Hugging Face's text classification with MC-Dropout inside."""

import difflib
import inspect
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from types import GeneratorType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TextClassificationPipeline

from .answers import ranked_labels, winning_labels
from .batching import TokenBudget, plan, windows
from .encoding import Encoded, Encoder
from .inputs import NOT_FINITE, InputError, Stream, items_of, kind_of, text_and_pair
from .model_card import merged
from .probe import DropoutSite
from .publishing import publish
from .sampling import SAMPLING, Draws, Passes, Sampling, fixed, is_real, until_sure
from .saving import STALE, Saved, check_of, merged_requirements, resolved, save, saved_options, with_adapter
from .temperature import apply_temperature, determined, fit_temperature
from .twin import StochasticTwin
from .uncertainty import Uncertainty, over_classes, over_labels, over_outputs, tempered

TASK = "bayesian-text-classification"
WINDOW = 1024  # texts that are tokenised and sorted together; streams hold one window in memory
TOKENS_PER_BATCH = {"cpu": 2_048, "cuda": 16_384}  # rows x length; attention weights of such a batch fit beside it

OPTIONS = (*SAMPLING, "threshold", "top_k", "function_to_apply", "batch_size", "num_workers")  # of calls


class BayesianTextClassificationPipeline(TextClassificationPipeline):  # type: ignore[misc]  # untyped
    """Text classification whose score is the mean over `num_samples` dropout masks, with its uncertainty.

        score = mean_t softmax(f(x, mask_t))        (MC-Dropout, Gal & Ghahramani 2016, arXiv:1506.02142)

    Every dropout site of the model is stochastic, attention included; the model itself is never changed.

    Inputs are those of `text-classification`: a str, a dict with "text" and "text_pair", a list, tuple or
    `datasets` column of them (gives a list), a generator or torch Dataset such as `KeyDataset` (gives a lazy iterator).
    A lazy iterator reads 1,024 texts, which it sorts by length, before it gives the first result. Longer texts than the
    model's limit are truncated.

    Args:
        num_samples: forward passes with dropout for each text; with a tolerance, the most of them. 0 is the ordinary
            pipeline on the caller's own model.
        tolerance: stop sampling a text once the standard error of its score is below it (of every label's score, for a
            multi-label model). It is looked at after 4 passes, where it must be below a quarter of it, and then after
            each ten. None: every text gets all passes.
        seed: any integer; the same text, seed and model give the same answer in any batch, order or process.
        masks: "balanced" (each unit is dropped in exactly its share of ten passes) or "bernoulli" (independent passes).
        threshold: a text whose score is below it gets no label (see `__call__`). None: every text gets one.
        **kwargs: what `text-classification` takes: `model`, `tokenizer`, `device`, `dtype`, `top_k`,
            `function_to_apply`, `batch_size` (the most texts in a batch), and arguments of the tokenizer's call.
            `num_samples`, `tolerance`, `seed`, `masks` and `threshold` may also be given with each call.

    Attributes:
        temperature: of the averaged probabilities, 1.0 until `calibrate` has found another. It is saved with the model.

    Raises:
        InputError: (a ValueError, with the numbers of the inputs) the tokenizer makes nothing of a text, or the model's
            outputs for it are NaN or infinite, of which no score could be told.
        ValueError: the model has no active dropout (and `num_samples` is not 0), or an option is out of range.
        TypeError: an unknown option.
    """

    def __init__(
        self,
        num_samples: int | Saved = Saved(20),
        tolerance: float | Saved | None = Saved(None),
        seed: int = 0,
        masks: str | Saved = Saved("balanced"),
        threshold: float | Saved | None = Saved(None),
        **kwargs: Any,
    ) -> None:
        given = {"num_samples": num_samples, "tolerance": tolerance, "masks": masks, "threshold": threshold}
        options = resolved(given, kwargs.get("model"))
        self._threshold = checked_threshold(options.pop("threshold"))
        self._sampling = Sampling(seed=seed, **options)
        _check_batch_size(kwargs.get("batch_size"))
        self._requested_dtype = _as_dtype(kwargs.get("dtype") or kwargs.get("torch_dtype"))
        kwargs.pop("local_files_only", None)  # `pipeline()` hands it on after it has done its work
        self._lock = threading.Lock()
        self._current_twin: StochasticTwin | None = None
        self._twin_settings: tuple[Any, ...] = ()  # of the caller's, which the twin was made for
        self._budgets = {device: TokenBudget(tokens) for device, tokens in TOKENS_PER_BATCH.items()}
        if "model" in kwargs:
            kwargs["model"] = with_adapter(kwargs["model"])
        super().__init__(**kwargs)
        self.temperature = saved_options(self.model.config).get("temperature", 1.0)
        if self._sampling.num_samples > 0:
            self._twin()

    def __call__(self, inputs: Any, *, progress: Callable[[int], None] | None = None, **kwargs: Any) -> Any:
        """Classify the text(s).

        Args:
            inputs: see above.
            progress: called after each batch with the number of passes (rows) done in it; for `num_samples=0` with the
                number of texts.
            **kwargs: options, for this call alone.

        Returns:
            The shapes of `text-classification`: a list with one dict for a str, a dict for a pair, a list for a list,
            an iterator for a generator or dataset; a list of dicts in place of each dict with `top_k`. Keys:

            - label, score: the winning label and its probability, averaged over the samples.
            - score_std: standard deviation of that probability over the samples.
            - standard_error: of the score, as an estimate of the mean over infinitely many; None for one sample.
            - predictive_entropy, expected_entropy, mutual_information: total, data and model uncertainty in nats; None
              for raw outputs.
            - num_samples, truncated.

            With `top_k` each dict has its own label, score and score_std, and the text's other keys again. Labels of a
            multi-label model have a standard error and entropies of their own.

            With a `threshold` there are two keys more, abstained and reason. Where the score is below it, abstained is
            True, reason says whether the text or the model is to blame, and label is None (with `top_k` the labels
            stay, as candidates).
        """
        threshold = checked_threshold(kwargs.pop("threshold", self._threshold))
        options = {name: kwargs.pop(name) for name in SAMPLING if name in kwargs}
        sampling = replace(self._sampling, **options)
        kind = kind_of(inputs)
        _check_batch_size(kwargs.get("batch_size"))
        if sampling.num_samples == 0:
            if threshold is not None:
                raise ValueError(
                    "threshold is for sampled scores, and with num_samples=0 the stock pipeline answers; pass "
                    "threshold=None too"
                )
            return _counted(self._stock(inputs, kwargs), progress or (lambda passes: None))
        tokenizer_options, _, post = self._resolved(kwargs)
        temperature = self.temperature  # of the whole call, also where somebody calibrates meanwhile
        if threshold is not None and self._activation(post.get("function_to_apply")) != "softmax":
            raise ValueError("threshold is for one label among several; these outputs are no distribution over classes")

        def results() -> Iterator[Any]:
            items, batch_size = items_of(inputs), kwargs.get("batch_size")
            return self._results(items, sampling, tokenizer_options, batch_size, post, temperature, threshold, progress)

        if kind == "one":
            (result,) = results()
            return [result] if isinstance(inputs, str) and "top_k" not in kwargs else result
        if kind == "list":
            return list(results())
        return Stream(inputs, results) if isinstance(inputs, Sized) else results()

    def sample_proba(
        self,
        texts: Iterable[Any],
        *,
        first_sample: int = 0,
        progress: Callable[[int], None] | None = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """Probabilities of each pass, (texts, classes, samples), float32; NaN where the model's outputs are not finite.

        Args:
            texts: as in a call, several of them.
            first_sample: the passes are number `first_sample` to `first_sample + num_samples - 1`, so that a later call
                goes on where an earlier one stopped.
            progress: called after each batch with the number of passes (rows) done in it.
            **kwargs: options as in a call, but for `top_k`, `threshold` and `tolerance`.
        """
        if "tolerance" in kwargs:
            raise TypeError("'tolerance' has no place here: sample_proba gives num_samples samples of every text")
        sampling, tokenizer_options, batch_size, activation = self._array_options(kwargs)
        if sampling.num_samples == 0:
            raise ValueError("num_samples=0; sample_proba needs at least 1")
        if not isinstance(first_sample, int) or isinstance(first_sample, bool) or first_sample < 0:
            raise ValueError(f"first_sample={first_sample!r}; it must be an integer of at least 0")
        samples = range(first_sample, first_sample + sampling.num_samples)
        parts = []
        for encoded in self._encoded_windows(items_of(texts), tokenizer_options):
            passes = self._passes(encoded, sampling, batch_size, activation, progress)
            parts.append(fixed(passes, len(encoded), samples).values)
        classes = self.model.config.num_labels
        return np.concatenate(parts) if parts else np.empty((0, classes, sampling.num_samples), np.float32)

    def predict_proba(
        self, texts: Iterable[Any], *, progress: Callable[[int], None] | None = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """Averaged probabilities at the temperature, (texts, classes), float32; NaN where outputs are not finite.

        For `num_samples=0` those of the model without dropout, and without temperature.

        Args:
            texts: as in a call, several of them.
            progress: called after each batch with the number of passes (rows) done in it.
            **kwargs: options as in a call, but for `top_k` and `threshold`.
        """
        return self._averages(texts, self.temperature, progress, kwargs)

    def _averages(
        self,
        texts: Iterable[Any],
        temperature: float,
        progress: Callable[[int], None] | None,
        kwargs: dict[str, Any],
    ) -> NDArray[np.float32]:
        """What `predict_proba` gives, at a temperature that nobody else need have."""
        sampling, tokenizer_options, batch_size, activation = self._array_options(kwargs)
        parts = []
        for encoded in self._encoded_windows(items_of(texts), tokenizer_options):
            draws = self._draws(encoded, sampling, batch_size, activation, progress)
            means = np.empty(draws.values.shape[:2], np.float32)
            for rows, samples in draws.by_count():
                mean = samples.mean(2, dtype=np.float64)
                cools = activation == "softmax" and sampling.num_samples > 0
                means[rows] = apply_temperature(mean, temperature) if cools else mean
            parts.append(means)
        return np.concatenate(parts) if parts else np.empty((0, self.model.config.num_labels), np.float32)

    @property
    def sampling(self) -> Sampling:
        """How texts are sampled, where a call does not say otherwise."""
        return self._sampling

    @property
    def defaults(self) -> dict[str, Any]:
        """What the constructor was told of batches, outputs and the tokenizer, where a call does not say otherwise."""
        given = {**self._preprocess_params, **self._forward_params, **self._postprocess_params}
        function = given.pop("function_to_apply", None)
        named = {"function_to_apply": getattr(function, "value", function), "batch_size": self._batch_size}
        given |= {name: value for name, value in named.items() if value is not None}
        return {name: given[name] for name in sorted(given) if not name.startswith("_")}

    @property
    def threshold(self) -> float | None:
        """The least score of an accepted text, where a call does not say otherwise; None: every text is."""
        return self._threshold

    @property
    def temperature(self) -> float:
        """Of the averaged probabilities; 1.0 changes nothing."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not (is_real(value) and 0 < value < np.inf):
            raise ValueError(f"temperature={value!r}; it must be a positive number, 1 for none")
        self._temperature = float(value)

    def calibrate(
        self,
        texts: Sequence[Any],
        labels: Sequence[Any],
        *,
        progress: Callable[[int], None] | None = None,
        **kwargs: Any,
    ) -> float:
        """Fit the temperature T of the averaged probabilities on labelled texts, and use it from now on.

            argmin_T sum_i -log softmax(log(m_i) / T)[y_i] + (log T)^2 / 2        (Guo et al. 2017, arXiv:1706.04599)

        with m_i the mean over the samples; the last term is worth less than one text. It changes `score`,
        `predict_proba` and `predictive_entropy`; the winning label stays, and so do `sample_proba`, `score_std`,
        `standard_error`, `expected_entropy` and `mutual_information`, which describe the samples as they are.
        `save_pretrained` saves it. To undo it, set `temperature` to 1.

        Args:
            texts: as in a call, several of them; not those that you measure on later.
            labels: their true classes, as ids or names.
            progress: called after each batch with the number of passes (rows) done in it.
            **kwargs: options as in a call, but for `top_k` and `threshold`.

        Returns:
            T in [0.01, 100]; above 1 where the model was too sure.

        Raises:
            ValueError: the model does not give one label among at least two classes, its outputs are not finite, a
                label is none of its classes, there is not one label for each text, or all answers are right, or so many
                wrong, that no temperature is best.
        """
        config = self.model.config
        if config.num_labels < 2 or self._activation(kwargs.get("function_to_apply")) != "softmax":
            raise ValueError("calibrate needs one label among at least two classes")
        if kwargs.get("num_samples", self._sampling.num_samples) == 0:
            raise ValueError("calibrate fits the temperature of sampled scores; num_samples must be at least 1")
        if isinstance(texts, str):
            raise ValueError("texts is one text; give a list of several, and a label for each")
        ids = []
        for i, label in enumerate(labels):
            known = config.label2id.get(label) if isinstance(label, str) else label
            if isinstance(known, bool) or known not in range(config.num_labels):
                raise ValueError(f"label {i} is {label!r}; the classes are {dict(config.id2label)}")
            ids.append(int(known))
        texts = list(texts)
        if len(texts) != len(ids) or not ids:
            raise ValueError(f"there are {len(texts)} texts and {len(ids)} labels; give one label for each text")
        p = self._averages(texts, 1.0, progress, kwargs)
        if np.isnan(p).any():
            raise ValueError("the model's outputs are NaN or infinite; its weights are damaged, or need a wider dtype")
        found = fit_temperature(p, np.array(ids))
        if not determined(p, np.array(ids)):
            raise ValueError(
                f"no temperature is best for these {len(ids)} texts, whose labels the model gets all right or mostly "
                "wrong; give more texts, which it gets wrong now and then"
            )
        self.temperature = found
        return found

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Write a folder that `pipeline(model=folder, trust_remote_code=True)` loads without this package.

        Beside the model and the tokenizer it holds the code that is needed, `handler.py` for Inference Endpoints, and
        in `config.json` the temperature and the default options `num_samples`, `tolerance`, `masks` and `threshold`.
        The model's own card comes along, if it has one, with a section on the scores; a README.md that is there already
        stays, but for that section. A PEFT adapter is saved in the folder `adapter`, beside the
        model that it stands on; loading it takes `peft`. The caller's model and its config stay as they are. Weights of
        an earlier save in the folder are removed.

        Args:
            save_directory: made where it does not exist.
            **kwargs: of the model's and the tokenizer's `save_pretrained`.
        """
        if kwargs.pop("push_to_hub", False):
            raise ValueError("save_pretrained writes a folder; classifier.push_to_hub(repo_id) publishes it")
        tolerance = self._sampling.tolerance
        options = {
            "temperature": self.temperature,
            "num_samples": self._sampling.num_samples,
            "tolerance": None if tolerance is None else float(tolerance),
            "masks": self._sampling.masks,
            "threshold": self._threshold,
        }
        save(type(self), self.model, self.tokenizer, options, save_directory, **kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **kwargs: Any,
    ) -> str:
        """Publish what `save_pretrained` writes, as one commit; returns its address.

        Args:
            repo_id: "user/name"; made where it does not exist. A model card that is there already stays, but for our
                part of it.
            private: of a new repository; None: as the owner's settings have it.
            token: None: that of the environment or of `hf auth login`.
            commit_message: of the commit.
            revision: a branch; None: main.
            create_pr: propose the commit instead.
            **kwargs: of `save_pretrained`.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **kwargs)
            return publish(
                folder,
                repo_id,
                private=private,
                token=token,
                message=commit_message or "Upload the pipeline",
                revision=revision,
                create_pr=create_pr,
                merge={"README.md": merged, "requirements.txt": merged_requirements},
                check=check_of(type(self)),
                stale=STALE,
            )

    @property
    def batch_tokens(self) -> int:
        """The most tokens (rows x length, padding included) of a batch; halved wherever memory has run out."""
        return self._budget.tokens

    @batch_tokens.setter
    def batch_tokens(self, value: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"batch_tokens={value!r}; it must be an integer of at least 1")
        self._budget.tokens = value

    def batches(self, texts: Sequence[Any], **kwargs: Any) -> Iterator[tuple[Sequence[int], dict[str, Tensor]]]:
        """The inputs that one deterministic pass over `texts` would run, to give other models the same.

        Yields:
            The indices of the texts in a batch, and the model's inputs for them, padded and on the device.
        """
        _, tokenizer_options, batch_size, _ = self._array_options(kwargs)
        items = list(items_of(texts))
        if not items:
            return
        encoded = self._encoder.encode(items, tokenizer_options)
        most, apart = batch_size or self._batch_size, self._apart(encoded, self._twin(required=False))
        for batch in plan(encoded.padded_lengths, range(1), self._budget, max_texts=most, apart=apart):
            yield batch.texts, self._encoder.tensors(encoded, batch.texts, self.device)

    @property
    def dropout_sites(self) -> list[DropoutSite]:
        """Every module that applies dropout with p > 0 in a forward pass."""
        return list(self._twin(required=False).sites)

    def check_model_type(self, supported_models: Any) -> None:
        """As in `text-classification`, whose list of PEFT classes is keyed by the task's name."""
        if type(self.model).__name__ != "PeftModelForSequenceClassification":
            super().check_model_type(supported_models)

    def _sanitize_parameters(
        self, function_to_apply: Any = None, top_k: Any = "", **tokenizer_options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        check_tokenizer_options(tokenizer_options, self.tokenizer.__call__)
        default = function_to_apply == "default"  # documented by text-classification, where it raises a KeyError
        if default:
            function_to_apply = None
        chosen = getattr(function_to_apply, "value", function_to_apply)  # of transformers' own enumeration
        if chosen is not None and (not isinstance(chosen, str) or chosen.lower() not in _ACTIVATIONS):
            legal_names = ", ".join(map(repr, ("default", *_ACTIVATIONS)))
            raise ValueError(f"function_to_apply={function_to_apply!r}; it must be one of {legal_names}")
        sanitized: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = super()._sanitize_parameters(
            function_to_apply=function_to_apply, top_k=top_k, **tokenizer_options
        )
        if default:
            sanitized[2]["function_to_apply"] = None  # takes back what the constructor was told
        return sanitized

    def _resolved(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The options of a call on top of those of the constructor."""
        own = {name: value for name, value in kwargs.items() if name not in ("batch_size", "num_workers")}
        defaults = (self._preprocess_params, self._forward_params, self._postprocess_params)
        merged = [{**old, **new} for old, new in zip(defaults, self._sanitize_parameters(**own), strict=True)]
        return merged[0], merged[1], merged[2]

    def _array_options(self, kwargs: dict[str, Any]) -> tuple[Sampling, dict[str, Any], int | None, str]:
        if "top_k" in kwargs:
            raise TypeError("'top_k' has no place here: the arrays hold every class")
        if "threshold" in kwargs:
            raise TypeError(
                "'threshold' has no place here: the arrays hold every text; "
                f"classifier(texts, threshold={kwargs['threshold']!r}) says which texts are accepted"
            )
        _check_batch_size(kwargs.get("batch_size"))
        options = {name: kwargs.pop(name) for name in SAMPLING if name in kwargs}
        tokenizer_options, _, post = self._resolved(kwargs)
        activation = self._activation(post.get("function_to_apply"))
        return replace(self._sampling, **options), tokenizer_options, kwargs.get("batch_size"), activation

    def _stock(self, inputs: Any, kwargs: dict[str, Any]) -> Any:
        """`text-classification` itself, on the caller's model."""
        kind = kind_of(inputs)
        if kind == "list":
            inputs = list(inputs)
            if not inputs:
                return []
        elif kind == "stream" and not isinstance(inputs, (Dataset, GeneratorType)):
            inputs = (item for item in items_of(inputs))  # the streams that stock knows
        try:
            return super().__call__(inputs, **kwargs)
        except InputError as error:  # of `postprocess`, which does not know which text it has
            if kind == "stream":
                raise
            items = inputs if kind == "list" else [inputs]
            raise _not_finite([i for i, item in enumerate(items) if self._is_ill(item, kwargs)], len(items)) from error
        except (TypeError, ValueError):
            # Stock took the input for something else, or its tokenizer did; if an item is to blame, name it.
            for index, item in enumerate(items_of(inputs) if kind != "stream" else ()):
                text_and_pair(item, index)
            raise

    def _is_ill(self, item: Any, kwargs: dict[str, Any]) -> bool:
        try:
            super().__call__(item, **kwargs)
        except InputError:
            return True
        return False

    def postprocess(self, model_outputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Stock's, of outputs that are numbers; InputError else."""
        if not model_outputs["logits"].isfinite().all():
            raise InputError(f"an input: {NOT_FINITE}; {_ILL}", [], NOT_FINITE)
        return super().postprocess(model_outputs, *args, **kwargs)

    def _results(
        self,
        items: Iterable[Any],
        sampling: Sampling,
        tokenizer_options: dict[str, Any],
        batch_size: int | None,
        post: dict[str, Any],
        temperature: float,
        threshold: float | None,
        progress: Callable[[int], None] | None,
    ) -> Iterator[Any]:
        activation, names = self._activation(post.get("function_to_apply")), self.model.config.id2label
        alone, top_k = post.get("_legacy", True), post.get("top_k", 1)
        own = activation == "sigmoid"
        first = 0
        for encoded in self._encoded_windows(items, tokenizer_options):
            draws = self._draws(encoded, sampling, batch_size, activation, progress)
            _refuse_no_numbers(draws, first)
            first += len(encoded)
            results: list[Any] = [None] * len(encoded)
            for texts, samples in draws.by_count():
                summary = _SUMMARIES[activation](samples, sampling.group_size)
                if activation == "softmax":
                    summary = tempered(summary, temperature)
                count = samples.shape[2]
                options: dict[str, Any] = {"own_entropies": own, "threshold": threshold}
                dicts: Iterator[Any] = (
                    winning_labels(summary, names, count, **options)
                    if alone
                    else ranked_labels(summary, names, count, top_k=top_k, **options)
                )
                for i, result in zip(texts, dicts, strict=True):
                    results[i] = result
            for result, truncated in zip(results, encoded.truncated, strict=True):
                for entry in result if isinstance(result, list) else [result]:
                    entry["truncated"] = truncated
            yield from results

    def _draws(
        self,
        encoded: Encoded,
        sampling: Sampling,
        batch_size: int | None,
        activation: str,
        progress: Callable[[int], None] | None = None,
    ) -> Draws:
        """The samples of each text; its one deterministic pass for `num_samples=0`."""
        passes = self._passes(encoded, sampling, batch_size, activation, progress)
        if sampling.tolerance is None or sampling.num_samples < 2:
            return fixed(passes, len(encoded), range(max(sampling.num_samples, 1)))
        return until_sure(
            passes,
            len(encoded),
            sampling.num_samples,
            sampling.tolerance,
            lambda samples: _error_of_score(_SUMMARIES[activation](samples, sampling.group_size), activation),
        )

    def _passes(
        self,
        encoded: Encoded,
        sampling: Sampling,
        batch_size: int | None,
        activation: str,
        progress: Callable[[int], None] | None,
    ) -> Passes:
        """Stochastic passes of the twin; deterministic ones for `num_samples=0`."""
        twin, encoder = self._twin(required=sampling.num_samples > 0), self._encoder

        def run(texts: Sequence[int], samples: range) -> NDArray[np.float32]:
            with self.device_placement():
                inputs = encoder.tensors(encoded, texts, self.device)
                if sampling.num_samples > 0:
                    logits = twin.sample_logits(
                        inputs, samples, seed=sampling.seed, balanced=sampling.masks == "balanced"
                    )
                else:
                    logits = twin.logits(inputs).unsqueeze(1)
                finite = logits.isfinite().all(-1, keepdim=True)  # else a sigmoid would be 1, and sure of it
                probabilities = _activate(logits.float(), activation).where(finite, torch.nan)
                values: NDArray[np.float32] = probabilities.cpu().numpy()
            return values

        most, apart = batch_size or self._batch_size, self._apart(encoded, twin)
        return Passes(run, encoded.padded_lengths, self._budget, most, apart, not twin.loops_over_samples, progress)

    def _encoded_windows(self, items: Iterable[Any], options: dict[str, Any]) -> Iterator[Encoded]:
        first = 0
        for window in windows(items, WINDOW):
            yield self._encoder.encode(window, options, first)
            first += len(window)

    @property
    def _encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.model, self._lock)

    @property
    def _budget(self) -> TokenBudget:
        return self._budgets.get(self.device.type, self._budgets["cpu"])

    def _apart(self, encoded: Encoded, twin: StochasticTwin) -> list[int]:
        """Texts that may not share a batch differ here: of unequal length where nothing may be padded.

        Pairs stand apart from single texts, as BART takes no batch whose rows differ in their separators.
        """
        if twin.needs_equal_lengths or not self._encoder.may_pad(encoded):
            return [pair - 2 * length for length, pair in zip(encoded.lengths, encoded.pairs, strict=True)]
        return [int(pair) for pair in encoded.pairs]

    def _activation(self, function_to_apply: Any) -> str:
        """The rule of `text-classification`: "softmax", "sigmoid" or "none"."""
        if function_to_apply is not None:
            return str(getattr(function_to_apply, "value", function_to_apply))
        config = self.model.config
        if config.problem_type == "regression":
            return "none"
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return "sigmoid"
        return "softmax"

    def _twin(self, required: bool = True) -> StochasticTwin:
        """The twin of the model as it is now; raises if dropout is `required` and there is none."""
        model: Any = getattr(self.model, "_orig_mod", self.model)  # what torch.compile wrapped
        settings = (model, self._encoder.can_pad, self.tokenizer.padding_side, self.run_dtype)
        with self._lock:
            twin = self._current_twin
            if twin is None or self._twin_settings != settings or not twin.is_current():
                twin = StochasticTwin(model, self._probe_inputs, can_pad=self._encoder.can_pad, dtype=self.run_dtype)
                self._current_twin, self._twin_settings = twin, settings
        if required and not twin.sites:
            name = getattr(self.model.config, "_name_or_path", "") or "the model"
            raise ValueError(
                f"{name} ({type(self.model).__name__}) has no active dropout, so there is nothing to sample. "
                "Fine-tune it with dropout (for example attention_dropout=0.1 in its config), keep LoRA adapters "
                "unmerged, or pass num_samples=0 for ordinary text classification."
            )
        return twin

    def _probe_inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        rows = self.tokenizer(list(texts), padding=self._encoder.can_pad, return_tensors="pt", **self.truncation)
        return {name: values.to(self.device) for name, values in rows.items()}

    @property
    def truncation(self) -> dict[str, Any]:
        """The tokenizer's options that cut a text to what the model takes, as `num_samples=0` has to be told."""
        limit = self._encoder.length_limit()
        return {} if limit is None else {"truncation": True, "max_length": limit}

    @property
    def run_dtype(self) -> torch.dtype:
        """The dtype of the sampled passes: the one asked for, else the model's own, but never float16 on a CPU."""
        if self._requested_dtype is not None:
            return self._requested_dtype
        # Half-precision checkpoints save space; arithmetic in float16 is slow and coarse on a CPU.
        own: torch.dtype = self.model.dtype
        return torch.float32 if own == torch.float16 and self.device.type == "cpu" else own

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None, "_current_twin": None, "_twin_settings": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


_SUMMARIES = {"softmax": over_classes, "sigmoid": over_labels, "none": over_outputs}
_ACTIVATIONS = ("sigmoid", "softmax", "none")
# Arguments of the tokenizer that decide how many rows come back or in what form.
_OWN_TOKENIZER_ARGUMENTS = {
    "text",
    "text_target",
    "text_pair_target",
    "return_tensors",
    "return_overflowing_tokens",
    "is_split_into_words",
    "kwargs",
}

_ILL = "the model's weights are damaged, or need a wider dtype"


def _counted(results: Any, progress: Callable[[int], None]) -> Any:
    """Stock's results, told to `progress`: lists at once, others one by one."""
    if isinstance(results, (list, dict)):
        progress(len(results) if isinstance(results, list) else 1)
        return results

    def told() -> Iterator[Any]:
        for result in results:
            progress(1)
            yield result

    return Stream(results, told) if isinstance(results, Sized) else told()


def check_tokenizer_options(names: Iterable[str], call: Callable[..., Any]) -> None:
    """TypeError, with the nearest option, unless all are arguments of a tokenizer's `call` that a user may choose."""
    legal = set(inspect.signature(call).parameters) - _OWN_TOKENIZER_ARGUMENTS
    for name in names:
        if name in _OWN_TOKENIZER_ARGUMENTS:
            raise TypeError(f"{name!r} is set by the pipeline itself")
        if name not in legal:
            near = difflib.get_close_matches(name, [*legal, *OPTIONS], n=1, cutoff=0.0)
            raise TypeError(f"unknown option {name!r}; the nearest is {near[0]!r}")


def checked_threshold(threshold: Any) -> float | None:
    """As a float; ValueError where no score could be compared with it."""
    if threshold is not None and not (is_real(threshold) and 0 <= threshold <= 1):
        raise ValueError(
            f"threshold={threshold!r}; it must lie in [0, 1], the least score of an accepted text, or be None"
        )
    return None if threshold is None else float(threshold)


def _refuse_no_numbers(draws: Draws, first: int) -> None:
    """InputError for texts with a NaN among their samples; the first text is number `first`."""
    bad = sorted(first + int(i) for texts, samples in draws.by_count() for i in texts[np.isnan(samples).any((1, 2))])
    if bad:
        raise _not_finite(bad, len(draws.counts))


def _not_finite(bad: Sequence[int], count: int) -> InputError:
    return InputError(f"input {bad[0]}: {NOT_FINITE} (so for {len(bad)} of {count} inputs); {_ILL}", bad, NOT_FINITE)


def _error_of_score(summary: Uncertainty, activation: str) -> NDArray[np.float64]:
    """The standard error that must fall below the tolerance, (texts,): the winner's, or the largest of all labels'."""
    if activation == "sigmoid":
        return np.asarray(summary.standard_error.max(1))
    return np.take_along_axis(summary.standard_error, summary.mean.argmax(1)[:, None], 1)[:, 0]


def _check_batch_size(batch_size: Any) -> None:
    if batch_size is not None and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1):
        raise ValueError(f"batch_size={batch_size!r}; it must be an integer of at least 1, the most texts in a batch")


def _activate(logits: Tensor, activation: str) -> Tensor:
    if activation == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if activation == "sigmoid" else logits


def _as_dtype(dtype: Any) -> torch.dtype | None:
    """None for "auto", which `pipeline()` passes on where its caller said nothing."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype != "auto" else dtype
    if isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    if found in (None, "auto") and dtype in (None, "auto"):
        return None
    raise ValueError(f"dtype={dtype!r}; it must be a floating-point type or its name, such as 'float32' or 'bfloat16'")
