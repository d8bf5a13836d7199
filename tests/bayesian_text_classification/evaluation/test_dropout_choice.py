"""The dropout of the sampled arms is chosen without the texts that are measured."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.dropout_choice import DropoutChoice, choice_in_folds, choice_on_others
from bayesian_text_classification.pipeline.dropout_choice import chosen, fold_of_each, held_out_losses

RATES = (0.02, 0.05, 0.2)


def world(texts=60, seed=0):
    """Samples of three candidates, of which the second is the best, with labels drawn from its averages."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (texts, 3, 1))
    samples = [
        np.exp(factor * logits + random.normal(0, noise, (texts, 3, 8))) for factor, noise in ((3, 0), (1, 0.3), (1, 3))
    ]
    samples = [one / one.sum(1, keepdims=True) for one in samples]
    labels = np.array([random.choice(3, p=row) for row in samples[1].mean(2)])
    return samples, labels, np.arange(texts)


def test_each_fold_gets_the_choice_on_the_other_folds():
    samples, labels, groups = world()
    choice, found = choice_in_folds(RATES, samples, "temperature", labels, groups)
    folds, means = fold_of_each(groups), [one.mean(2) for one in samples]
    for fold, dropout in enumerate(choice.in_folds):
        others, held = folds != fold, folds == fold
        losses = [held_out_losses("temperature", p[others], labels[others], np.arange(others.sum())) for p in means]
        best = chosen(np.array(losses), np.arange(others.sum()))
        assert dropout == RATES[best]
        np.testing.assert_array_equal(found[held], samples[best][held])
    assert choice.dropout in RATES and len(choice.in_folds) == 5


@pytest.mark.parametrize("seed", range(5))
def test_the_samples_of_a_fold_do_not_depend_on_its_own_labels(seed):
    samples, labels, groups = world(seed=seed)
    _, before = choice_in_folds(RATES, samples, "temperature", labels, groups)
    held = fold_of_each(groups) == 2
    other = np.where(held, (labels + 1) % 3, labels)
    _, after = choice_in_folds(RATES, samples, "temperature", other, groups)
    np.testing.assert_array_equal(before[held], after[held])


def test_copies_of_a_text_get_the_same_choice():
    samples, labels, _ = world(30)
    groups = np.repeat(np.arange(30), 2)
    twice = [np.repeat(one, 2, 0) for one in samples]
    _, found = choice_in_folds(RATES, twice, "temperature", np.repeat(labels, 2), groups)
    np.testing.assert_array_equal(found[::2], found[1::2])


def test_a_choice_on_other_texts_is_the_one_of_the_rule():
    samples, labels, groups = world()
    means = [one.mean(2) for one in samples]
    choice = choice_on_others(RATES, means, "temperature", labels, groups)
    losses = np.array([held_out_losses("temperature", p, labels, groups) for p in means])
    assert choice.dropout == RATES[chosen(losses, groups)] and choice.losses == pytest.approx(losses.mean(1).tolist())
    assert choice.sentence.startswith("Dropout was chosen by") and choice.sentence.endswith("on the calibration texts.")


def test_the_sentence_names_every_candidate_and_every_fold():
    samples, labels, groups = world()
    choice, _ = choice_in_folds((None, "2x", 0.1), samples, "temperature", labels, groups)
    names = {None: "the model's own rates", "2x": "2x", 0.1: "0.1"}
    losses = ", ".join(f"{names[one]}: {loss:.4f}" for one, loss in zip(choice.candidates, choice.losses, strict=True))
    folds = ", ".join(names[one] for one in choice.in_folds)
    assert f"({losses}): {names[choice.dropout]}, " in choice.sentence and choice.sentence.endswith(f"({folds}).")


def test_the_sentence_says_why_a_worse_candidate_was_chosen():
    small = DropoutChoice(0.02, (0.02, 0.2), (0.72, 0.71))
    assert small.sentence == (
        "Dropout was chosen by the calibrated NLL of held-out texts (0.02: 0.7200, 0.2: 0.7100): 0.02, the first "
        "within one standard error of the best, 0.2, on the calibration texts."
    )
    assert ": 0.2, the best, on the calibration texts." in DropoutChoice(0.2, (0.02, 0.2), (0.72, 0.71)).sentence
