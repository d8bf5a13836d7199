"""Features of texts: against the hidden states that transformers gives."""

import threading

import pytest
import torch
from bayesian_text_classification.pipeline.features import NO_STATES
from bayesian_text_classification.pipeline.twin import OrdinaryTwin, StochasticTwin

TEXTS = ["a good film", "what a terribly long and boring film this was", "no"]


@pytest.mark.parametrize(
    "name", ["bert", "distilbert", "roberta", "modernbert", "gpt2", "llama", "bart", "t5", "xlnet"]
)
def test_features_are_the_mean_of_the_last_hidden_states(name, tiny, encode):
    model, inputs = tiny(name, pad_token_id=0), encode(TEXTS)
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    states = outputs.get("decoder_hidden_states") or outputs["hidden_states"]
    weights = inputs["attention_mask"][..., None]
    expected = (states[-1] * weights).sum(1) / weights.sum(1)
    twin = OrdinaryTwin(model, encode)
    logits, found = twin.logits_and_features(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, outputs.logits, rtol=0, atol=1e-5)


def test_a_model_of_your_own_gives_the_input_of_its_last_linear_layer(own, encode):
    model, inputs = own(torch.nn.Dropout(0.1)), encode(TEXTS)
    hidden, weights = model.embedding(inputs["input_ids"]), inputs["attention_mask"][..., None]
    expected = (hidden * weights).sum(1) / weights.sum(1)
    torch.testing.assert_close(OrdinaryTwin(model, encode).logits_and_features(inputs)[1], expected)


def test_a_model_without_hidden_states_says_so(encode):
    class Bag(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Embedding(30522, 2)

        def forward(self, input_ids, attention_mask):
            return {"logits": (self.scores(input_ids) * attention_mask[..., None]).sum(1)}

    with pytest.raises(ValueError, match=NO_STATES):
        OrdinaryTwin(Bag().eval(), encode).logits_and_features(encode(TEXTS))


def test_the_callers_model_gets_no_hook_and_copies_of_the_twin_do(tiny, encode):
    model, inputs = tiny("bert"), encode(TEXTS)
    first = StochasticTwin(model, encode)
    like = StochasticTwin(model, encode, inserts=True, like=first)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(like.logits_and_features(inputs)[1], first.logits_and_features(inputs)[1])


def test_threads_get_their_own_features(tiny, encode):
    twin = OrdinaryTwin(tiny("bert"), encode)
    expected = [twin.logits_and_features(encode([text]))[1] for text in TEXTS]
    wrong = []

    def work(i):
        for _ in range(30):
            if not torch.equal(twin.logits_and_features(encode([TEXTS[i]]))[1], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
