"""The three steps as plain float64 loops, written from the paper's formulas alone."""

from __future__ import annotations

import math

import numpy as np


def remap(raw_lists, item_similarity, same_item, context_similarity, weight):
    """`same_item` is (C, N)."""
    num_dialogues, num_items = len(raw_lists), len(context_similarity[0])
    scores = np.zeros((num_dialogues, num_items))
    for dialogue in range(num_dialogues):
        for item in range(num_items):
            total, met = weight * float(context_similarity[dialogue][item]), set()
            for place, title in enumerate(raw_lists[dialogue]):
                if title >= 0 and title not in met:
                    similarity = float(item_similarity[title][item]) + float(same_item[title][item])
                    total += similarity / math.sqrt(place + 1)
                met.add(title)
            scores[dialogue, item] = total
    return scores


def reflect(scores, rated, weight):
    """`rated` is a list of {item: rating} per dialogue."""
    out = np.array(scores, dtype=np.float64)
    for dialogue, ratings in enumerate(rated):
        for item, rating in ratings.items():
            out[dialogue, item] += weight * rating
    return out


def adjust_loss(scale, bias, scores, truth, regularization, items=None):
    """`truth` is a list of {item: gain}; `items` says of which item each column is, for candidates."""
    loss = regularization * (sum((w - 1) ** 2 for w in scale) + sum(b**2 for b in bias))
    for dialogue, wanted in enumerate(truth):
        of = range(len(scores[dialogue])) if items is None else items[dialogue]
        final = {item: scale[item] * float(scores[dialogue][column]) + bias[item] for column, item in enumerate(of)}
        total = math.log(sum(math.exp(value) for value in final.values()))
        for item, gain in wanted.items():
            if item in final:
                loss -= gain * (final[item] - total)
    return float(loss)


def top(scores, number, excluded=()):
    """Item ids, best first, ties by id."""
    order = sorted(
        (item for item in range(len(scores)) if item not in excluded), key=lambda item: (-scores[item], item)
    )
    return order[:number]
