"""Interrupts: raised where a trial waits, never between two of its instructions."""

import os
import signal
import threading
import time

import pytest

from lab.interrupt import Interrupted, Interrupts


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_outside_a_trial_the_signal_raises_at_once() -> None:
    with Interrupts(), pytest.raises(Interrupted, match="SIGINT"):
        interrupt()
        time.sleep(5)


def test_inside_a_trial_it_waits_for_a_check() -> None:
    steps = []
    with Interrupts() as interrupts, pytest.raises(Interrupted), interrupts.held():
        interrupt()
        steps.append("still here")
        interrupts.check()
        steps.append("never")
    assert steps == ["still here"]


def test_it_raises_at_the_end_of_a_trial_that_never_waited() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted), interrupts.held():
            interrupt()
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_sleep_ends_when_a_signal_comes() -> None:
    with Interrupts() as interrupts:
        timer = threading.Timer(0.05, interrupt)
        begin = time.monotonic()
        timer.start()
        with pytest.raises(Interrupted), interrupts.held():
            interrupts.sleep(60)
        timer.join()
        assert time.monotonic() - begin < 30


def test_a_second_signal_does_not_disturb_the_clean_up() -> None:
    cleaned = []
    with Interrupts() as interrupts, pytest.raises(Interrupted), interrupts.held():
        try:
            interrupt()
            interrupts.check()
        finally:
            interrupt()
            interrupts.sleep(0.01)
            cleaned.append(True)
    assert cleaned == [True]


def test_it_says_which_signal_it_was() -> None:
    with Interrupts(), pytest.raises(Interrupted, match="SIGTERM") as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert caught.value.number == signal.SIGTERM
