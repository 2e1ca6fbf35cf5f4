"""Other people's small programs: each ends, or is ended."""

from __future__ import annotations

import re
import resource
import signal
import threading

import pytest

from sparring.runtime.bounds import bounded


def loop() -> None:
    while True:
        pass


def test_a_loop_is_ended_and_nothing_is_left_behind():
    before = signal.getsignal(signal.SIGVTALRM)
    with (
        pytest.raises(ValueError, match="the loop takes more than"),
        bounded("the loop", 0.05),
    ):
        loop()
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_a_pattern_is_ended():
    with pytest.raises(ValueError, match="more than"), bounded("the pattern", 0.05):
        re.search("(a+)+$", "a" * 40 + "b")


def test_memory_is_bounded_and_given_back():
    with pytest.raises(ValueError, match="more memory"), bounded("the text", 5.0, memory=2**28):
        len("x" * 2**30)
    assert len("x" * 2**29) == 2**29


def test_a_thread_may_use_it_and_leaves_the_process_its_memory():
    done, before = [], resource.getrlimit(resource.RLIMIT_AS)

    def work() -> None:
        with bounded("the work", 1.0, memory=2**28):
            done.append(resource.getrlimit(resource.RLIMIT_AS))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]
