"""Dropout at other rates than the model's own: inserted where it has none, or multiplied."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bayesian_text_classification import BayesianTextClassificationPipeline, load
from bayesian_text_classification.pipeline.forward import Recorder
from bayesian_text_classification.pipeline.rates import Rates
from pipeline_cases import TEXTS
from torch import nn

NONE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ATTENTION = {"attention_dropout": 0.0}  # of decoders, which have no other dropout
INSERTED = Rates(inserted=0.1)


@pytest.fixture(scope="module")
def still(tiny):
    """A BERT that was built without dropout."""
    return tiny("bert", **NONE)


def with_rates(model, **rates):
    """The same weights in a model whose config has these rates."""
    config = copy.deepcopy(model.config)
    for name, rate in rates.items():
        setattr(config, name, rate)
    other = type(model)(config).eval()
    other.load_state_dict(model.state_dict())
    return other


def samples(ours, **options):
    return ours.sample_proba(TEXTS, num_samples=10, **options)


def calibrated(ours, **options):
    """Calibrate on labels of which the model gets three in four right."""
    texts = [f"text {i}" for i in range(20)]
    answers = ours.predict_proba(texts, **options).argmax(1)
    ours.calibrate(texts, [int(answer) if i % 4 else 1 - int(answer) for i, answer in enumerate(answers)], **options)


# --- truth from the host library --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.25])
def test_inserted_dropout_equals_that_of_a_config_with_the_rate(still, bayesian, rate):
    built = with_rates(still, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
    np.testing.assert_array_equal(samples(bayesian(still), dropout=rate), samples(bayesian(built)))


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_factor_equals_a_config_with_multiplied_rates(tiny, bayesian, factor):
    model = tiny("bert", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2)
    built = with_rates(model, hidden_dropout_prob=factor * 0.1, attention_probs_dropout_prob=factor * 0.2)
    np.testing.assert_array_equal(samples(bayesian(model), dropout=f"{factor}x"), samples(bayesian(built)))


def test_what_has_a_rate_keeps_its_masks(tiny, bayesian):
    """With attention dropout inserted but made the identity, the samples are those of the model's own dropout."""
    model = tiny("bert", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0)
    own = samples(bayesian(model))
    with pytest.MonkeyPatch.context() as patch:
        before = Rates.of
        patch.setattr(Rates, "of", lambda rates, own: before(rates, own) if own else 1e-9)  # drops nothing
        np.testing.assert_allclose(samples(bayesian(model), dropout=0.1), own, rtol=0, atol=1e-6)
    assert np.abs(samples(bayesian(model), dropout=0.1) - own).max() > 1e-3


# --- decoders ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoder(tiny):
    return tiny("llama", num_labels=3, pad_token_id=0, **ATTENTION)


def test_decoders_also_drop_the_outputs_of_attention_and_mlp(decoder, twin_of, encode, texts):
    twin = twin_of(decoder, inserts=True)
    layers = decoder.config.num_hidden_layers
    names = [site.name for site in twin.sites(INSERTED)]
    for i in range(layers):
        assert names.count(f"model.layers.{i}.self_attn") == 2  # the weights and the output
        assert names.count(f"model.layers.{i}.mlp") == 1
    assert len(names) == 3 * layers and all(site.inserted and site.p == 0.1 for site in twin.sites(INSERTED))


class Dropped(nn.Module):
    """A module whose output is dropped: what the model's author would write."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        output = self.inner(*args, **kwargs)
        if isinstance(output, tuple):
            return F.dropout(output[0], 0.1, self.training), *output[1:]
        return F.dropout(output, 0.1, self.training)


def test_dropped_outputs_equal_dropout_written_into_the_model(decoder, twin_of, encode, texts, samples):
    written = copy.deepcopy(decoder)
    for layer in written.model.layers:
        layer.self_attn.attention_dropout = 0.1
        layer.self_attn, layer.mlp = Dropped(layer.self_attn), Dropped(layer.mlp)
    expected = samples(twin_of(written), encode(texts))
    found = samples(twin_of(decoder, inserts=True), encode(texts), rates=INSERTED)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


class Attention(nn.Module):
    """Attention whose weights are dropped by a module of its own."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.drop = nn.Dropout(0.0)

    def forward(self, x):
        return self.drop(torch.softmax(self.q(x) @ self.k(x).mT / 4, -1)) @ self.v(x)


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x):
        return self.down(F.relu(self.up(x)))


class GatedNorm(nn.Module):
    """A norm with matrices in modules of its own, as in AX-K2."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(16, 16)

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:]) * self.gate(x)


class Block(nn.Module):
    def __init__(self, attention, mlp):
        super().__init__()
        self.norm, self.attention, self.mlp = GatedNorm(), attention, mlp

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("container", [nn.Sequential, nn.ModuleList])
def test_each_attention_and_mlp_is_dropped_once_and_nothing_else(own, twin_of, encode, texts, shared, container):
    attention, mlp = Attention(), MLP()
    blocks = [Block(attention, mlp) if shared else Block(Attention(), MLP()) for _ in range(3)]

    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.head = container(*blocks) if container is nn.Sequential else container(blocks), MLP()

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    found = {site.name: site.calls for site in twin_of(own(Stack()), inserts=True).sites(INSERTED)}
    numbers = [0] if shared else [0, 1, 2]
    expected = {f"subject.blocks.{i}.{part}" for i in numbers for part in ("attention", "attention.drop", "mlp")}
    assert set(found) == expected and set(found.values()) == {3 if shared else 1}


def test_attention_without_an_mlp_leaves_embedding_and_head_alone(own, twin_of):
    sites = twin_of(own(Attention()), inserts=True).sites(INSERTED)
    assert [site.name for site in sites] == ["subject.drop"]


def test_an_attention_that_must_stay_off_stays_off(own, twin_of, encode, texts):
    """Its rate is 0 only while its own flag is off."""

    class Gated(nn.Module):
        def forward(self, x):
            shifted = x + 1.0 if self.training else x  # train() mode does something else too
            p = 0.2 if self.training else 0.0
            return F.scaled_dot_product_attention(shifted, x, x, dropout_p=p)

    with pytest.warns(UserWarning, match="does more than dropout"):
        twin = twin_of(own(nn.Sequential(Gated(), nn.Dropout(0.0))), inserts=True)
    assert [site.kind for site in twin.sites(INSERTED)] == ["dropout"]


# --- the promises of every sample -------------------------------------------------------------------------------------


def test_the_model_and_its_ordinary_scores_do_not_change(still, bayesian, same_model, same_random_state):
    ours = bayesian(still)
    before = ours.predict_proba(TEXTS, num_samples=0)
    with same_model(still), same_random_state():
        samples(ours, dropout=0.3)
    np.testing.assert_array_equal(ours.predict_proba(TEXTS, num_samples=0), before)
    fresh = bayesian(still)
    samples(fresh, dropout=0.3)  # now the ordinary pass runs on the twin that inserts dropout
    np.testing.assert_allclose(fresh.predict_proba(TEXTS, num_samples=0), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_text_has_the_same_samples_alone_and_in_a_batch(tiny, bayesian, kind):
    model = tiny(kind, **(NONE if kind == "bert" else {"pad_token_id": 0, **ATTENTION}))
    ours = bayesian(model, dropout=0.1)
    together = samples(ours)
    for i, text in enumerate(TEXTS):
        alone = ours.sample_proba([text], num_samples=10)[0]
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-5)


def test_inserted_calls_come_after_all_others(tiny, twin_of, encode, texts):
    model = tiny("bert", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0)
    plain, inserting = twin_of(model), twin_of(model, inserts=True)
    recorder = Recorder()
    inserting._forward.logits(encode(texts), recorder, rates=INSERTED)
    numbers = inserting._plan.numbers
    own = [number for number, call in zip(numbers, recorder.calls, strict=True) if not call.inserted]
    assert own == list(plain._plan.numbers) == list(range(len(own)))
    assert sorted(numbers) == list(range(len(numbers)))


# --- options, calibration, files --------------------------------------------------------------------------------------


def test_without_the_option_such_a_model_is_refused_and_told_of_it(still, bayesian):
    with pytest.raises(ValueError, match=r"has no active dropout, .* pass dropout=0\.1"):
        bayesian(still)(TEXTS[0])
    assert bayesian(still)(TEXTS[0], dropout=0.1)[0]["score_std"] > 0


def test_a_classifier_that_would_fail_at_every_call_is_not_saved(tiny, still, bayesian, tokenizer, tmp_path):
    both = BayesianTextClassificationPipeline(
        model=[tiny("bert"), still], tokenizer=tokenizer, posterior="ensemble+dropout"
    )
    for ours in (bayesian(tiny("bert"), dropout=0.1), bayesian(still, dropout="2x"), bayesian(still), both):
        with pytest.raises(ValueError, match=r"would fail at every call: .* pass dropout="):
            ours.save_pretrained(tmp_path / "new")
        assert not (tmp_path / "new").exists()
    ordinary = bayesian(still, num_samples=0)
    ordinary.save_pretrained(tmp_path / "new")
    assert load(tmp_path / "new")(TEXTS) == ordinary(TEXTS)


def test_a_converted_model_is_converted_once(still, bayesian):
    half = copy.deepcopy(still).half()
    ours = bayesian(half)  # runs in float32 on a CPU
    ours.dropout_candidates()
    own, inserting = ours._sampler.twin(), ours._sampler.twin(INSERTED)
    assert own is not inserting and own is ours._sampler.twin()
    pairs = zip(own._model.parameters(), inserting._model.parameters(), strict=True)
    assert all(one.data_ptr() == other.data_ptr() for one, other in pairs)
    with torch.no_grad():
        half.classifier.weight.mul_(2)
    assert ours._sampler.twin(INSERTED) is not inserting
    assert set(ours._sampler._twins) == {True}  # the other one holds the old weights
    fresh = bayesian(half)
    np.testing.assert_array_equal(samples(ours, dropout=0.1), samples(fresh, dropout=0.1))


def test_rates_that_cannot_be_drawn_are_refused(tiny, still, bayesian, own, tokenizer):
    with pytest.raises(ValueError, match=r'all of .* have rates; pass dropout=None, or a factor .* "2x"'):
        bayesian(tiny("bert"))(TEXTS[0], dropout=0.2)
    with pytest.raises(ValueError, match="has no active dropout"):
        bayesian(still)(TEXTS[0], dropout="2x")
    with pytest.raises(ValueError, match=r"would raise a rate of 0\.1 to 1\.2; pass a factor below 10"):
        bayesian(tiny("bert"))(TEXTS[0], dropout="12x")


def test_calls_and_threads_may_use_several_rates(still, bayesian):
    ours = bayesian(still, dropout=0.1)
    first, other = samples(ours), samples(ours, dropout=0.2)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(samples(ours), first)


def test_a_calibration_and_a_threshold_belong_to_their_rates(still, bayesian, recwarn):
    ours = bayesian(still, dropout=0.1)
    calibrated(ours, num_samples=4)
    ours.threshold = 0.6
    assert "abstained" in ours(TEXTS[0])[0] and not recwarn.list
    with pytest.warns(UserWarning) as caught:
        found = ours(TEXTS[0], dropout=0.2)[0]
    assert "abstained" not in found
    said = [str(warning.message) for warning in caught]
    assert any("was chosen for dropout=0.1" in message for message in said)
    assert any("calibrate(texts, labels, dropout=0.2)" in message for message in said)


def test_inserted_and_own_rates_are_told_apart_even_if_their_mean_is_the_same(tiny, bayesian):
    """Both calibrations are for a mean dropout rate of 0.1."""
    ours = bayesian(tiny("bert", hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.0))
    calibrated(ours, num_samples=4)
    assert ours.calibration["dropout"].dropout_rate == pytest.approx(0.1)
    with pytest.warns(UserWarning, match="these scores are not calibrated"):
        ours.predict_proba(TEXTS, dropout=0.1, num_samples=4)


def test_a_saved_folder_keeps_rate_calibration_and_spread(still, bayesian, tmp_path):
    from bayesian_text_classification import load

    ours = bayesian(still, dropout=0.1, num_samples=10)
    calibrated(ours)
    ours.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.sampling.dropout == 0.1 and again.spread == ours.spread and again.calibration == ours.calibration
    assert again(TEXTS) == ours(TEXTS)
    assert load(tmp_path, dropout=None).sampling.dropout is None


def test_the_card_says_so_and_an_endpoint_samples_at_the_saved_rate(still, bayesian, tmp_path):
    from bayesian_text_classification.pipeline.handler import EndpointHandler

    ours = bayesian(still, dropout=0.1, num_samples=4)
    ours.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "not trained with this dropout (`dropout=0.1`)" in card and "dropout=0.1, threshold=None" in card
    handler = EndpointHandler(str(tmp_path))
    assert handler({"inputs": TEXTS}) == ours(TEXTS)
    with pytest.raises(ValueError, match="unknown parameter 'dropout'"):  # each rate would need a pilot
        handler({"inputs": TEXTS, "parameters": {"dropout": 0.2}})


def test_each_rate_has_a_pilot_of_its_own(still, bayesian):
    ours = bayesian(still, dropout=0.1)
    small, large = ours.spread, ours.spread_for({"dropout": 0.3})
    assert large.share > 1.3 * small.share and (small.dropout, large.dropout) == (0.1, 0.3)
