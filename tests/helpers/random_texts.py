"""Texts of random words, for models that read no sense in them."""

import random

WORDS = ["good", "bad", "film", "plot", "dull", "fun", "long", "short", "not", "very", "actor", "scene", "music"]


def random_texts(count, seed=0):
    """That many texts of three to nine words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(count)]
