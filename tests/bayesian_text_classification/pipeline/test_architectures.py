"""For every sequence classifier of transformers, in tiny: the twin applies all dropout of `train()` mode, nothing else.

The types come from transformers' own list. A new type fails here until it has a tiny configuration and a row in
`docs/reference/architectures.md`. `tests/helpers/architectures.py` has the configurations.
"""

import copy
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import transformers
from architectures import RATE, TEXTS, adapted, encode, make, tokenizer_of_words
from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification.pipeline.rates import OWN, Rates
from bayesian_text_classification.pipeline.twin import StochasticTwin
from bayesian_text_classification.scale.row_scorer import RowScorer
from packaging.version import Version
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as TYPES

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "architectures.md"
INSERTED = Rates(inserted=RATE)

# Types that cannot be built or sampled, with the error that a user gets.
REFUSED = {
    "layoutlmv2": (ImportError, "detectron2"),
    "reformer": (ValueError, r"cannot run in train\(\) mode on a short text: .*axial_pos_shape"),
}
# Modules that do more than dropout in train() mode.
BEYOND = {"phimoe": "model.layers.0.mlp.router"}

REMARKS = {
    "big_bird": "full attention for every text: a short text switches the model permanently, and the probe is short",
    "bigbird_pegasus": "same as BigBird",
    "canine": "texts of more than `local_transformer_stride` (128) characters run by themselves, one pass at a time",
    "diffllama": "no dropout of its own: transformers rejects rates above 0",
    "funnel": "transformers itself fails on texts of fewer than 5 tokens",
    "layoutlmv2": "not sampled: transformers needs detectron2, which is not on PyPI",
    "mpt": "no dropout of its own: transformers only reads `attn_config.attn_pdrop` and only accepts integers",
    "mra": "without its CUDA kernel, transformers sets the attention to 0, also in stock pipelines",
    "phimoe": "the router samples experts in `train()` mode; this stays off, with a warning",
    "reformer": "not sampled: `train()` only accepts one fixed text length, and LSH also draws at random in `eval()`",
}

# Types in which inserted dropout reaches other calls than the rates of the config: most decoders, whose outputs of
# attention and MLP are dropped too; others do without a call, or without a module, where the rate is 0.
OTHER_SITES = ["arcee", "axk1", "axk2", "cohere_compass_text", "ctrl", "deepseek_v2", "deepseek_v3", "diffllama",
               "eurobert", "exaone4", "flaubert", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "gpt_oss",
               "helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "jamba", "jetmoe", "llama", "minicpm3", "minimax",
               "ministral", "ministral3", "mistral", "mistral4", "mixtral", "modernbert", "modernvbert", "mpt",
               "nemotron", "olmo", "olmo2", "olmo3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_5", "qwen3_5_text",
               "qwen3_moe", "qwen3_next", "smollm3", "xlm", "xlnet", "zamba", "zamba2"]  # fmt: skip

# Types whose eager attention never drops weights, whatever the rate. So only `sdpa` has a call to insert dropout into.
MORE_IN_SDPA = {"falcon"} if Version(transformers.__version__) < Version("5.25") else set()

LORA = ["bart", "bert", "bloom", "deberta-v2", "distilbert", "gpt2", "llama", "modernbert", "qwen3", "roberta", "t5",
        "t5gemma"]  # fmt: skip


def checkpointed(*args):
    raise AssertionError("gradient checkpointing ran")


@dataclass
class Variant:
    """A model of one type with one attention implementation, its twin, and the warnings from building it."""

    model: torch.nn.Module
    twin: StochasticTwin
    rates: Rates
    warnings: list[str] = field(default_factory=list)

    @property
    def sites(self):
        return self.twin.sites(self.rates)

    @property
    def calls(self):
        return sum(site.calls for site in self.sites)

    def samples(self, texts, passes=4):
        return self.twin.sample_logits(encode(texts), range(passes), seed=0, balanced=True, rates=self.rates)


class Case:
    """A type, plain, with LoRA or with inserted dropout, in every attention implementation that it has.

    With inserted dropout, every rate in its config is 0, and it is sampled with `dropout=0.1`.
    """

    def __init__(self, name, same_model, same_random_state):
        self.type, _, more = name.partition(" with ")
        self.lora, self.inserted = more == "LoRA", more == "dropout=0.1"
        self.variants, rates = {}, INSERTED if self.inserted else OWN
        for attention in ("eager", "sdpa"):
            try:
                model = make(self.type, attention, 0.0 if self.inserted else RATE)
            except ValueError as error:
                if attention == "sdpa" and "does not support an attention implementation" in str(error):
                    continue
                raise
            model = adapted(model) if self.lora else model
            if model.supports_gradient_checkpointing:
                model.gradient_checkpointing_enable()
                for module in model.modules():
                    if hasattr(module, "_gradient_checkpointing_func"):
                        module._gradient_checkpointing_func = checkpointed
            with same_model(model), same_random_state(), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                variant = Variant(model, StochasticTwin(model, encode, inserts=self.inserted), rates)
                variant.samples(TEXTS[:1])
                variant.twin.logits(encode(TEXTS[:1]))
            variant.warnings = [str(w.message) for w in caught if "does more than dropout" in str(w.message)]
            self.variants[attention] = variant

    def cells(self):
        """The cells of the type in the table, with a slash where the implementations differ."""
        columns = zip(*(self._cells(variant) for variant in self.variants.values()), strict=True)
        return [" / ".join(dict.fromkeys(column)) for column in columns]

    def _cells(self, variant):
        twin = variant.twin
        dims = sorted({"-" if site.batch_dim is None else str(site.batch_dim) for site in variant.sites})
        flags = [twin.needs_equal_lengths, twin.loops_over_samples or twin.loops_over_texts]
        counts = [str(len(variant.sites)), str(variant.calls)]
        return [*counts, ", ".join(dims), *("yes" if flag else "no" for flag in flags)]


@pytest.fixture(scope="module")
def words_tokenizer():
    return tokenizer_of_words()


# One type of each kind: encoders (one with relative positions, one with local layers), decoders (one with a router that
# draws at random), encoder-decoders, batch at dimension 1, a text at a time. The tests of all others are slow.
USUAL = {"bart", "bert", "canine", "deberta-v2", "falcon", "gpt2", "llama", "modernbert", "phimoe", "t5", "xlnet"}


def cases(names, more=""):
    """Parameters for these types, those that are not among the usual ones marked as slow."""
    return [pytest.param(name + more, marks=[] if name in USUAL else pytest.mark.slow) for name in names]


PLAIN = [name for name in TYPES if name not in REFUSED]
OWN_DROPOUT = [*cases(PLAIN), *cases(LORA, " with LoRA")]
INSERTING = cases(PLAIN, " with dropout=0.1")


@pytest.fixture(scope="module", params=[*OWN_DROPOUT, *INSERTING])
def case(request, same_model, same_random_state):
    return Case(request.param, same_model, same_random_state)


# --- the checks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", OWN_DROPOUT, indirect=True)
def test_calls_match_those_of_train_mode(case, active_calls):
    for variant in case.variants.values():
        trained = copy.deepcopy(variant.model).train()
        trained.config.get_text_config().pad_token_id = 0
        if variant.model.supports_gradient_checkpointing:
            trained.gradient_checkpointing_disable()
        for module in trained.modules():
            for name in ("layerdrop", "encoder_layerdrop", "decoder_layerdrop"):
                if hasattr(module, name):
                    setattr(module, name, 0.0)
        with torch.random.fork_rng(devices=[]):
            assert variant.calls == active_calls(trained, encode(TEXTS[:1]))


def test_only_dropout_is_random(case):
    for variant in case.variants.values():
        assert variant.twin.beyond_dropout == BEYOND.get(case.type)
        assert len(variant.warnings) == (case.type in BEYOND)


def test_samples_of_a_text_differ(case):
    for variant in case.variants.values():
        spread = variant.samples(TEXTS[:1], 10).std(1).max()
        assert spread > 1e-4 if variant.sites else spread < 1e-6


def test_sampling_uses_no_global_randomness_layerdrop_or_checkpointing(case, same_model, same_random_state):
    """LayerDrop would skip calls, which raises; a checkpoint raises; statistics must not change."""
    for variant in case.variants.values():
        with same_model(variant.model), same_random_state():
            variant.samples(TEXTS[1:2], 10)
        norms = [m for m in variant.twin._model.modules() if isinstance(m, torch.nn.modules.batchnorm._NormBase)]
        assert not any(norm.training for norm in norms)


def test_the_pass_without_dropout_equals_the_models(case):
    for variant in case.variants.values():
        inputs = encode(TEXTS[:1])
        with torch.no_grad():
            expected = copy.deepcopy(variant.model).eval()(**inputs).logits
        torch.testing.assert_close(variant.twin.logits(inputs), expected, rtol=0, atol=1e-6)


def test_a_text_has_the_same_samples_alone_and_in_a_batch(case):
    for variant in case.variants.values():
        together = [TEXTS[3], TEXTS[0], TEXTS[3]] if variant.twin.needs_equal_lengths else [TEXTS[2], *TEXTS]
        found = variant.samples(together)
        for row, text in list(enumerate(together))[1:]:
            torch.testing.assert_close(found[row], variant.samples([text])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", OWN_DROPOUT, indirect=True)
def test_features_are_the_same_alone_and_in_a_batch(case):
    """One pass gives them with the logits, and different texts have different ones."""
    for variant in case.variants.values():
        together = [TEXTS[3], TEXTS[0], TEXTS[3]] if variant.twin.needs_equal_lengths else [TEXTS[2], *TEXTS]
        logits, found = variant.twin.logits_and_features(encode(together))
        torch.testing.assert_close(logits, variant.twin.logits(encode(together)), rtol=0, atol=1e-6)
        assert found.dtype == torch.float32 and found.ndim == 2 and len(found) == len(together)
        for row, text in list(enumerate(together))[1:]:
            alone = variant.twin.logits_and_features(encode([text]))[1][0]
            torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-5)
        assert (found[0] - found[1]).norm() > 1e-3 * found[0].norm()


@pytest.mark.parametrize("case", OWN_DROPOUT, indirect=True)
def test_special_tokens_in_a_text_do_not_stop_the_other_texts(case, words_tokenizer):
    """Each row gets what it gets alone: a score, or an error of its own."""
    variant = next(iter(case.variants.values()))
    if not variant.sites:
        pytest.skip("no dropout of its own")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = BayesianTextClassificationPipeline(
            model=variant.model, tokenizer=words_tokenizer, num_samples=2, device="cpu"
        )
        assert classifier.dropout_sites  # the probe, which may warn
    special = words_tokenizer.all_special_tokens
    texts = [*TEXTS, *special, *(f"{token} {token}" for token in special), *(f"no {token} it is" for token in special)]
    score = RowScorer(classifier, "", {})
    together = score(texts, [None] * len(texts))
    for i, text in enumerate(texts):
        (alone,) = score([text], [None])
        assert together[i].get("error") == alone.get("error"), text
        assert together[i].get("score") == pytest.approx(alone.get("score"), abs=1e-5), text
    assert all(row["error"] is None for row in together[: len(TEXTS)])
    if not case.lora:
        plain = RowScorer(classifier, "", {"num_samples": 0, "batch_size": 8})(texts, [None] * len(texts))
        assert all((row["error"] is None) == (row.get("score") is not None) for row in plain)
        assert all(row["error"] is None for row in plain[: len(TEXTS)])


def test_attention_implementations_give_the_same_samples(case):
    if case.inserted and case.type in MORE_IN_SDPA:
        assert case.variants["eager"].calls < case.variants["sdpa"].calls
        return
    first, *others = (variant.samples(TEXTS[:1]) for variant in case.variants.values())
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", INSERTING, indirect=True)
@pytest.mark.filterwarnings("ignore:.*does more than dropout")
def test_inserted_dropout_equals_that_of_a_config_with_the_rate(case):
    """Where the config reaches the same calls, each pass is the same to the bit."""
    same = []
    for attention, variant in case.variants.items():
        twin = StochasticTwin(make(case.type, attention), encode)
        sites = [
            [(site.name, site.kind, site.p, site.calls) for site in found] for found in (twin.sites(), variant.sites)
        ]
        same.append(sites[0] == sites[1])
        if same[-1]:
            expected = twin.sample_logits(encode(TEXTS[:1]), range(4), seed=0, balanced=True)
            assert torch.equal(variant.samples(TEXTS[:1]), expected)
    assert all(same) == (case.type not in {*OTHER_SITES, *MORE_IN_SDPA})


@pytest.mark.parametrize("name", ["gpt_oss", "t5gemma"])
def test_flash_attention_becomes_eager_if_there_is_no_sdpa(name):
    model = make(name, "eager")
    if model._supports_sdpa:
        pytest.skip(f"{name} has sdpa in this version of transformers")
    expected = StochasticTwin(model, encode).sample_logits(encode(TEXTS[:1]), range(4), seed=0, balanced=True)
    model.config._attn_implementation_internal = "flash_attention_2"
    found = StochasticTwin(model, encode).sample_logits(encode(TEXTS[:1]), range(4), seed=0, balanced=True)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("case", cases(LORA, " with LoRA"), indirect=True)
def test_adapters_are_among_the_sites(case):
    for variant in case.variants.values():
        assert sum("lora_dropout" in site.name for site in variant.sites) >= 4


# --- the table ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(request):
    """Returns the row of a type in the file. With `--write-docs`, it returns the new row and writes it to the file."""
    writing = request.config.getoption("--write-docs")
    found = {}
    if not writing:
        skip_another_version()

    def row(name, truth):
        found[name] = truth
        return truth if writing else rows_in_docs().get(name)

    yield row
    if writing:
        text = DOCS.read_text(encoding="utf-8")
        rows = {**rows_in_docs(), **found}
        lines = [rows[name] for name in sorted(rows) if name in TYPES]
        head = re.sub(VERSION, f"transformers {here()}", text.partition(HEAD)[0])
        DOCS.write_text("\n".join([head + HEAD, *lines]) + "\n", encoding="utf-8")


HEAD = """\
| type | attention | sites | calls | batch dimension | equal lengths | one pass at a time | inserted sites | inserted calls | remarks |
|---|---|---|---|---|---|---|---|---|---|"""  # noqa: E501


VERSION = r"transformers ([0-9]+\.[0-9]+)"


def here():
    return ".".join(transformers.__version__.split(".")[:2])


def skip_another_version():
    """Skip, because a new release may add types or attention implementations. The other tests here still apply."""
    written = re.search(VERSION, DOCS.read_text(encoding="utf-8"))[1]
    if written != here():
        pytest.skip(f"the table is for transformers {written}; rewrite it for {here()} with --write-docs")


def rows_in_docs():
    rows = DOCS.read_text(encoding="utf-8").partition(HEAD)[2].strip().splitlines()
    return {row.split("|")[1].strip(): row for row in rows}


def test_the_table_has_exactly_the_types_of_transformers(request):
    if not request.config.getoption("--write-docs"):
        skip_another_version()
        assert list(rows_in_docs()) == sorted(TYPES)


@pytest.mark.parametrize("name", cases(PLAIN))
def test_the_table_is_up_to_date(name, table, same_model, same_random_state):
    case, inserting = (Case(one, same_model, same_random_state) for one in (name, f"{name} with dropout=0.1"))
    cells = [name, ", ".join(case.variants), *case.cells(), *inserting.cells()[:2], REMARKS.get(name, "")]
    row = "| " + " | ".join(cells) + " |"
    assert table(name, row) == row


@pytest.mark.parametrize("name", REFUSED)
def test_types_that_cannot_be_sampled_say_why(name, table):
    kind, message = REFUSED[name]
    with pytest.raises(kind, match=message) as caught:
        StochasticTwin(make(name, "eager"), encode)
    row = f"| {name} | - | - | - | - | - | - | - | - | {REMARKS[name]} |"
    assert table(name, row) == row
    assert kind is not ValueError or "\n" not in str(caught.value)
