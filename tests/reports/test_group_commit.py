from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from anaphora.reports.group_commit import GroupCommit


class Saves:
    """Records each call. The first one waits while `released` is not set."""

    def __init__(self, refuse: Callable[[list[int]], bool] = lambda values: False) -> None:
        self.calls: list[list[int]] = []
        self.begun, self.released = Event(), Event()
        self.released.set()
        self._refuse = refuse

    def __call__(self, values: list[int]) -> list[int]:
        self.calls.append(sorted(values))
        if len(self.calls) == 1:
            self.begun.set()
            assert self.released.wait(10)
        if self._refuse(values):
            raise ValueError(f"refused {sorted(values)}")
        return [-value for value in values]


def save_behind_another(saves: Saves, *values: list[int]) -> list[Any]:
    """Save 0 and, while that lasts, values of several threads; return the result or error of each."""
    saves.released.clear()
    commits = GroupCommit(saves, max_wait=10)
    with ThreadPoolExecutor(len(values) + 1) as pool:
        first = pool.submit(commits.save, "first", [0])
        assert saves.begun.wait(10)
        for key in range(len(values)):
            commits.announce(key)
        others = [pool.submit(commits.save, key, part) for key, part in enumerate(values)]
        saves.released.set()
        assert first.result(10) == [0]
        return [each.exception(10) or each.result() for each in others]


def test_threads_that_wait_are_saved_together_and_get_their_own_results() -> None:
    saves = Saves()
    assert save_behind_another(saves, [1, 2], [3], [4]) == [[-1, -2], [-3], [-4]]
    assert saves.calls == [[0], [1, 2, 3, 4]]


def test_only_the_thread_whose_values_are_refused_gets_the_error() -> None:
    saves = Saves(refuse=lambda values: 3 in values)
    found = save_behind_another(saves, [1, 2], [3], [4])
    assert [found[0], str(found[1]), found[2]] == [[-1, -2], "refused [3]", [-4]]
    assert saves.calls[:2] == [[0], [1, 2, 3, 4]]
    assert sorted(saves.calls[2:]) == [[1, 2], [3], [4]]


def test_a_single_thread_saves_once_and_gets_its_error() -> None:
    saves = Saves(refuse=lambda values: True)
    with pytest.raises(ValueError, match="refused"):
        GroupCommit(saves).save("key", [1])
    assert saves.calls == [[1]]


def test_a_thread_waits_for_an_announced_one() -> None:
    saves = Saves()
    commits = GroupCommit(saves, max_wait=10)
    commits.announce("late")
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(commits.save, "early", [1])
        assert commits.save("late", [2]) == [-2]
        assert early.result(10) == [-1]
    assert saves.calls == [[1, 2]]


def test_a_withdrawn_announcement_is_not_waited_for() -> None:
    saves = Saves()
    commits = GroupCommit(saves, max_wait=10)
    commits.announce("gone")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(commits.save, "other", [1])
        commits.withdraw("gone")
        commits.withdraw("gone")
        assert other.result(5) == [-1]


def test_an_announced_thread_that_does_not_come_is_waited_for_briefly() -> None:
    saves = Saves()
    commits = GroupCommit(saves, max_wait=0.01)
    commits.announce("never")
    assert commits.save("other", [1]) == [-1]
