"""Models in every form: names, instances, dtypes, adapters, copies."""

import copy
import faulthandler
import pickle

import numpy as np
import pytest
import torch
from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification.pipeline import text_sampler as module
from bayesian_text_classification.pipeline.batching import TokenBudget
from pipeline_cases import MANY, TASK, TEXTS, assert_close
from transformers import AutoTokenizer, PreTrainedTokenizerFast, pipeline


def test_default_model_is_the_embedded_model(classifier, package):
    assert isinstance(classifier, BayesianTextClassificationPipeline)
    embedded = pipeline(TASK, model=str(package / "embedded" / "model"))
    assert_close(embedded("A good film.", num_samples=3), classifier("A good film.", num_samples=3))
    assert classifier("A wonderful film.", num_samples=3)[0]["label"] == "POSITIVE"


def test_instance_keeps_its_mode_and_weights(tiny, bayesian):
    model = tiny("bert").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    ours = bayesian(model)
    found = ours(TEXTS)
    assert ours.model is model
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert found == bayesian(model.eval())(TEXTS)


def test_zero_samples_ignore_train_mode(tiny, bayesian, tokenizer):
    """Zero samples mean no dropout, even if the model is in train mode."""
    ours = bayesian(tiny("bert").train())
    stock = pipeline("text-classification", model=tiny("bert"), tokenizer=tokenizer)
    expected = [result["score"] for result in stock(TEXTS)]
    np.testing.assert_allclose(ours.predict_proba(TEXTS, num_samples=0).max(1), expected, atol=1e-6)


@pytest.mark.parametrize("change", ["p", "module", "dtype", "in place"])
def test_changes_to_the_model_are_followed(change, tiny, bayesian):
    model = tiny("bert")
    ours = bayesian(model)
    before = ours.sample_proba(TEXTS)
    if change == "p":
        model.dropout.p = 0.6
    elif change == "module":
        model.classifier = torch.nn.Linear(32, 2)
    elif change == "dtype":
        model.to(torch.float64)
    else:
        with torch.no_grad():
            model.classifier.weight.neg_()
    after = ours.sample_proba(TEXTS)
    np.testing.assert_array_equal(after, bayesian(model).sample_proba(TEXTS))
    difference = np.abs(after - before).max()
    assert difference < 1e-5 if change == "dtype" else difference > 1e-3


def spied_dtypes(ours, monkeypatch):
    seen = set()
    original = module.StochasticTwin.sample_logits

    def spy(self, *args, **options):
        logits = original(self, *args, **options)
        seen.add(logits.dtype)
        return logits

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", spy)
    ours(TEXTS)
    return seen


@pytest.mark.parametrize("options", [{}, {"dtype": "auto"}, {"dtype": None}], ids=str)
def test_float16_model_runs_in_float32_on_cpu(options, tiny, bayesian, monkeypatch):
    model = tiny("bert").half()
    ours = bayesian(model, **options)
    assert spied_dtypes(ours, monkeypatch) == {torch.float32}
    assert model.dtype == ours.model.dtype == torch.float16


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float16", torch.float64, "float32"])
@pytest.mark.parametrize("own", [torch.float32, torch.float16])
def test_dtype_is_respected_for_an_instance(dtype, own, tiny, bayesian, monkeypatch):
    model = tiny("bert").to(own)
    ours = bayesian(model, dtype=dtype)
    assert spied_dtypes(ours, monkeypatch) == {getattr(torch, dtype) if isinstance(dtype, str) else dtype}
    assert model.dtype == own, "the caller's weights are not converted"


def test_dtype_is_respected_for_a_model_name(package, monkeypatch):
    ours = pipeline(TASK, model=str(package / "embedded" / "model"), dtype="bfloat16", num_samples=1)
    assert spied_dtypes(ours, monkeypatch) == {torch.bfloat16}


def test_embedded_model_runs_in_float32(classifier, monkeypatch):
    assert classifier.model.dtype == torch.float16
    assert spied_dtypes(classifier, monkeypatch) == {torch.float32}


def test_bfloat16_instances_keep_their_dtype(tiny, bayesian, monkeypatch):
    model = tiny("bert").to(torch.bfloat16)
    ours = bayesian(model)
    assert spied_dtypes(ours, monkeypatch) == {torch.bfloat16}
    assert model.dtype == torch.bfloat16
    probabilities = ours.sample_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)  # the softmax is in float32


def test_weight_changes_of_a_float16_model_are_followed(tiny, bayesian):
    model = tiny("bert").half()
    ours = bayesian(model)
    before = ours.predict_proba(TEXTS)
    with torch.no_grad():
        model.classifier.weight.neg_()
    assert np.abs(ours.predict_proba(TEXTS) - before).max() > 1e-3


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_decoder_without_padding_token_can_be_batched(architecture, tiny, bayesian):
    """The stock pipeline refuses batches. Ours must not crash, nor mistake padding for the last token."""
    model = tiny(architecture)
    assert model.config.pad_token_id is None
    ours = bayesian(model)
    assert_close(ours(MANY), [ours(text)[0] for text in MANY])
    assert_close(ours(MANY, batch_size=3), ours(MANY))
    assert model.config.pad_token_id is None
    no_pad = copy.deepcopy(ours.tokenizer)
    no_pad.pad_token = None
    assert_close(bayesian(model, tokenizer=no_pad)(MANY), ours(MANY))


def test_text_with_zero_tokens_raises_with_its_number(tiny, bayesian, roberta_tokenizer):
    """GPT-2's tokenizer returns zero tokens for an empty text. Planning batches of such texts must terminate."""
    from tokenizers.processors import TemplateProcessing

    bare = copy.deepcopy(roberta_tokenizer)
    bare._tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    ours = bayesian(tiny("gpt2", vocab_size=20), tokenizer=bare, num_samples=2)
    faulthandler.dump_traceback_later(30, exit=True)
    try:
        with pytest.raises(ValueError, match="input 1"):
            ours(["good film", ""])
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def lora(tiny):
    from peft import LoraConfig, get_peft_model

    def make(**settings):
        base = tiny("bert", num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], init_lora_weights=False,
                                **{"lora_dropout": 0.2, **settings})  # fmt: skip
            return get_peft_model(base, config).eval()

    return make


def test_lora_adapters_are_sampled(lora, bayesian):
    ours = bayesian(lora())
    assert sum(site.calls for site in ours.dropout_sites) == 4
    assert {site.p for site in ours.dropout_sites} == {0.2}
    assert ours.sample_proba(TEXTS).std(2).max() > 1e-3
    assert_close(ours(MANY), [ours(text)[0] for text in MANY])


def test_saved_adapter_folder_can_be_loaded(lora, bayesian, tiny, saved_to, tmp_path):
    base = tiny("bert", num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    saved_to(tmp_path / "base", base)
    adapted = lora()
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    ours = pipeline(TASK, model=str(tmp_path / "adapter"))
    expected = bayesian(adapted)
    # The number of classes is only known from the folder of the base model.
    assert ours.model.config.num_labels == 3
    np.testing.assert_allclose(ours.sample_proba(TEXTS), expected.sample_proba(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda ours: pickle.loads(pickle.dumps(ours))], ids=["deepcopy", "pickle"]
)
def test_copied_pipeline_gives_the_same_results(how, small):
    small(TEXTS)
    other = how(small)
    assert other.model is not small.model
    assert_close(other(TEXTS), small(TEXTS))
    assert other(TEXTS, num_samples=0) == small(TEXTS, num_samples=0)


def test_a_shallow_copy_with_another_model_leaves_the_original_alone(small, tiny, monkeypatch):
    """A lazy answer of the original must not continue with the copy's model."""
    monkeypatch.setattr(module, "WINDOW", 1)
    expected = list(small(iter(TEXTS)))
    other, tokens = copy.copy(small), small.batch_tokens
    other.model = tiny("bert", num_labels=2, id2label={0: "NO", 1: "YES"}, label2id={"NO": 0, "YES": 1})
    other.batch_tokens = 7
    answers = small(iter(TEXTS))
    found = [next(answers)]
    assert other(TEXTS[0])[0]["label"] in ("NO", "YES")
    assert_close([*found, *answers], expected)
    assert small.batch_tokens == tokens and other.batch_tokens == 7


def test_standard_pipeline_arguments_are_accepted(small, tmp_path):
    folder = str(tmp_path)
    small.model.save_pretrained(folder), small.tokenizer.save_pretrained(folder)
    ours = pipeline(
        TASK, model=folder, tokenizer=AutoTokenizer.from_pretrained(folder), revision=None, use_fast=True, token=None,
        device="cpu", trust_remote_code=False, model_kwargs={"attn_implementation": "eager"}, num_samples=2,
        num_workers=0, batch_size=4, local_files_only=True,
    )  # fmt: skip
    assert ours("good")[0]["num_samples"] == 2


def test_batches_reproduce_the_deterministic_predictions(small):
    found = list(small.batches(MANY, batch_size=3))
    assert sorted(i for indices, _ in found for i in indices) == list(range(len(MANY)))
    for indices, inputs in found:
        assert len(indices) <= 3
        with torch.no_grad():
            expected = small.model(**inputs).logits.softmax(-1)
        np.testing.assert_allclose(small.predict_proba([MANY[i] for i in indices], num_samples=0), expected, atol=1e-6)


def test_replaced_model_is_used(tiny, bayesian):
    ours, other = bayesian(tiny("bert")), tiny("distilbert")
    before = ours(TEXTS)
    ours.model = other
    assert_close(ours(TEXTS), bayesian(other)(TEXTS))
    assert ours(TEXTS) != before


def test_adapter_merged_in_place_is_detected(lora, bayesian):
    """PEFT then adds the adapter to the shared weights, so a stale twin would apply it twice."""
    model = lora()
    ours = bayesian(model)
    assert ours.dropout_sites
    model.merge_adapter()
    with pytest.raises(ValueError, match="no active dropout"):
        ours(TEXTS)
    model.unmerge_adapter()
    assert_close(ours(TEXTS), bayesian(model)(TEXTS))


@pytest.mark.parametrize("padding", [{"padding": "max_length", "max_length": 60}, {"pad_to_multiple_of": 60}], ids=str)
def test_token_budget_includes_requested_padding(padding, small, monkeypatch):
    original, sizes = module.StochasticTwin.sample_logits, []

    def spy(self, inputs, samples, **options):
        sizes.append(inputs["input_ids"].numel() * len(samples))
        return original(self, inputs, samples, **options)

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", spy)
    monkeypatch.setitem(small._text_sampler._budgets, "cpu", TokenBudget(300))
    assert_close(small(MANY, num_samples=5, **padding), small(MANY, num_samples=5))
    assert max(sizes) <= 300


def test_compiled_model_gives_the_same_results(tiny, bayesian):
    """The wrapper of torch.compile has no parameters of its own to copy."""
    model = tiny("bert")
    compiled = bayesian(torch.compile(model, backend="eager"))
    assert_close(compiled(TEXTS), bayesian(model)(TEXTS))


def test_num_workers_is_accepted_by_calls(small):
    assert_close(small(TEXTS, num_workers=0), small(TEXTS))


def test_dropout_sites_are_listed(small):
    sites = small.dropout_sites
    assert type(sites) is list and sum(site.calls for site in sites) == 8
    assert sites[0].name == "bert.embeddings.dropout"


def test_zero_samples_accept_a_dict_with_tokenizer_arguments(small, small_stock):
    given = {"text": TEXTS[0], "text_pair": TEXTS[1], "truncation": True, "max_length": 5}
    assert small(given, num_samples=0) == small_stock(given)
    assert small([given], num_samples=0) == small_stock([given])


def test_multi_label_dicts_have_their_own_standard_error(tiny, bayesian):
    classifier = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"))
    errors = {entry["standard_error"] for entry in classifier(TEXTS[0], top_k=None)}
    assert len(errors) == 3


@pytest.mark.parametrize("dtype", ["fp16", 16, "int8", torch.int64])
def test_wrong_dtype_raises(tiny, tokenizer, dtype):
    with pytest.raises(ValueError, match="dtype="):
        BayesianTextClassificationPipeline(model=tiny("bert"), tokenizer=tokenizer, dtype=dtype)


def test_pipeline_can_be_built_under_inference_mode(tiny, bayesian):
    with torch.inference_mode():
        assert bayesian(tiny("bert"), dtype="bfloat16")(TEXTS[0])[0]["score"] > 0


def test_batches_are_full_when_samples_run_one_by_one(tiny, bayesian):
    """DeBERTa runs one sample per pass; each pass holds as many texts as the budget allows."""
    ours = bayesian(tiny("deberta-v2"))
    assert ours.spread.share > 0  # the pilot's passes do not count
    passes = []
    ours._sampler.twin()._model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    ours(["a film of great merit"] * 64, num_samples=10)
    assert len(passes) == 10
    assert {rows for rows, _length in passes} == {64}


def test_probe_respects_a_limit_of_a_few_tokens(tiny, tokenizer):
    """Both probe texts are truncated to the same length, so length effects are unknown and nothing is padded."""
    short = copy.deepcopy(tokenizer)
    short.model_max_length = 4
    ours = pipeline(TASK, model=tiny("bert", max_position_embeddings=4), tokenizer=short)
    assert ours._sampler.twin().needs_equal_lengths
    found = ours(["no", *TEXTS])
    assert [result["truncated"] for result in found] == [False, True, True, True]
    assert_close(found, [ours(text)[0] for text in ["no", *TEXTS]])


def test_probe_handles_a_tokenizer_that_merges_letters(tiny):
    """The probe needs a short text and one with more tokens, even if letters become a single token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, ",": 2, ";": 3, ".": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Split(",", "isolated")
    own = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    ours = pipeline(TASK, model=tiny("bert"), tokenizer=own)
    texts = ["a", "a,b", "a,b,c,d,,e"]
    assert not ours._sampler.twin().needs_equal_lengths
    assert_close(ours(texts), [ours(text)[0] for text in texts])
    assert_close(ours(texts, padding_side="left"), ours(texts, padding_side="right"))
