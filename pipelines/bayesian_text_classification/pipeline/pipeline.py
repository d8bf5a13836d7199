"""`pipeline("bayesian-text-classification")`: Hugging Face's text classification with MC-Dropout inside."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .answers import in_order, ranked_labels, winning_labels
from .encoding import Encoded
from .inputs import LazyResults, class_ids, form_of, not_finite
from .model_card import merged
from .options import Options, as_dtype, check_batch_size, is_int, is_real
from .ordinary import OrdinaryPipeline
from .probe import DropoutSite
from .publishing import publish
from .sampling import Draws
from .saving import STALE, Saved, check_of, merged_requirements, resolved, save, saved_options, with_adapter
from .temperature import apply_temperature, determined, fit_temperature
from .text_sampler import Progress, TextSampler
from .uncertainty import Activation, summarized, tempered

TASK = "bayesian-text-classification"


class BayesianTextClassificationPipeline(OrdinaryPipeline):
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
        self._options = Options(seed=seed, **resolved(given, kwargs.get("model")))
        check_batch_size(kwargs.get("batch_size"))
        self._requested_dtype = as_dtype(kwargs.get("dtype") or kwargs.get("torch_dtype"))
        kwargs.pop("local_files_only", None)  # `pipeline()` hands it on after it has done its work
        if "model" in kwargs:
            kwargs["model"] = with_adapter(kwargs["model"])
        super().__init__(**kwargs)
        self._text_sampler = TextSampler(self.model, self.tokenizer, self.device, self.run_dtype)
        self.temperature = saved_options(self.model.config).get("temperature", 1.0)
        if self._options.num_samples > 0:
            self._sampler.sampling_twin()

    def __call__(self, inputs: Any, *, progress: Progress | None = None, **kwargs: Any) -> Any:
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
        options = self._options.updated(kwargs)
        form = form_of(inputs)
        check_batch_size(kwargs.get("batch_size"))
        if options.num_samples == 0:
            if options.threshold is not None:
                raise ValueError(
                    "threshold is for sampled scores, and with num_samples=0 the stock pipeline answers; pass "
                    "threshold=None too"
                )
            return super().__call__(inputs, progress=progress, **kwargs)
        call, answers = self._for_call(kwargs)
        temperature = self.temperature  # of the whole call, also where somebody calibrates meanwhile
        if options.threshold is not None and call["activation"] != "softmax":
            raise ValueError("threshold is for one label among several; these outputs are no distribution over classes")

        def results() -> Iterator[Any]:
            samples = self._sampler.samples(inputs, options, progress=progress, **call)
            return self._answers(samples, options, temperature, call["activation"], answers)

        if form == "one":
            (result,) = results()
            return [result] if isinstance(inputs, str) and "top_k" not in kwargs else result
        if form == "list":
            return list(results())
        return LazyResults(inputs, results) if isinstance(inputs, Sized) else results()

    def sample_proba(
        self, texts: Iterable[Any], *, first_sample: int = 0, progress: Progress | None = None, **kwargs: Any
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
        if not is_int(first_sample) or first_sample < 0:
            raise ValueError(f"first_sample={first_sample!r}; it must be an integer of at least 0")
        options, call = self._for_arrays({"tolerance": None, **kwargs})
        if options.num_samples == 0:
            raise ValueError("num_samples=0; sample_proba needs at least 1")
        samples = self._sampler.samples(texts, options, first_sample=first_sample, progress=progress, **call)
        parts = [draws.values for _, draws in samples]
        classes = self.model.config.num_labels
        return np.concatenate(parts) if parts else np.empty((0, classes, options.num_samples), np.float32)

    def predict_proba(
        self, texts: Iterable[Any], *, progress: Progress | None = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """Averaged probabilities at the temperature, (texts, classes), float32; NaN where outputs are not finite.

        For `num_samples=0` those of the model without dropout, and without temperature.

        Args:
            texts: as in a call, several of them.
            progress: called after each batch with the number of passes (rows) done in it.
            **kwargs: options as in a call, but for `top_k` and `threshold`.
        """
        return self._averages(texts, self.temperature, progress, kwargs)

    def calibrate(
        self, texts: Sequence[Any], labels: Sequence[Any], *, progress: Progress | None = None, **kwargs: Any
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
        if self.model.config.num_labels < 2 or self._activation(kwargs.get("function_to_apply")) != "softmax":
            raise ValueError("calibrate needs one label among at least two classes")
        if kwargs.get("num_samples", self._options.num_samples) == 0:
            raise ValueError("calibrate fits the temperature of sampled scores; num_samples must be at least 1")
        if isinstance(texts, str):
            raise ValueError("texts is one text; give a list of several, and a label for each")
        ids, texts = class_ids(labels, self.model.config), list(texts)
        if len(texts) != len(ids) or not len(ids):
            raise ValueError(f"there are {len(texts)} texts and {len(ids)} labels; give one label for each text")
        p = self._averages(texts, 1.0, progress, kwargs)
        if np.isnan(p).any():
            raise ValueError("the model's outputs are NaN or infinite; its weights are damaged, or need a wider dtype")
        if not determined(p, ids):
            raise ValueError(
                f"no temperature is best for these {len(ids)} texts, whose labels the model gets all right or mostly "
                "wrong; give more texts, which it gets wrong now and then"
            )
        self.temperature = fit_temperature(p, ids)
        return self.temperature

    @property
    def temperature(self) -> float:
        """Of the averaged probabilities; 1.0 changes nothing."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not (is_real(value) and 0 < value < np.inf):
            raise ValueError(f"temperature={value!r}; it must be a positive number, 1 for none")
        self._temperature = float(value)

    @property
    def sampling(self) -> Options:
        """How texts are sampled, and which answers are accepted, where a call does not say otherwise."""
        return self._options

    @property
    def threshold(self) -> float | None:
        """The least score of an accepted text, where a call does not say otherwise; None: every text is."""
        return self._options.threshold

    @property
    def dropout_sites(self) -> list[DropoutSite]:
        """Every module that applies dropout with p > 0 in a forward pass."""
        return list(self._sampler.twin().sites)

    @property
    def batch_tokens(self) -> int:
        """The most tokens (rows x length, padding included) of a batch; halved wherever memory has run out."""
        return self._sampler.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, value: int) -> None:
        self._sampler.batch_tokens = value

    @property
    def truncation(self) -> dict[str, Any]:
        """The tokenizer's options that cut a text to what the model takes, as `num_samples=0` has to be told."""
        return self._sampler.encoder.truncation

    @property
    def run_dtype(self) -> torch.dtype:
        """The dtype of the sampled passes: the one asked for, else the model's own, but never float16 on a CPU."""
        if self._requested_dtype is not None:
            return self._requested_dtype
        # Half-precision checkpoints save space; arithmetic in float16 is slow and coarse on a CPU.
        own: torch.dtype = self.model.dtype
        return torch.float32 if own == torch.float16 and self.device.type == "cpu" else own

    def batches(self, texts: Iterable[Any], **kwargs: Any) -> Iterator[tuple[Sequence[int], dict[str, Tensor]]]:
        """Indices of texts, and the model's inputs for them, of the batches that one ordinary pass would run."""
        _, call = self._for_arrays(kwargs)
        yield from self._sampler.batches(texts, call["tokenizer_options"], call["batch_size"])

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Write a folder that `pipeline(model=folder, trust_remote_code=True)` loads without this package.

        It holds the model, the tokenizer, the code that is needed, `handler.py` for Inference Endpoints, and in
        `config.json` the temperature and the options `num_samples`, `tolerance`, `masks` and `threshold`. The model's
        card comes along with a section on the scores; in an existing README.md only that section changes. A PEFT
        adapter is saved in the folder `adapter`; loading it takes `peft`. The caller's model is not changed. Weights
        and code of an earlier save in the folder are removed.

        Args:
            save_directory: made where it does not exist.
            **kwargs: of the model's and the tokenizer's `save_pretrained`.
        """
        if kwargs.pop("push_to_hub", False):
            raise ValueError("save_pretrained writes a folder; classifier.push_to_hub(repo_id) publishes it")
        options = {"temperature": self.temperature, **self._options.saved()}
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
    def _sampler(self) -> TextSampler:
        """The sampler of what this pipeline has now: its parts may have been replaced."""
        sampler = self._text_sampler
        sampler.model, sampler.tokenizer = self.model, self.tokenizer
        sampler.device, sampler.dtype = self.device, self.run_dtype
        return sampler

    def _for_call(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a call asks of the sampler, and of its answers."""
        check_batch_size(kwargs.get("batch_size"))
        tokenizer_options, answers = self._merged(kwargs)
        activation = self._activation(answers.get("function_to_apply"))
        batch_size = kwargs.get("batch_size") or self._batch_size
        return {"activation": activation, "tokenizer_options": tokenizer_options, "batch_size": batch_size}, answers

    def _for_arrays(self, kwargs: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
        """The options of an array, and what it asks of the sampler."""
        if "top_k" in kwargs:
            raise TypeError("'top_k' has no place here: the arrays hold every class")
        if "threshold" in kwargs:
            raise TypeError(
                "'threshold' has no place here: the arrays hold every text; "
                f"classifier(texts, threshold={kwargs['threshold']!r}) says which texts are accepted"
            )
        options = self._options.updated(kwargs)
        return options, self._for_call(kwargs)[0]

    def _answers(
        self,
        samples: Iterable[tuple[Encoded, Draws]],
        options: Options,
        temperature: float,
        activation: Activation,
        asked: Mapping[str, Any],
    ) -> Iterator[Any]:
        """What a call gives for each text."""
        names, first = self.model.config.id2label, 0
        shown: dict[str, Any] = {"own_entropies": activation == "sigmoid", "threshold": options.threshold}

        def described(values: NDArray[np.float32]) -> Iterator[Any]:
            summary = summarized(values, activation, options.group_size)
            if activation == "softmax":
                summary = tempered(summary, temperature)
            if asked.get("_legacy", True):
                return winning_labels(summary, names, values.shape[2], **shown)
            return ranked_labels(summary, names, values.shape[2], top_k=asked.get("top_k", 1), **shown)

        for encoded, draws in samples:
            if bad := draws.not_finite():
                raise not_finite([first + i for i in bad], len(encoded))
            first += len(encoded)
            yield from in_order(draws, encoded.truncated, described)

    def _averages(
        self, texts: Iterable[Any], temperature: float, progress: Progress | None, kwargs: dict[str, Any]
    ) -> NDArray[np.float32]:
        """What `predict_proba` gives, at a temperature that nobody else need have."""
        options, call = self._for_arrays(kwargs)
        cools = call["activation"] == "softmax" and options.num_samples > 0
        parts = []
        for _, draws in self._sampler.samples(texts, options, progress=progress, **call):
            means = np.empty(draws.values.shape[:2], np.float32)
            for rows, samples in draws.by_count():
                mean = samples.mean(2, dtype=np.float64)
                means[rows] = apply_temperature(mean, temperature) if cools else mean
            parts.append(means)
        return np.concatenate(parts) if parts else np.empty((0, self.model.config.num_labels), np.float32)
