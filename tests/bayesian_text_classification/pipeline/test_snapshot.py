from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from bayesian_text_classification.pipeline.snapshot import Snapshot
from torch import nn


class Config:
    def __init__(self):
        self.labels, self.nested, self.width = {0: "no", 1: "yes"}, {"rope": {"factor": 2}}, 3


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.config, self.first, self.second = Config(), nn.Linear(3, 3), nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.tensor([2.0]))
        self.register_buffer("places", torch.arange(3))
        self.plain, self.steps, self.seen = torch.ones(2), [[1], [2]], {1, 2}
        self.table, self.counts = np.arange(3), defaultdict(list)
        self.listed, self.odd, self.fields, self.itself = [torch.ones(1)], Odd(), Fields(), {}
        self.itself["itself"] = self.itself
        self.register_forward_hook(print)
        self.register_forward_hook(repr)


class Odd:
    """Cannot be compared."""

    def __eq__(self, other):
        raise TypeError

    __hash__ = None


@dataclass
class Fields:
    """Equal to any other one with these fields."""

    width: int = 3


def reorder(model):
    model._modules["first"] = model._modules.pop("first")


def reorder_hooks(model):
    model._forward_hooks.move_to_end(next(iter(model._forward_hooks)))


CHANGES = {
    "setting": lambda m: setattr(m, "steps", 3),
    "nested list": lambda m: m.steps[0].append(2),
    "set": lambda m: m.seen.add(3),
    "counts": lambda m: m.counts["x"].append(1),
    "array": lambda m: setattr(m, "table", np.arange(3)),
    "config": lambda m: setattr(m.config, "width", 4),
    "labels": lambda m: m.config.labels.update({1: "maybe"}),
    "nested config": lambda m: m.config.nested["rope"].update(factor=3),
    "new attribute": lambda m: setattr(m, "extra", None),
    "deleted attribute": lambda m: delattr(m, "steps"),
    "module": lambda m: setattr(m, "first", nn.Linear(3, 3)),
    "deleted module": lambda m: delattr(m, "second"),
    "order of modules": reorder,
    "hook": lambda m: m.first.register_forward_hook(print),
    "parameter": lambda m: setattr(m.first, "weight", nn.Parameter(m.first.weight.data.clone())),
    "equal parameter": lambda m: setattr(m, "scale", nn.Parameter(torch.tensor([2.0]))),
    "no bias": lambda m: setattr(m.first, "bias", None),
    "buffer": lambda m: setattr(m, "places", torch.arange(3)),
    "tensor": lambda m: setattr(m, "plain", torch.ones(2)),
    "dtype": lambda m: m.double(),
    "device": lambda m: m.to("meta"),
    "listed tensor": lambda m: m.listed.__setitem__(0, torch.ones(1)),
    "dtype of a listed tensor": lambda m: setattr(m.listed[0], "data", torch.ones(1, dtype=torch.float64)),
    "odd": lambda m: setattr(m, "odd", Odd()),
    "equal fields": lambda m: setattr(m, "fields", Fields()),
    "order of hooks": reorder_hooks,
}
VALUES = {
    "in place": lambda m: m.first.weight.add_(1),
    "in place in a list": lambda m: m.listed[0].zero_(),
    "pointer": lambda m: setattr(m.first.weight, "data", m.first.weight.data.clone()),
}


@pytest.mark.parametrize("with_values", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change, with_values):
    model = Model()
    snapshot = Snapshot(model, with_values=with_values)
    assert snapshot.holds() and snapshot.holds()
    CHANGES[change](model)
    assert not snapshot.holds()


@pytest.mark.parametrize("change", VALUES)
def test_changes_in_place_are_seen_where_values_count(change):
    model = Model()
    shared, converted = (Snapshot(model, with_values=with_values) for with_values in (False, True))
    with torch.no_grad():
        VALUES[change](model)
    assert shared.holds() and not converted.holds()


def test_train_mode_does_not_count():
    model = Model()
    snapshot = Snapshot(model, with_values=True)
    model.train(), model.first.eval()
    assert snapshot.holds()


def test_a_change_that_is_undone_does_not_count():
    model = Model()
    snapshot, before = Snapshot(model, with_values=False), model.first
    model.first = nn.Linear(3, 3)
    assert not snapshot.holds()
    model.first = before
    assert snapshot.holds()
