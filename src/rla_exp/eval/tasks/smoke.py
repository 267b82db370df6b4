"""Small generated documents that take every path of an evaluation; their scores mean nothing."""

from __future__ import annotations

import random
from typing import Any

import datasets

_ANIMALS = ("cat", "dog", "horse", "mouse", "sparrow", "wolf")
_PLACES = ("barn", "garden", "kitchen", "library", "market", "station")
_COUNT = 16


def documents(**_: Any) -> dict[str, datasets.Dataset]:
    """A test split of stories with a question, choices that name the answer, and a last word."""
    # a generator of its own: the process's is none of our business
    draw = random.Random(0)
    found = []
    for _number in range(_COUNT):
        animals = draw.sample(_ANIMALS, 3)
        places = draw.sample(_PLACES, 3)
        asked = draw.randrange(3)
        sentences = [f"The {animal} sleeps in the {place}." for animal, place in zip(animals, places, strict=True)]
        story = " ".join(sentences)
        found.append(
            {
                "story": story,
                "question": f"{story} Where does the {animals[asked]} sleep? In the",
                "choices": [f"{place} today" for place in places],
                "answer": asked,
                "place": places[asked],
            }
        )
    return {"test": datasets.Dataset.from_list(found)}
