import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from bayesian_text_classification.pipeline.masks import KeyedMasks
from torch import nn

# --- against independent references -----------------------------------------------------------------------------------


def test_the_mean_equals_that_of_pytorchs_dropout(tiny, encode, twin_of):
    """2,000 passes in train() mode and 2,000 of the twin both sample the model's MC-Dropout distribution."""
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
    assert ((plain - native.mean(1)).abs() / error).max() > 8, "the test could not distinguish dropout from no dropout"


def test_balanced_masks_need_fewer_passes(tiny, encode, twin_of, texts):
    """The mean of one group is closer to the overall mean than the mean of ten independent passes."""
    twin, inputs = twin_of(tiny("bert")), encode(texts[:2])
    spread = {}
    for balanced in (True, False):
        groups = twin.sample_logits(inputs, range(400), seed=0, balanced=balanced).softmax(-1)[..., 0].view(2, 40, 10)
        spread[balanced] = groups.mean(2).var(1).mean()
    assert spread[True] < 0.95 * spread[False]


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "bart", "roberta", "t5", "gpt2", "xlnet", "deberta-v2"])
def test_the_pass_without_dropout_equals_the_models(architecture, tiny, encode, twin_of, texts):
    model = tiny(architecture)
    twin, inputs = twin_of(model, can_pad=model.config.pad_token_id is not None), encode(texts[:1])
    with torch.no_grad():
        expected = model(**inputs).logits
    torch.testing.assert_close(twin.logits(inputs), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "bart", "gpt2", "llama"])
def test_eager_and_sdpa_give_the_same_samples(architecture, tiny, encode, twin_of, samples, texts):
    inputs = encode(texts[:1])
    found = []
    for attention in ("sdpa", "eager"):
        model = tiny(architecture, attention=attention)
        found.append(samples(twin_of(model, can_pad=model.config.pad_token_id is not None), inputs))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_can_be_sampled(dtype, tiny, encode, twin_of, samples, texts):
    inputs = encode(texts)
    found = samples(twin_of(tiny("bert").to(dtype)), inputs, 40)
    expected = samples(twin_of(tiny("bert")), inputs, 40)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float().mean(1), expected.mean(1), rtol=0, atol=0.3)


# --- the same answer everywhere ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture", ["bert", "distilbert", "roberta", "bart", "albert", "mpnet", "deberta-v2", "t5"]
)
@pytest.mark.parametrize("balanced", [True, False])
def test_a_text_has_the_same_samples_alone_and_in_a_batch(
    architecture, balanced, tiny, encode, twin_of, samples, texts
):
    twin = twin_of(tiny(architecture))
    together = samples(twin, encode(texts), 7, balanced=balanced)
    for i, text in enumerate(texts):
        alone = samples(twin, encode([text]), 7, balanced=balanced)[0]
        torch.testing.assert_close(together[i], alone, rtol=0, atol=1e-5)


def test_left_padding_gives_the_same_answer(tiny, encode, twin_of, samples, texts):
    """With relative positions, only the masks could depend on the padding side."""
    model = tiny("llama", pad_token_id=0)
    twin = twin_of(model)
    left, alone = encode(texts, padding_side="left"), encode(texts[:1])
    torch.testing.assert_close(samples(twin, left)[0], samples(twin, alone)[0], rtol=0, atol=1e-5)


def test_samples_in_parts_equal_the_samples_at_once(tiny, encode, twin_of, samples, texts):
    twin, inputs = twin_of(tiny("bert")), encode(texts)
    whole = samples(twin, inputs, 25)
    parts = [
        twin.sample_logits(inputs, part, seed=0, balanced=True) for part in (range(7), range(7, 12), range(12, 25))
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "xlnet"])
def test_threads_do_not_affect_each_other(architecture, tiny, encode, twin_of, samples, texts):
    """One twin in eight threads, for samples as rows of a batch, one pass at a time, and equal lengths."""
    twin, inputs = twin_of(tiny(architecture)), [encode([text]) for text in texts] * 4
    expected = [samples(twin, batch, seed=i) for i, batch in enumerate(inputs)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: samples(twin, inputs[i], seed=i), range(len(inputs))))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# --- one mask for each call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["bert", "albert"])
def test_every_call_has_its_own_mask(architecture, tiny, encode, twin_of, monkeypatch, samples, calls_of, texts):
    seen = []
    original = KeyedMasks.mask
    twin = twin_of(tiny(architecture))
    monkeypatch.setattr(KeyedMasks, "mask", lambda self, call, *rest: seen.append(call) or original(self, call, *rest))
    samples(twin, encode(texts))
    assert len(seen) == len(set(seen)) == calls_of(twin)


class Branch(nn.Module):
    """Makes one more dropout call for texts longer than the probe's."""

    def __init__(self, extra=lambda x, training: F.dropout(x, 0.1, training)):
        super().__init__()
        self.extra = extra

    def forward(self, x):
        x = F.dropout(x, 0.1, self.training)
        return self.extra(x, self.training) if x.shape[1] > 10 else x


def test_a_text_on_another_code_path_runs_by_itself(encode, twin_of, samples, own):
    twin = twin_of(own(Branch()))
    long = [" ".join([word] * 20) for word in ("film", "bad")]
    together = samples(twin, encode(long), 12)
    for row, text in zip(together, long, strict=True):
        torch.testing.assert_close(row, samples(twin, encode([text]), 12)[0], rtol=0, atol=1e-6)
        assert row.std(0).min() > 0
    assert not torch.equal(*together)
    short = samples(twin, encode(["a good film"]), 12)
    torch.testing.assert_close(samples(twin, encode(["a good film"] * 2), 12)[1:], short, rtol=0, atol=1e-6)


def test_masks_on_another_code_path_have_the_spread_of_pytorchs(encode, twin_of, own):
    """Both calls drop units: the spread is that of train() mode."""
    model, inputs = own(Branch()), encode([" ".join(["film"] * 20)])
    keyed = twin_of(model).sample_logits(inputs, range(1000), seed=0, balanced=False)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = {key: value.repeat_interleave(1000, 0) for key, value in inputs.items()}
        native = copy.deepcopy(model).train()(**rows)["logits"]
    assert keyed[0].std(0) == pytest.approx(native.std(0), rel=0.15)


def test_another_code_path_in_a_padded_batch_raises(encode, twin_of, samples, own):
    twin = twin_of(own(Branch()))
    with pytest.raises(RuntimeError, match=r"depends on its input.*padding=False"):
        samples(twin, encode([" ".join(["film"] * 20), "a good film"]))


def test_a_code_path_that_depends_on_the_masks_raises(encode, twin_of, samples, own):
    twin = twin_of(own(Branch(lambda x, training: F.dropout(x, 0.1, training) if bool((x == 0).any()) else x)))
    with pytest.raises(RuntimeError, match="depends on its input"):
        samples(twin, encode([" ".join(["film"] * 20)]), 40)


@pytest.mark.filterwarnings("ignore:.*does more than dropout")
def test_another_code_path_raises_if_some_dropout_stays_off(encode, twin_of, samples, own):
    """There is no way to know which of the new calls must stay off."""

    class Off(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.1, False)

    twin = twin_of(own(nn.Sequential(Off(), Branch())))
    with pytest.raises(RuntimeError, match="depends on its input"):
        samples(twin, encode([" ".join(["film"] * 20)]))


def test_canine_samples_texts_of_several_chunks(tiny, encode, twin_of, samples):
    """Its local attention calls dropout once per chunk of `local_transformer_stride` characters."""
    twin = twin_of(tiny("canine"))
    texts = [" ".join([word] * 40) for word in ("film", "bad", "good")]
    together = samples(twin, encode(texts))
    assert together.std(1).min() > 0
    for row, text in zip(together, texts, strict=True):
        torch.testing.assert_close(row, samples(twin, encode([text]))[0], rtol=0, atol=1e-5)
