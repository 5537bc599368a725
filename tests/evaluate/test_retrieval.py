"""Recall of retrieval: known answers, several captions an image, ties, chunks, and what has no answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from syn_ray.core.errors import MissingResultError, UserError
from syn_ray.evaluate.retrieval import recall


def by_hand(images, texts, owner, k):
    """Sorts every list of answers; equal ones keep their order, as a stable sort of the negated scores has it."""
    similarity = (images @ texts.T).numpy()
    owner = np.asarray(owner)
    best_texts = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    best_images = np.argsort(-similarity.T, axis=1, kind="stable")[:, :k]
    found_text = [any(owner[t] == i for t in row) for i, row in enumerate(best_texts)]
    found_image = [owner[t] in row for t, row in enumerate(best_images)]
    return np.mean(found_text), np.mean(found_image)


def unit(*rows):
    features = torch.tensor(rows, dtype=torch.float32)
    return features / features.norm(dim=1, keepdim=True)


def test_known_answers():
    """Image 0 has two captions, the second its own; image 1's caption points at image 2, which has a fitting one."""
    images = unit([1, 0, 0], [0, 1, 0], [0, 0, 1])
    texts = unit([0, 1, 0.1], [1, 0, 0], [0, 0.2, 1], [0, 0.1, 1])
    found = recall(images, texts, [0, 0, 1, 2], within=(1, 2, 3))
    assert found == pytest.approx(
        {
            "image_to_text_recall_at_1": 2 / 3,  # image 1 finds text 0 first
            "image_to_text_recall_at_2": 1,
            "image_to_text_recall_at_3": 1,
            "text_to_image_recall_at_1": 2 / 4,  # text 0 finds images 1, 2, 0; text 2 finds images 2, 1, 0
            "text_to_image_recall_at_2": 3 / 4,
            "text_to_image_recall_at_3": 1,
        }
    )


def test_one_fitting_caption_of_several_is_enough():
    images, texts = unit([1, 0], [0, 1]), unit([1, 0], [-1, 0], [0, 1], [-1, -1], [0, -1])
    found = recall(images, texts, [0, 0, 1, 0, 1], within=(1,))
    assert found["image_to_text_recall_at_1"] == 1
    # Texts 1 and 4 look away from both images and take the nearer: text 1 finds image 1, text 4 image 0, text 3 ties.
    assert found["text_to_image_recall_at_1"] == pytest.approx(3 / 5)


def test_a_model_that_finds_everything_alike_is_at_chance():
    same = torch.ones(20, 4) / 2
    found = recall(same, same, range(20))
    assert found == pytest.approx(
        {f"{way}_recall_at_{k}": k / 20 for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    )


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_change_nothing_and_sorting_gives_the_same(chunk):
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(64, 6, generator=rng).sign()  # few distinct features: many ties
    owner = torch.cat([torch.arange(64), torch.randint(0, 64, (100,), generator=rng)])
    texts = (images[owner] + 1.2 * torch.randn(164, 6, generator=rng)).sign()
    found = recall(images, texts, owner, chunk=chunk)
    for k in (1, 5, 10):
        expected = by_hand(images, texts, owner, k)
        assert (found[f"image_to_text_recall_at_{k}"], found[f"text_to_image_recall_at_{k}"]) == pytest.approx(expected)
    assert 0.05 < found["text_to_image_recall_at_1"] < 0.9


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that comes out of any operation."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_the_matrix_is_never_there_as_a_whole():
    features = torch.eye(8).repeat(75, 1)
    with Largest() as largest:
        recall(features, features, range(600), chunk=10)
    assert 600 * 10 <= largest.numbers < 600 * 600 / 10


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ([0, 1], "retrieval: 3 texts, but 2 positions of their images; give one a text"),
        ([0, 1, 2], "retrieval: texts point to images 0 to 2 of 2"),
        ([0, -1, 1], "retrieval: texts point to images -1 to 1 of 2"),
        ([1, 1, 1], "retrieval: image 0 has no caption; leave it out"),
    ],
)
def test_pairs_that_do_not_fit_are_said(owner, message):
    with pytest.raises(UserError) as caught:
        recall(torch.eye(2), torch.ones(3, 2), owner)
    assert str(caught.value) == message


def test_nothing_is_filled_in():
    with pytest.raises(MissingResultError, match="among 0 images and 0 texts has no recall"):
        recall(torch.empty(0, 2), torch.empty(0, 2), [])
    with pytest.raises(MissingResultError, match="a feature is not finite"):
        recall(torch.eye(2) * torch.nan, torch.eye(2), [0, 1])
