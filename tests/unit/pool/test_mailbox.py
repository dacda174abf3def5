"""Calls from threads to a hub that sleeps."""

import threading
import time

from kombu.asynchronous import Hub

from workers.pool.main_thread import Mailbox


def test_a_sleeping_hub_is_woken_once_for_many_calls() -> None:
    mailbox, hub, heard = Mailbox(inline=False), Hub(), []
    mailbox.attach(hub)
    started = time.monotonic()

    def post() -> None:
        time.sleep(0.05)
        for number in range(1000):
            mailbox.post(heard.append, number)

    thread = threading.Thread(target=post)
    thread.start()
    while len(heard) < 1000 and time.monotonic() - started < 5:
        hub.run_once()
    thread.join()
    assert heard == list(range(1000))
    assert time.monotonic() - started < 0.9, "the hub slept its second"
    hub.close()
    mailbox.close()


def test_a_call_that_fails_keeps_no_other_from_being_made() -> None:
    mailbox, heard = Mailbox(inline=False), []
    mailbox.post(heard.append, 1)
    mailbox.post(lambda: 1 // 0)
    mailbox.post(heard.append, 2)
    mailbox.deliver()
    assert heard == [1, 2]
    mailbox.close()


def test_a_call_may_deliver_again_as_signal_handlers_do() -> None:
    mailbox, heard = Mailbox(inline=False), []
    mailbox.post(mailbox.deliver)
    mailbox.post(heard.append, 1)
    mailbox.deliver()
    assert heard == [1]
    mailbox.close()


def test_without_a_hub_calls_are_made_where_they_are_posted() -> None:
    mailbox, heard = Mailbox(inline=True), []
    thread = threading.Thread(target=mailbox.post, args=(heard.append, 1))
    thread.start()
    thread.join()
    assert heard == [1]
    mailbox.close()


def test_waiting_ends_with_the_first_call() -> None:
    mailbox = Mailbox(inline=False)
    timer = threading.Timer(0.05, mailbox.post, (list,))
    timer.start()
    started = time.monotonic()
    mailbox.wait(5.0)
    assert time.monotonic() - started < 2.0
    mailbox.close()
