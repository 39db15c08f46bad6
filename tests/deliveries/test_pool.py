import threading
import time

import pytest

from anaphora.deliveries import pool
from anaphora.deliveries.pool import Pool


def peak_of(made: Pool, number: int, seconds: float) -> tuple[int, int]:
    """Return the maximum number of concurrent jobs, and the number of completed jobs."""
    running = peak = done = 0
    lock = threading.Lock()

    def job() -> None:
        nonlocal running, peak, done
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(seconds)
        with lock:
            running -= 1
            done += 1

    with made:
        made.submit([job] * number)
        end = time.monotonic() + number * seconds + 5
        while done < number and time.monotonic() < end:
            made.adapt()
            time.sleep(0.02)
    return peak, done


def test_jobs_that_mostly_wait_get_all_threads() -> None:
    peak, done = peak_of(Pool(8), 80, 0.1)
    assert peak == 8
    assert done == 80


def test_it_never_exceeds_its_maximum() -> None:
    assert peak_of(Pool(1), 5, 0.01) == (1, 5)


def test_jobs_that_use_the_cpu_get_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "WINDOW", 0.001)
    monkeypatch.setattr(time, "process_time", time.monotonic)  # as if the CPU were busy all the time
    made = Pool(8)
    made.width = 8
    for _ in range(10):
        time.sleep(0.005)
        made.adapt()
    assert made.width == 1


def test_closing_runs_all_submitted_jobs() -> None:
    done = []
    with Pool(2) as made:
        made.submit([lambda: done.append(1)] * 50)
    assert len(done) == 50
