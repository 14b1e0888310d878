"""Ctrl-C: the first one asks, the second one insists."""

import signal
import threading

import pytest

from alphajax.runs.interrupts import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_sets_the_event_and_the_second_raises(number):
    before = signal.getsignal(number)
    with interruptible() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_no_handler_is_installed():
    before, events = signal.getsignal(signal.SIGINT), []

    def work():
        with interruptible() as stop:
            events.append((stop.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert events == [(False, before)]
