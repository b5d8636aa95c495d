# ruff: noqa: PT012 - what is raised is raised inside the block that is tested
from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from torchstrata.interrupts import check, interruptible, shielded


@pytest.fixture(autouse=True)
def handlers_stay():
    """Whatever a test does, the handlers are the program's afterwards."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def press(number=signal.SIGINT):
    signal.raise_signal(number)


def test_sigterm_is_an_interruption_with_exit_code_143():
    with pytest.raises(SystemExit) as ended, interruptible():
        try:
            press(signal.SIGTERM)
        except Exception:
            pytest.fail("taken for an error of a learner")
        except KeyboardInterrupt as stop:
            stop.result = "kept"
            raise
    assert ended.value.code == 143 and ended.value.result == "kept"


@pytest.mark.parametrize("firm", [False, True])
def test_a_write_is_not_cut_in_two(firm):
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        with shielded(firm=firm):
            with shielded():
                press()
                done.append("inner")
            done.append("outer")
        pytest.fail("it is answered at the end of the outer one")
    assert done == ["inner", "outer"]


def test_a_second_signal_does_not_wait_but_for_tidying_up():
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible(), shielded():
        press()
        done.append("first")
        press()
        done.append("second")
    assert done == ["first"]
    with pytest.raises(KeyboardInterrupt), interruptible(), shielded(firm=True):
        press()
        press()
        done.append("tidied up")
    assert done[1:] == ["tidied up"]


def test_what_was_raised_is_not_raised_again_by_shields_on_the_way_out():
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            press()
        finally:
            with shielded():
                tidy = "up"
    assert tidy == "up"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_swallows_it_hears_of_it_again(number):
    wanted = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    reached = []
    with pytest.raises(wanted), interruptible():
        try:
            press(number)
        except BaseException:
            reached.append("swallowed")
        with pytest.raises(KeyboardInterrupt):
            check()
        reached.append("checked")
    assert reached == ["swallowed", "checked"], "and the end is a check too"


def test_an_error_made_of_it_is_ctrl_c_in_the_end():
    with pytest.raises(KeyboardInterrupt) as caught, interruptible():
        try:
            press()
        except KeyboardInterrupt:
            raise RuntimeError("a library's word for it") from None
    assert isinstance(caught.value.__context__, RuntimeError)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_a_finalizer_is_not_lost():
    """Python prints what a finalizer raises, and goes on."""

    class Dies:
        def __del__(self):
            press()

    with pytest.raises(KeyboardInterrupt), interruptible():
        made = Dies()
        del made
        gc.collect()
        check()


def test_handlers_of_the_program_are_called_and_come_back():
    called = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def own(number, frame):
        called.append(number)

    try:
        for number in before:
            signal.signal(number, own)
        with interruptible():
            with shielded():
                press()  # this program chooses to go on
                assert not called
            assert called == [signal.SIGINT]
            check()
        with pytest.raises(SystemExit), interruptible():
            press(signal.SIGTERM)
        assert called == [signal.SIGINT, signal.SIGTERM]
        assert [signal.getsignal(number) for number in before] == [own, own]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_a_handler_of_the_program_raises_is_raised():
    class Stop(Exception):
        pass

    def own(number, frame):
        raise Stop

    before = signal.signal(signal.SIGINT, own)
    try:
        with pytest.raises(Stop), interruptible():
            press()
    finally:
        signal.signal(signal.SIGINT, before)


def test_ignored_signals_stay_ignored():
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with interruptible():
            press()
            press(signal.SIGTERM)
            check()
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_inside_another_one_nothing_changes():
    handlers = []
    with interruptible():
        handlers.append(signal.getsignal(signal.SIGINT))
        with interruptible():
            handlers.append(signal.getsignal(signal.SIGINT))
        handlers.append(signal.getsignal(signal.SIGINT))
    assert handlers[0] == handlers[1] == handlers[2] != signal.default_int_handler


def test_other_threads_are_left_alone():
    """Neither do they take the handlers, nor are they told of what came to the main thread."""
    found = []

    def elsewhere():
        with interruptible(), shielded(firm=True):
            check()
            found.append("went on")

    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            press()
        except KeyboardInterrupt:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            raise
    assert found == ["went on"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_the_handlers_it_would_have_without_us():
    with interruptible():
        child = os.fork()
        if child == 0:
            handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            os._exit(0 if handlers[1] == signal.SIG_DFL and handlers[0] is signal.default_int_handler else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.timeout(120)
def test_no_moment_leaves_handlers_or_shields_behind():
    """Signals as fast as they come, to a program that does nothing but begin and end."""
    script = """
        import os, signal, threading, time
        from torchstrata import interrupts

        def own(number, frame):
            if interrupts._active:  # outside the call it is the program's to answer: this one does not
                raise KeyboardInterrupt

        def sender():
            while time.monotonic() < end:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.0003)

        signal.signal(signal.SIGINT, own)
        count, end = 0, time.monotonic() + 2.0
        threading.Thread(target=sender, daemon=True).start()
        while time.monotonic() < end:
            try:
                with interrupts.interruptible():
                    for _ in range(20):
                        with interrupts.shielded():
                            pass
                        with interrupts.shielded(firm=True):
                            pass
            except KeyboardInterrupt:
                count += 1
            assert interrupts._active is None
            assert signal.getsignal(signal.SIGINT) is own
        print(count)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
