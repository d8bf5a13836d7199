import copy
import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bayesian_text_classification.dropout import attention_with_dropout
from bayesian_text_classification.masks import KeyedMasks
from bayesian_text_classification.twin import StochasticTwin
from torch import nn

TEXTS = ["a good film", "what a terribly long and boring film this was", "no"]


@pytest.fixture
def encode(tokenizer):
    """Texts as the model's inputs."""

    def encode(texts, **options):
        rows = tokenizer(list(texts), padding=True, return_tensors="pt", **options)
        return {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}

    return encode


@pytest.fixture
def twin_of(encode):
    def make(model, **options):
        return StochasticTwin(model, encode, **options)

    return make


def samples(twin, inputs, count=4, **options):
    return twin.sample_logits(inputs, range(count), **{"seed": 0, "balanced": True, **options})


def calls_of(twin):
    return sum(site.calls for site in twin.sites)


# --- what is stochastic ---------------------------------------------------------------------------------------------

# Calls in one forward of train() mode and of baal's patch_module, as measured in transformers 5.23 and baal 2.1.
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
def test_the_sites_are_the_calls_of_train_mode(architecture, attention, tiny, encode, twin_of, active_calls):
    model = tiny(architecture, attention=attention)
    twin = twin_of(model, can_pad=model.config.pad_token_id is not None)
    truth = active_calls(copy.deepcopy(model).train(), encode([TEXTS[0]]))
    assert calls_of(twin) == truth
    assert truth == EXPECTED[architecture, attention][0]
    assert twin.hidden_randomness is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("architecture", "attention"), EXPECTED)
def test_baal_reaches_no_attention_dropout(architecture, attention, tiny, encode, active_calls):
    """The reason for this package. If baal mends it, this fails, and the README's comparison is out of date."""
    from baal.bayesian.dropout import patch_module

    model = tiny(architecture, attention=attention)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched = patch_module(copy.deepcopy(model), inplace=False).eval()
    assert active_calls(patched, encode([TEXTS[0]])) == EXPECTED[architecture, attention][1]


def test_the_embedded_model_is_stochastic_everywhere(classifier, active_calls):
    inputs = dict(classifier.tokenizer(["a good film"], return_tensors="pt"))
    model = copy.deepcopy(classifier.model).float().train()
    assert sum(site.calls for site in classifier.dropout_sites) == active_calls(model, inputs) == 20
    assert {site.kind for site in classifier.dropout_sites} == {"dropout", "attention"}
    assert all(site.batch_dim == 0 and site.p == 0.1 for site in classifier.dropout_sites)


@pytest.mark.parametrize(
    "architecture", ["bert", "distilbert", "roberta", "bart", "gpt2", "llama", "t5", "xlnet", "mpnet"]
)
def test_every_site_moves_the_answer(architecture, tiny, encode, twin_of):
    """A site that is counted but not dropped would go unseen above: with all others silent, samples still differ."""
    model = tiny(architecture)
    twin = twin_of(model, can_pad=model.config.pad_token_id is not None)
    plan = twin._plan
    inputs = encode(TEXTS[:1])
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
    assert twin.sites == ()


def test_a_merged_lora_leaves_only_the_dropout_of_the_base(tiny, twin_of):
    from peft import LoraConfig, get_peft_model

    base = tiny("llama", attention_dropout=0.0, pad_token_id=0)
    config = LoraConfig(task_type="SEQ_CLS", lora_dropout=0.2, target_modules=["q_proj", "v_proj"])
    adapted = get_peft_model(base, config).eval()
    twin = twin_of(adapted)
    assert (calls_of(twin), {site.p for site in twin.sites}) == (4, {0.2})
    assert twin_of(adapted.merge_and_unload()).sites == ()


def test_attention_sites_are_named_and_have_a_kind(tiny, twin_of):
    sites = {site.name: site for site in twin_of(tiny("bert")).sites}
    attention = sites["bert.encoder.layer.1.attention.self"]
    assert (attention.kind, attention.p, attention.calls, attention.batch_dim) == ("attention", 0.1, 1, 0)
    assert sites["dropout"].kind == "dropout"
    assert "bert.encoder.layer.1.attention.self.dropout" not in sites  # its p is read, it is never called


def test_where_the_batch_is(tiny, twin_of):
    assert {site.batch_dim for site in twin_of(tiny("xlnet")).sites} >= {1}
    deberta = twin_of(tiny("deberta-v2"))
    assert None in {site.batch_dim for site in deberta.sites}
    assert deberta.loops_over_samples
    assert not twin_of(tiny("bert")).loops_over_samples


@pytest.mark.parametrize(("architecture", "depends"), [("bert", False), ("roberta", False), ("bart", False),
                                                       ("xlnet", True), ("fnet", True)])  # fmt: skip
def test_padding_that_changes_the_answer_is_seen(architecture, depends, tiny, twin_of):
    assert twin_of(tiny(architecture)).needs_equal_lengths is depends


def test_one_module_called_twice_is_one_site_with_two_calls(tiny, twin_of):
    """ALBERT's layers are one module; RoBERTa's head calls its dropout twice."""
    albert = {site.name: site.calls for site in twin_of(tiny("albert")).sites}
    assert set(albert.values()) >= {2}
    roberta = {site.name: site.calls for site in twin_of(tiny("roberta")).sites}
    assert roberta["classifier.dropout"] == 2


@pytest.mark.parametrize("architecture", ["bert", "albert"])
def test_every_call_has_a_mask_of_its_own(architecture, tiny, encode, twin_of, monkeypatch):
    seen = []
    original = KeyedMasks.keep
    twin = twin_of(tiny(architecture))
    monkeypatch.setattr(KeyedMasks, "keep", lambda self, call, *rest: seen.append(call) or original(self, call, *rest))
    samples(twin, encode(TEXTS))
    assert len(seen) == len(set(seen)) == calls_of(twin)


# --- the truth from outside -----------------------------------------------------------------------------------------


def test_the_mean_is_that_of_pytorchs_own_dropout(tiny, encode, twin_of):
    """2,000 passes of train() mode against 2,000 of the twin: both are the model's MC-Dropout distribution."""
    model, passes = tiny("bert", num_labels=3), 2000
    inputs = encode(["a good film", "a bad film"])
    twin = twin_of(model)
    parts = [range(t, t + 200) for t in range(0, passes, 200)]
    keyed, balanced = (
        torch.cat([twin.sample_logits(inputs, part, seed=1, balanced=kind) for part in parts], 1)
        for kind in (False, True)
    )
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trained = copy.deepcopy(model).train()
        rows = {name: value.repeat_interleave(200, 0) for name, value in inputs.items()}
        native = torch.cat([trained(**rows).logits.view(2, 200, 3) for _ in range(passes // 200)], 1)
    native, keyed, balanced = (x.softmax(-1).double() for x in (native, keyed, balanced))
    error = (native.var(1) / passes + keyed.var(1) / passes).sqrt()
    assert ((native.mean(1) - keyed.mean(1)).abs() / error).max() < 4
    assert ((native.mean(1) - balanced.mean(1)).abs() / error).max() < 4
    assert keyed.std(1) == pytest.approx(native.std(1), rel=0.15)
    assert balanced.std(1) == pytest.approx(native.std(1), rel=0.15)
    with torch.no_grad():
        plain = model(**inputs).logits.softmax(-1)
    assert ((plain - native.mean(1)).abs() / error).max() > 8, "the test could not tell dropout from none"


def test_balanced_masks_need_fewer_passes(tiny, encode, twin_of):
    """The mean of one group is nearer to the mean of all than that of ten independent passes."""
    twin, inputs = twin_of(tiny("bert")), encode(TEXTS[:2])
    spread = {}
    for balanced in (True, False):
        groups = twin.sample_logits(inputs, range(400), seed=0, balanced=balanced).softmax(-1)[..., 0].view(2, 40, 10)
        spread[balanced] = groups.mean(2).var(1).mean()
    assert spread[True] < 0.95 * spread[False]


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "bart", "roberta", "t5", "gpt2", "xlnet", "deberta-v2"])
def test_the_pass_without_dropout_is_that_of_the_model(architecture, tiny, encode, twin_of):
    model = tiny(architecture)
    twin, inputs = twin_of(model, can_pad=model.config.pad_token_id is not None), encode(TEXTS[:1])
    with torch.no_grad():
        expected = model(**inputs).logits
    torch.testing.assert_close(twin.logits(inputs), expected, rtol=0, atol=1e-6)


def attention_inputs(case):
    generator = torch.Generator().manual_seed(0)
    heads = 2 if case == "gqa" else 4
    query = torch.randn(2, 4, 5, 8, generator=generator)
    key, value = (torch.randn(2, heads, 5, 8, generator=generator) for _ in range(2))
    mask = torch.rand(2, 1, 5, 5, generator=generator) > 0.3
    mask[0, 0, 2] = False  # a query that may attend to nothing
    options = {
        "plain": {},
        "causal": {"is_causal": True},
        "bool mask": {"attn_mask": mask},
        "float mask": {"attn_mask": torch.randn(2, 4, 5, 5, generator=generator)},
        "minimum mask": {"attn_mask": torch.where(mask, 0.0, torch.finfo(torch.float32).min)},
        "broadcast mask": {"attn_mask": mask[:, :, :1]},
        "gqa": {"enable_gqa": True, "is_causal": True},
        "scale": {"scale": 0.3},
        "other width": {},
        "fewer queries": {"is_causal": True},
    }[case]
    if case == "other width":
        value = torch.randn(2, 4, 5, 3, generator=generator)
    if case == "fewer queries":
        query = query[:, :, :3]
    return query, key, value, options


CASES = ["plain", "causal", "bool mask", "float mask", "minimum mask", "broadcast mask", "gqa", "scale", "other width",
         "fewer queries"]  # fmt: skip


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("case", CASES)
def test_attention_that_keeps_everything_is_pytorchs(case, p):
    query, key, value, options = attention_inputs(case)
    expected = F.scaled_dot_product_attention(query, key, value, **options)
    keep = torch.full((*query.shape[:-1], key.shape[-2]), -1, dtype=torch.int32)
    found = attention_with_dropout(
        query, key, value, options.get("attn_mask"), keep, p, options.get("is_causal", False),
        options.get("scale"), options.get("enable_gqa", False),
    )  # fmt: skip
    torch.testing.assert_close(found * (1 - p), expected, rtol=1e-5, atol=1e-6)


def test_attention_drops_weights_after_the_softmax():
    query, key, value, _ = attention_inputs("plain")
    keep = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(1)) > 0.5
    weights = torch.softmax(query @ key.mT / 8**0.5, -1)
    found = attention_with_dropout(query, key, value, None, -keep.int(), 0.5, False, None, False)
    torch.testing.assert_close(found, (weights * keep * 2) @ value)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "bart", "gpt2", "llama"])
def test_eager_and_sdpa_give_the_same_samples(architecture, tiny, encode, twin_of):
    inputs = encode(TEXTS[:1])
    found = []
    for attention in ("sdpa", "eager"):
        model = tiny(architecture, attention=attention)
        found.append(samples(twin_of(model, can_pad=model.config.pad_token_id is not None), inputs))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


# --- the same answer everywhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture", ["bert", "distilbert", "roberta", "bart", "albert", "mpnet", "deberta-v2", "t5"]
)
@pytest.mark.parametrize("balanced", [True, False])
def test_a_text_alone_is_the_text_in_a_batch(architecture, balanced, tiny, encode, twin_of):
    twin = twin_of(tiny(architecture))
    together = samples(twin, encode(TEXTS), 7, balanced=balanced)
    for i, text in enumerate(TEXTS):
        alone = samples(twin, encode([text]), 7, balanced=balanced)[0]
        torch.testing.assert_close(together[i], alone, rtol=0, atol=1e-5)


def test_left_padding_gives_the_same_answer(tiny, encode, twin_of):
    """With relative positions nothing else tells the sides apart."""
    model = tiny("llama", pad_token_id=0)
    twin = twin_of(model)
    left, alone = encode(TEXTS, padding_side="left"), encode(TEXTS[:1])
    torch.testing.assert_close(samples(twin, left)[0], samples(twin, alone)[0], rtol=0, atol=1e-5)


def test_samples_in_parts_are_the_samples_at_once(tiny, encode, twin_of):
    twin, inputs = twin_of(tiny("bert")), encode(TEXTS)
    whole = samples(twin, inputs, 25)
    parts = [
        twin.sample_logits(inputs, part, seed=0, balanced=True) for part in (range(7), range(7, 12), range(12, 25))
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-5)


def test_threads_do_not_disturb_each_other(tiny, encode, twin_of):
    twin, inputs = twin_of(tiny("bert")), [encode([text]) for text in TEXTS]
    expected = [samples(twin, batch, seed=i) for i, batch in enumerate(inputs * 4)]
    found: list = [None] * len(expected)

    def work(worker):
        for i in range(worker, len(expected), 8):
            found[i] = samples(twin, inputs[i % 3], seed=i)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# --- the caller's model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("architecture", ["bert", "bart", "gpt2", "xlnet"])
def test_the_callers_model_is_left_as_it_was(
    architecture, training, tiny, encode, twin_of, same_random_state, same_model
):
    model, inputs = tiny(architecture).train(training), encode(TEXTS[:1])
    with same_random_state(), same_model(model):
        twin = twin_of(model, can_pad=model.config.pad_token_id is not None)
        samples(twin, inputs)
        twin.logits(inputs)
    assert all(value.grad is None and value.requires_grad for value in model.parameters())


def test_train_mode_does_not_change_the_answers(tiny, encode, twin_of):
    model, inputs = tiny("bart"), encode(TEXTS)
    expected = samples(twin_of(model), inputs)
    assert torch.equal(samples(twin_of(model.train()), inputs), expected)
    assert torch.equal(twin_of(model).logits(inputs), twin_of(model.eval()).logits(inputs))


def test_switching_train_mode_needs_no_new_twin(tiny, twin_of):
    model = tiny("bert")
    twin = twin_of(model)
    model.train()
    assert twin.is_current()


@pytest.mark.parametrize("architecture", ["bert", "bart", "albert", "t5"])
def test_weights_are_shared_and_take_no_memory(architecture, tiny, twin_of):
    model = tiny(architecture)
    twin = twin_of(model)
    mine, theirs = twin._model, model
    assert mine is not theirs
    for kind in ("named_parameters", "named_buffers"):
        ours, caller = dict(getattr(mine, kind)()), dict(getattr(theirs, kind)())
        assert ours.keys() == caller.keys()
        assert all(ours[name] is caller[name] for name in ours)


def test_another_dtype_converts_a_copy(tiny, encode, twin_of):
    model, inputs = tiny("bert").half(), encode(TEXTS)
    twin = twin_of(model, dtype=torch.float32)
    assert samples(twin, inputs).dtype == torch.float32
    assert {value.dtype for value in model.parameters()} == {torch.float16}
    float32 = copy.deepcopy(model).float()
    torch.testing.assert_close(samples(twin, inputs), samples(twin_of(float32), inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_sampled_too(dtype, tiny, encode, twin_of):
    inputs = encode(TEXTS)
    found = samples(twin_of(tiny("bert").to(dtype)), inputs, 40)
    expected = samples(twin_of(tiny("bert")), inputs, 40)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float().mean(1), expected.mean(1), rtol=0, atol=0.3)


def rename_weights(model):
    model.classifier.weight = nn.Parameter(model.classifier.weight.detach() * 2)


def change_p(model):
    model.dropout.p = 0.3


def replace_module(model):
    model.classifier = nn.Linear(32, 2)


def half(model):
    model.half()


def double(model):
    model.to(torch.float64)


def attention(model):
    model.set_attn_implementation("eager")


def attention_dropout(model):
    model.bert.encoder.layer[0].attention.self.dropout.p = 0.4


def no_more_pads(model):
    model.config.pad_token_id = None


def hook(model):
    model.classifier.register_forward_hook(lambda module, inputs, output: output * 2)


def adapter(model):
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(target_modules=["query"], lora_dropout=0.1), model)


@pytest.mark.parametrize(
    "change",
    [rename_weights, change_p, replace_module, half, double, attention, attention_dropout, no_more_pads, hook, adapter],
)
def test_a_changed_model_is_seen(change, tiny, twin_of):
    model = tiny("bert")
    twin = twin_of(model)
    assert twin.is_current()
    change(model)
    assert not twin.is_current()


@pytest.mark.parametrize("how", ["in place", "state dict", "data", "optimizer"])
def test_new_values_of_the_same_weights_are_followed(how, tiny, encode, twin_of):
    model, inputs = tiny("bert"), encode(TEXTS)
    twin = twin_of(model)
    new = tiny("bert")
    with torch.no_grad():
        for value in new.parameters():
            value.mul_(1.1)
    if how == "in place":
        with torch.no_grad():
            for value in model.parameters():
                value.mul_(1.1)
    elif how == "state dict":
        model.load_state_dict(new.state_dict())
    elif how == "data":
        for value, other in zip(model.parameters(), new.parameters(), strict=True):
            value.data = other.data
    else:
        for value in model.parameters():
            value.grad = -0.1 * value.detach()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert twin.is_current()
    torch.testing.assert_close(samples(twin, inputs), samples(twin_of(new), inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["in place", "data"])
def test_new_values_under_a_converted_twin_make_it_outdated(how, tiny, twin_of):
    """The copy in float32 cannot follow."""
    model = tiny("bert").half()
    twin = twin_of(model, dtype=torch.float32)
    assert twin.is_current()
    with torch.no_grad():
        if how == "in place":
            model.classifier.weight.mul_(2)
        else:
            model.classifier.weight.data = model.classifier.weight.data * 2
    assert not twin.is_current()


# --- what train() mode would bring along ----------------------------------------------------------------------------


def test_layerdrop_stays_off(tiny, encode, twin_of, recwarn):
    dropped = tiny("bart", encoder_layerdrop=0.5, decoder_layerdrop=0.5)
    twin, inputs = twin_of(dropped), encode(TEXTS)
    assert calls_of(twin) == 24
    assert torch.equal(samples(twin, inputs, 20), samples(twin_of(tiny("bart")), inputs, 20))
    assert (dropped.model.encoder.layerdrop, dropped.config.encoder_layerdrop) == (0.5, 0.5)
    assert not [warning for warning in recwarn if "randomness" in str(warning.message)]


def test_gradient_checkpointing_stays_off(tiny, encode, twin_of):
    model = tiny("bert")
    expected = samples(twin_of(model), encode(TEXTS))
    model.gradient_checkpointing_enable()
    assert torch.equal(samples(twin_of(model.train()), encode(TEXTS)), expected)
    assert model.is_gradient_checkpointing


# --- models of one's own --------------------------------------------------------------------------------------------


class Own(nn.Module):
    """Embedding, the subject, mean over positions, linear."""

    def __init__(self, subject, width=16):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = nn.Embedding(30522, width)
            self.subject = subject() if isinstance(subject, type) else subject
            self.out = nn.Linear(width, 2)
        self.eval()

    def forward(self, input_ids, attention_mask):
        hidden = self.subject(self.embedding(input_ids))
        weight = attention_mask[..., None].to(hidden.dtype)
        return {"logits": self.out((hidden * weight).sum(1) / weight.sum(1))}


class Channels(nn.Module):
    """(batch, length, width) -> (batch, width, length, ...) and back, for dropout of whole channels."""

    def __init__(self, module, extra):
        super().__init__()
        self.inner, self.extra = module, extra

    def forward(self, x):
        x = x.transpose(1, 2)
        x = self.inner(x.reshape(*x.shape, *[1] * self.extra))
        return x.reshape(x.shape[:3]).transpose(1, 2)


class Functional(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.2, self.training) + F.dropout(x, p=0.2, training=self.training)


class Gated(nn.Module):
    """As in transformers' attention: p is 0 unless the owner trains."""

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)


class Torch(nn.Module):
    """Past torch.nn.functional."""

    def forward(self, x):
        return torch.dropout(x, 0.2, self.training)


class Inplace(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2, inplace=True)

    def forward(self, x):
        x = x * 1
        self.drop(x)
        return x


class Twice(nn.Module):
    """One module under two names, one of them called twice."""

    def __init__(self):
        super().__init__()
        self.one = self.other = nn.Dropout(0.2)

    def forward(self, x):
        return self.other(torch.relu(self.one(self.one(x))))


class Attention(nn.Module):
    """PyTorch's own multi-head attention, whose dropout is inside a function of torch.nn.functional."""

    def __init__(self, need_weights=False):
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, dropout=0.2, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x):
        return self.inner(x, x, x, need_weights=self.need_weights)[0]


def encoder_layer(**options):
    return nn.TransformerEncoderLayer(16, 4, 32, dropout=0.2, batch_first=True, **options)


OWN = {
    "Dropout": (lambda: nn.Dropout(0.2), 1),
    "Dropout1d": (lambda: Channels(nn.Dropout1d(0.2), 0), 1),
    "Dropout2d": (lambda: Channels(nn.Dropout2d(0.2), 1), 1),
    "Dropout3d": (lambda: Channels(nn.Dropout3d(0.2), 2), 1),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.2), 1),
    "FeatureAlphaDropout": (lambda: Channels(nn.FeatureAlphaDropout(0.2), 0), 1),
    "functional": (Functional, 2),
    "gated attention": (Gated, 1),
    "torch.dropout": (Torch, 1),
    "in place": (Inplace, 1),
    "twice": (Twice, 3),
    "MultiheadAttention": (Attention, 1),
    "MultiheadAttention with weights": (lambda: Attention(True), 1),
    "TransformerEncoder": (lambda: nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False), 8),
    "TransformerEncoder, nested": (lambda: nn.TransformerEncoder(encoder_layer(), 2), 8),
}


@pytest.mark.parametrize("name", OWN)
def test_models_of_ones_own(name, encode, twin_of):
    """Sites as many as calls of train() mode; the same mean as train() mode; alone = in a batch."""
    make, calls = OWN[name]
    model, inputs = Own(make()), encode(["a good film", "a bad film"])
    twin = twin_of(model)
    assert calls_of(twin) == calls
    keyed = twin.sample_logits(inputs, range(1000), seed=0, balanced=True).double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = {key: value.repeat_interleave(1000, 0) for key, value in inputs.items()}
        native = copy.deepcopy(model).train()(**rows)["logits"].view(2, 1000, 2).double()
    error = ((native.var(1) + keyed.var(1)) / 1000).sqrt()
    assert ((native.mean(1) - keyed.mean(1)).abs() / error).max() < 4.5
    np.testing.assert_allclose(keyed.std(1), native.std(1), rtol=0.15)
    alone = samples(twin, encode(["a bad film"]))
    torch.testing.assert_close(samples(twin, inputs)[1:], alone, rtol=0, atol=1e-5)


def test_an_aliased_dropout_is_one_site(twin_of):
    (site,) = twin_of(Own(Twice())).sites
    assert (site.name, site.calls) == ("subject.one", 3)


def test_whole_channels_are_dropped(encode, twin_of):
    """Dropout1d: a channel is dropped at all positions or at none."""
    model = Own(Channels(nn.Dropout1d(0.5), 0))
    outputs = []
    twin = twin_of(model)
    twin._model.subject.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    samples(twin, encode(["a good film"]), 20)
    zero = outputs[-1] == 0
    assert torch.equal(zero.all(1), zero.any(1))
    assert 0.3 < zero.float().mean() < 0.7


class Noisy(nn.Module):
    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, 0.9)) if self.training else x


class NoisyAttention(nn.Module):
    """Hidden randomness in a module that must train, because its attention dropout asks it."""

    def forward(self, x):
        if self.training:
            x = x * torch.bernoulli(torch.full_like(x, 0.9))
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)


class TrainingOnly(nn.Module):
    """No randomness, and yet another function in train() mode."""

    def forward(self, x):
        return x * 2 if self.training else x


def test_hidden_randomness_is_named(twin_of, same_random_state):
    """The probe draws from the global random state here, and gives it back as it was."""
    with pytest.warns(UserWarning, match=r"randomness.*'subject'"), same_random_state():
        twin = twin_of(Own(Noisy()))
    assert twin.hidden_randomness == "subject"
    assert twin.sites == ()


def test_hidden_randomness_inside_an_attention_is_named(twin_of):
    with pytest.warns(UserWarning, match=r"randomness.*'subject\.1'"):
        twin = twin_of(Own(nn.Sequential(nn.Identity(), NoisyAttention())))
    assert twin.hidden_randomness == "subject.1"


def test_samples_are_keyed_where_an_attention_hides_randomness(encode, twin_of):
    """The warning says that it stays off. Then the samples repeat, and nobody's random state moves."""
    with pytest.warns(UserWarning, match="stays off"):
        twin = twin_of(Own(NoisyAttention()))
    before = torch.get_rng_state()
    inputs = encode(TEXTS)
    assert torch.equal(samples(twin, inputs), samples(twin, inputs))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_computes_something_else_in_train_mode_is_named(twin_of):
    with pytest.warns(UserWarning, match="train"):
        assert twin_of(Own(TrainingOnly())).hidden_randomness is not None


def test_models_of_transformers_hide_nothing(tiny, twin_of, recwarn):
    for architecture in ("bert", "bart", "xlnet", "deberta-v2", "gpt2"):
        twin_of(tiny(architecture), can_pad=architecture != "gpt2")
    assert not [warning for warning in recwarn if "randomness" in str(warning.message)]


class Steps(nn.Module):
    """A buffer that counts training steps."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.steps += 1
        return x


class Norm(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


MOVING = {
    "BatchNorm": lambda: Norm(nn.BatchNorm1d(16)),
    "InstanceNorm": lambda: Norm(nn.InstanceNorm1d(16, track_running_stats=True)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)),
    "own buffer": Steps,
}


@pytest.mark.filterwarnings("ignore:.*has randomness that is not dropout")
@pytest.mark.parametrize("name", MOVING)
def test_buffers_that_training_moves_do_not_move(name, encode, twin_of, same_model):
    """The twin shares them with the caller."""
    model = Own(nn.Sequential(MOVING[name](), nn.Dropout(0.1)))
    with same_model(model):
        twin = twin_of(model)
        samples(twin, encode(TEXTS))


def test_batchnorm_stays_in_eval_and_the_answer_is_right(encode, twin_of):
    model = Own(nn.Sequential(Norm(nn.BatchNorm1d(16)), nn.Dropout(0.1)))
    model.subject[0].norm.running_mean.fill_(3.0)
    twin, inputs = twin_of(model), encode(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(twin.logits(inputs), model(**inputs)["logits"])
    assert twin.hidden_randomness is None


def test_a_path_that_depends_on_the_input_is_refused(encode, twin_of):
    """Masks are keyed by the order of calls."""

    class Branch(nn.Module):
        def forward(self, x):
            x = F.dropout(x, 0.1, self.training)
            return F.dropout(x, 0.1, self.training) if x.shape[1] > 10 else x

    twin = twin_of(Own(Branch()))
    with pytest.raises(RuntimeError, match="depends on its input"):
        samples(twin, encode([" ".join(["film"] * 20)]))


def test_p_of_one_drops_everything(encode, twin_of):
    model = Own(nn.Dropout(1.0))
    found = samples(twin_of(model), encode(TEXTS))
    torch.testing.assert_close(found, model.out.bias.detach().expand_as(found))


def test_padding_that_changes_the_answer_is_seen_in_half_precision_too(tiny, encode):
    assert StochasticTwin(tiny("xlnet"), encode, dtype=torch.bfloat16).needs_equal_lengths


def test_no_padding_problem_is_imagined_in_half_precision(tiny, encode):
    assert not StochasticTwin(tiny("bert"), encode, dtype=torch.bfloat16).needs_equal_lengths


def test_one_module_with_two_rates_is_two_sites(tiny, encode):
    twin = StochasticTwin(tiny("bart", activation_dropout=0.3), encode)
    rates = {site.p for site in twin.sites if site.name.endswith("encoder.layers.0")}
    assert rates == {0.1, 0.3}


# --- what the probe cannot tell apart -------------------------------------------------------------------------------


class HeadsFirst(nn.Module):
    """(batch, length, width) -> (heads * batch, length, width / heads), dropped, and back: the batch is innermost."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        batch, length, width = x.shape
        folded = x.view(batch, length, 4, width // 4).permute(2, 0, 1, 3).reshape(-1, length, width // 4)
        return self.drop(folded).view(4, batch, length, width // 4).permute(1, 2, 0, 3).reshape(x.shape)


class Chosen(nn.Module):
    """Drops units of some tokens only, packed: how many there are depends on the texts, as in a mixture of experts."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        chosen = x[..., 0] > 0
        output = x.clone()
        output[chosen] = self.drop(x[chosen])
        return output


class Mixed(nn.Module):
    """Two dimensions that grow with the number of texts."""

    def forward(self, x):
        weights = torch.eye(len(x)).to(x)[:, :, None, None].expand(-1, -1, *x.shape[1:])
        return (F.dropout(weights, 0.2, self.training) * x).sum(1)


@pytest.mark.parametrize("module", [HeadsFirst, Chosen, Mixed])
def test_rows_that_cannot_be_told_apart_run_alone(module, encode, twin_of):
    twin = twin_of(Own(module()))
    assert (twin.loops_over_texts, twin.needs_equal_lengths) == (True, True)
    assert {site.batch_dim for site in twin.sites} == {None}
    texts = ["a good film", "a bad film", "no such film"]
    together = samples(twin, encode(texts), 7)
    assert together.std(1).max() > 0
    for i, text in enumerate(texts):
        torch.testing.assert_close(together[i], samples(twin, encode([text]), 7)[0], rtol=0, atol=1e-6)
    assert not torch.equal(together[0], together[1])


def test_rows_that_can_be_told_apart_do_not_run_alone(tiny, twin_of):
    for architecture in ("bert", "xlnet", "deberta-v2", "bart"):
        assert not twin_of(tiny(architecture)).loops_over_texts


class Windows(nn.Module):
    """Pads to whole windows and folds them into the batch, as Longformer's kin do."""

    def __init__(self, window):
        super().__init__()
        self.drop, self.window = nn.Dropout(0.2), window

    def forward(self, x):
        padded = F.pad(x, (0, 0, 0, -x.shape[1] % self.window))
        dropped = self.drop(padded.reshape(-1, self.window, x.shape[-1]))
        return dropped.view(padded.shape)[:, : x.shape[1]]


def test_windows_that_the_probe_sees_need_equal_lengths(encode, twin_of):
    """Alone the short text has one window, beside the long one two: its units would have other numbers."""
    twin = twin_of(Own(Windows(6)))
    assert (twin.needs_equal_lengths, twin.loops_over_texts) == (True, False)


def test_windows_that_the_probe_does_not_see_are_refused_where_texts_are_padded(encode, twin_of):
    twin = twin_of(Own(Windows(16)))
    long = " ".join(["film"] * 20)
    assert not twin.needs_equal_lengths
    with pytest.raises(RuntimeError, match="padding=False"):
        samples(twin, encode([long, "a good film"]))
    equal = samples(twin, encode([long, " ".join(["bad"] * 20)]))
    torch.testing.assert_close(equal[1:], samples(twin, encode([" ".join(["bad"] * 20)])), rtol=0, atol=1e-6)


def test_a_dimension_that_grows_beyond_the_probe_is_no_matter(encode, twin_of):
    """Longformer pads to its window of 512: the probe cannot see that this dimension is the length."""

    class Padded(nn.Module):
        def forward(self, x):
            padded = F.pad(x, (0, 0, 0, -x.shape[1] % 16))
            heads = padded.view(*padded.shape[:2], 4, 4).transpose(1, 2)
            dropped = F.dropout(heads, 0.2, self.training)
            return dropped.transpose(1, 2).reshape(padded.shape)[:, : x.shape[1]]

    twin = twin_of(Own(Padded()))
    together = samples(twin, encode([" ".join(["film"] * 20), "a good film"]))
    torch.testing.assert_close(together[1:], samples(twin, encode(["a good film"])), rtol=0, atol=1e-6)


class DrawsInEval(nn.Module):
    """Reformer's hashing: random rotations in every mode, for texts of more than one chunk."""

    def __init__(self, draw, at_least=0):
        super().__init__()
        self.draw, self.at_least, self.drop = draw, at_least, nn.Dropout(0.1)

    def forward(self, x):
        return self.drop(x + self.draw(x) if x.shape[1] >= self.at_least else x)


DRAWS = {
    "torch": lambda x: torch.randn(x.shape[-1]),
    "tensor": lambda x: torch.empty_like(x).uniform_(),
    "numpy": lambda x: np.random.rand(),  # noqa: NPY002  # what a model might do
    "python": lambda x: random.random(),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_a_model_that_draws_in_eval_mode_is_refused(draw, encode, twin_of, same_random_state):
    with same_random_state(), pytest.raises(ValueError, match=r"in eval\(\) mode too, in 'subject'") as caught:
        twin_of(Own(DrawsInEval(DRAWS[draw])))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("draw", ["torch", "tensor"])
def test_a_model_that_draws_for_long_texts_alone_is_refused_there(draw, encode, twin_of, same_random_state):
    twin = twin_of(Own(DrawsInEval(DRAWS[draw], at_least=20)))
    samples(twin, encode(TEXTS))
    long = encode([" ".join(["film"] * 20)])
    for run in (lambda: samples(twin, long), lambda: twin.logits(long)):
        with same_random_state(), pytest.raises(ValueError, match=r"in eval\(\) mode too"):
            run()


@pytest.mark.parametrize("draw", ["numpy", "python"])
def test_hidden_randomness_of_numpy_and_python_is_seen(draw, twin_of, same_random_state):
    class Noise(nn.Module):
        def forward(self, x):
            return x * (1 + 1e-9 * DRAWS[draw](x)) if self.training else x

    with pytest.warns(UserWarning, match="randomness"), same_random_state():
        assert twin_of(Own(nn.Sequential(nn.Dropout(0.1), Noise()))).hidden_randomness == "subject.1"


class BuildsItself(nn.Module):
    """BigBird at its first short text: a layer in place of another, initialised at random."""

    def __init__(self):
        super().__init__()
        self.drop, self.new = nn.Dropout(0.1), None

    def forward(self, x):
        if self.new is None:
            self.new = nn.Linear(16, 16)
            self.new.weight.data.fill_(0.1)
        return self.drop(x + self.new(x) * 0)


def test_a_model_that_rebuilds_itself_disturbs_nobody(encode, twin_of, same_model, same_random_state):
    model = Own(BuildsItself())
    with same_random_state(), same_model(model):
        twin = twin_of(model)
        samples(twin, encode(TEXTS))
    assert calls_of(twin) == 1


class Jitter(nn.Module):
    """Mixtral's: noise in train() mode. Phi-MoE reads the same attribute in eval() too, as a threshold."""

    def __init__(self):
        super().__init__()
        self.jitter_noise = 0.25
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        if self.training and self.jitter_noise > 0:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter_noise, 1 + self.jitter_noise)
        return self.drop(x)


def test_jitter_stays_off_and_keeps_its_value(encode, twin_of):
    twin = twin_of(Own(Jitter()))
    assert (twin.hidden_randomness, calls_of(twin)) == (None, 1)
    assert twin._model.subject.jitter_noise == 0.25


@pytest.mark.parametrize("setting", ["flex_attention", "flash_attention_2"])
@pytest.mark.parametrize("architecture", ["bert", "llama", "modernbert"])
def test_flash_and_flex_attention_become_sdpa(architecture, setting, tiny, encode, twin_of, same_model):
    """Their dropout is inside a kernel. The caller's own setting stays."""
    model = tiny(architecture, **({"pad_token_id": 0} if architecture == "llama" else {}))
    expected = samples(twin_of(model), encode(TEXTS))
    model.config._attn_implementation_internal = setting
    with same_model(model):
        twin = twin_of(model)
        assert torch.equal(samples(twin, encode(TEXTS)), expected)
    assert (model.config._attn_implementation, twin._model.config._attn_implementation) == (setting, "sdpa")


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "xlnet"])
def test_threads_do_not_disturb_each_other_in_loops(architecture, tiny, encode, twin_of):
    """Rows of a batch, one pass at a time, and equal lengths: the same twin in four threads."""
    twin, inputs = twin_of(tiny(architecture)), [encode([text]) for text in TEXTS]
    expected = [samples(twin, batch) for batch in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: samples(twin, batch), inputs * 4))
    assert all(torch.equal(a, b) for a, b in zip(found, expected * 4, strict=True))
