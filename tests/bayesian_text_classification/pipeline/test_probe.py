import copy
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from bayesian_text_classification.pipeline.twin import StochasticTwin
from torch import nn

# Dropout calls in one forward pass, in train() mode and with baal's patch_module (transformers 5.23, baal 2.1).
EXPECTED = {
    ("bert", "sdpa"): (8, 6),
    ("bert", "eager"): (8, 6),
    ("distilbert", "sdpa"): (6, 4),
    ("distilbert", "eager"): (6, 4),
    ("albert", "sdpa"): (6, 4),
    ("roberta", "sdpa"): (9, 7),
    ("roberta", "eager"): (9, 7),
    ("electra", "sdpa"): (9, 7),
    ("modernbert", "sdpa"): (11, 8),
    ("bart", "sdpa"): (24, 2),
    ("bart", "eager"): (24, 2),
    ("t5", None): (26, 20),
    ("gpt2", "sdpa"): (7, 5),
    ("gpt2", "eager"): (7, 5),
    ("llama", "sdpa"): (2, 0),
    ("llama", "eager"): (2, 0),
    ("deberta-v2", None): (10, 10),
    ("mpnet", None): (9, 9),
    ("xlnet", None): (12, 12),
    ("fnet", None): (4, 4),
}


@pytest.mark.parametrize(("architecture", "attention"), EXPECTED)
def test_the_sites_match_the_calls_of_train_mode(
    architecture, attention, tiny, encode, twin_of, active_calls, calls_of, texts
):
    model = tiny(architecture, attention=attention)
    twin = twin_of(model, can_pad=model.config.pad_token_id is not None)
    truth = active_calls(copy.deepcopy(model).train(), encode([texts[0]]))
    assert calls_of(twin) == truth
    assert truth == EXPECTED[architecture, attention][0]
    assert twin.beyond_dropout is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("architecture", "attention"), EXPECTED)
def test_baal_reaches_no_attention_dropout(architecture, attention, tiny, encode, active_calls, texts):
    """The reason for this package. If baal fixes it, this fails, and the README's comparison is out of date."""
    from baal.bayesian.dropout import patch_module

    model = tiny(architecture, attention=attention)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched = patch_module(copy.deepcopy(model), inplace=False).eval()
    assert active_calls(patched, encode([texts[0]])) == EXPECTED[architecture, attention][1]


def test_the_embedded_model_is_stochastic_at_every_site(classifier, active_calls):
    inputs = dict(classifier.tokenizer(["a good film"], return_tensors="pt"))
    model = copy.deepcopy(classifier.model).float().train()
    assert sum(site.calls for site in classifier.dropout_sites) == active_calls(model, inputs) == 20
    assert {site.kind for site in classifier.dropout_sites} == {"dropout", "attention"}
    assert all(site.batch_dim == 0 and site.p == 0.1 for site in classifier.dropout_sites)


@pytest.mark.parametrize(
    "architecture", ["bert", "distilbert", "roberta", "bart", "gpt2", "llama", "t5", "xlnet", "mpnet"]
)
def test_every_site_changes_the_logits(architecture, tiny, encode, twin_of, samples, texts):
    """Samples differ with any single site on. The tests above would miss a site that is counted but never drops."""
    model = tiny(architecture)
    twin = twin_of(model, can_pad=model.config.pad_token_id is not None)
    plan = twin._plan
    inputs = encode(texts[:1])
    for index, layout in enumerate(plan.layouts):
        if layout is not None:
            only = tuple(layout if i == index else None for i in range(len(plan.layouts)))
            twin._plan = replace(plan, layouts=only)
            found = samples(twin, inputs, 20)
            assert found.std(1).max() > 0, (architecture, index)


@pytest.mark.parametrize("architecture", ["llama", "modernbert"])
def test_a_model_without_dropout_has_no_sites(architecture, tiny, twin_of):
    none = {"llama": {"attention_dropout": 0.0}, "modernbert": dict.fromkeys(
        ["attention_dropout", "embedding_dropout", "mlp_dropout", "classifier_dropout"], 0.0)}  # fmt: skip
    model = tiny(architecture, **none[architecture])
    twin = twin_of(model, can_pad=model.config.pad_token_id is not None)
    assert twin.sites() == ()


def test_a_merged_lora_keeps_only_the_dropout_of_the_base(tiny, twin_of, calls_of):
    from peft import LoraConfig, get_peft_model

    base = tiny("llama", attention_dropout=0.0, pad_token_id=0)
    config = LoraConfig(task_type="SEQ_CLS", lora_dropout=0.2, target_modules=["q_proj", "v_proj"])
    adapted = get_peft_model(base, config).eval()
    twin = twin_of(adapted)
    assert (calls_of(twin), {site.p for site in twin.sites()}) == (4, {0.2})
    assert twin_of(adapted.merge_and_unload()).sites() == ()


def test_attention_sites_have_a_name_and_a_kind(tiny, twin_of):
    sites = {site.name: site for site in twin_of(tiny("bert")).sites()}
    attention = sites["bert.encoder.layer.1.attention.self"]
    assert (attention.kind, attention.p, attention.calls, attention.batch_dim) == ("attention", 0.1, 1, 0)
    assert sites["dropout"].kind == "dropout"
    assert "bert.encoder.layer.1.attention.self.dropout" not in sites  # only its p is read; it is never called


def test_one_module_called_twice_is_one_site_with_two_calls(tiny, twin_of):
    """ALBERT's layers share one module; RoBERTa's head calls its dropout twice."""
    albert = {site.name: site.calls for site in twin_of(tiny("albert")).sites()}
    assert set(albert.values()) >= {2}
    roberta = {site.name: site.calls for site in twin_of(tiny("roberta")).sites()}
    assert roberta["classifier.dropout"] == 2


def test_one_module_with_two_rates_is_two_sites(tiny, encode):
    twin = StochasticTwin(tiny("bart", activation_dropout=0.3), encode)
    rates = {site.p for site in twin.sites() if site.name.endswith("encoder.layers.0")}
    assert rates == {0.1, 0.3}


@pytest.mark.parametrize(("architecture", "depends"), [("bert", False), ("roberta", False), ("bart", False),
                                                       ("xlnet", True), ("fnet", True)])  # fmt: skip
def test_padding_that_changes_the_answer_is_detected(architecture, depends, tiny, twin_of):
    assert twin_of(tiny(architecture)).needs_equal_lengths is depends


def test_padding_that_changes_the_answer_is_detected_in_half_precision(tiny, encode):
    assert StochasticTwin(tiny("xlnet"), encode, dtype=torch.bfloat16).needs_equal_lengths


def test_half_precision_gives_no_false_padding_alarm(tiny, encode):
    assert not StochasticTwin(tiny("bert"), encode, dtype=torch.bfloat16).needs_equal_lengths


# --- more than dropout ------------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, 0.9)) if self.training else x


class NoisyAttention(nn.Module):
    """Randomness in a module whose flag must be set, because its attention dropout depends on it."""

    def forward(self, x):
        if self.training:
            x = x * torch.bernoulli(torch.full_like(x, 0.9))
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)


class TrainingOnly(nn.Module):
    """Not random, but computes another function in train() mode."""

    def forward(self, x):
        return x * 2 if self.training else x


def test_a_module_that_draws_is_located(twin_of, same_random_state, own):
    """The probe draws from the global random state here, and restores it."""
    with pytest.warns(UserWarning, match=r"more than dropout.*'subject'"), same_random_state():
        twin = twin_of(own(Noisy()))
    assert twin.beyond_dropout == "subject"
    assert twin.sites() == ()


def test_an_attention_that_draws_is_located(twin_of, own):
    with pytest.warns(UserWarning, match=r"more than dropout.*'subject\.1'"):
        twin = twin_of(own(nn.Sequential(nn.Identity(), NoisyAttention())))
    assert twin.beyond_dropout == "subject.1"


def test_samples_stay_keyed_if_an_attention_draws(encode, twin_of, samples, own, texts):
    """The warning says that it stays off. So samples repeat, and the global random state does not change."""
    with pytest.warns(UserWarning, match="stays off"):
        twin = twin_of(own(NoisyAttention()))
    before = torch.get_rng_state()
    inputs = encode(texts)
    assert torch.equal(samples(twin, inputs), samples(twin, inputs))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_computes_something_else_in_train_mode_is_detected(twin_of, own):
    with pytest.warns(UserWarning, match=r"does more than dropout in train\(\) mode, in 'subject\.1'") as seen:
        assert twin_of(own(nn.Sequential(nn.Dropout(0.1), TrainingOnly()))).beyond_dropout == "subject.1"
    assert "randomness" not in str(seen[0].message)  # it is not random


class Inner(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.1) if self.training else x


class Outer(nn.Module):
    """Computes something else only if the flag of its child is set too."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        x = self.inner(x)
        return F.dropout(x * 2 if self.inner.training else x, 0.1) if self.training else x


def test_what_takes_several_flags_stays_off(encode, twin_of, samples, own, texts):
    """No module changes the logits alone. Left on, every sample would have twice the activations."""
    model = own(Outer())
    with pytest.warns(UserWarning, match=r"in 'Own': with every dropout call off, it .* That stays off"):
        twin = twin_of(model)
    inputs = encode(texts)
    drawn = samples(twin, inputs)
    with torch.no_grad():
        expected = model.eval()(**inputs)["logits"]
    assert twin.sites() == ()
    torch.testing.assert_close(drawn, expected[:, None].expand_as(drawn))


class ScalingAttention(nn.Module):
    """An attention that also scales its input in train() mode."""

    def forward(self, x):
        x = x * 2 if self.training else x
        return x + F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)


class GatedAttention(nn.Module):
    """An attention that does nothing else in train() mode."""

    def forward(self, x):
        return x + F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)


def test_what_else_a_module_does_in_train_mode_stays_off_as_the_warning_says(encode, twin_of, own, texts):
    model = own(nn.Sequential(ScalingAttention(), GatedAttention(), nn.Dropout(0.2))).eval()
    with pytest.warns(UserWarning, match="stays off"):
        twin = twin_of(model)
    assert [site.name for site in twin.sites()] == ["subject.1", "subject.2"]
    assert {m.training for m in twin._model.modules() if isinstance(m, ScalingAttention)} == {False}
    inputs = encode(texts)
    with torch.no_grad():
        expected = model(**inputs)["logits"]
    torch.testing.assert_close(twin.logits(inputs), expected, rtol=0, atol=1e-6)
    mean = twin.sample_logits(inputs, range(2000), seed=0, balanced=True).mean(1)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.1)


def test_models_of_transformers_do_nothing_but_dropout(tiny, twin_of, recwarn):
    for architecture in ("bert", "bart", "xlnet", "deberta-v2", "gpt2"):
        twin_of(tiny(architecture), can_pad=architecture != "gpt2")
    assert not [warning for warning in recwarn if "more than dropout" in str(warning.message)]
