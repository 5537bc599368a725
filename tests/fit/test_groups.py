"""Groups of classes by their laws."""

from __future__ import annotations

import pytest

from syn_ray.core.errors import UserError
from syn_ray.fit import Cuts, group_classes

K = [0.6, 0.5, 0.1, 0.2, 0.1]
PERFORMANCE = [1.0, -1.0, -1.5, 0.2, 1.2]


def test_each_corner_of_the_plane() -> None:
    result = group_classes(K, PERFORMANCE, Cuts(scaling_ability=0.4, performance_low=-0.5, performance_high=0.5))
    assert result.groups == ("easy", "scaling", "poor", None, None)


def test_cuts_come_from_the_classes_and_are_told() -> None:
    result = group_classes(K, PERFORMANCE)
    assert result.scaling_ability == 0.2
    assert (result.performance_low, result.performance_high) == pytest.approx((-0.6, 0.7333333))  # at 4/3 and 8/3
    assert result.groups == ("easy", "scaling", "poor", "scaling", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1], [1.0, 2.0]), "scaling_ability has shape (1,), performance (2,); give one of each for a class"),
        (([0.1, float("nan")], [1.0, 2.0]), "class 1 has no law: scaling_ability nan, performance 2"),
        (
            ([0.1], [1.0], Cuts(performance_low=1, performance_high=0)),
            "performance_low 1 is above performance_high 0; a class cannot be weak and strong",
        ),
    ],
)
def test_messages(arguments, message) -> None:
    with pytest.raises(UserError) as raised:
        group_classes(*arguments)
    assert str(raised.value) == message
