"""Calls from threads to a sleeping hub."""

import threading
import time

from kombu.asynchronous import Hub

from workers.pool.main_thread import Mailbox


def test_a_sleeping_hub_is_woken_once_for_many_calls() -> None:
    mailbox, hub, received = Mailbox(inline=False), Hub(), []
    mailbox.attach(hub)
    started = time.monotonic()

    def post() -> None:
        time.sleep(0.05)
        for number in range(1000):
            mailbox.post(received.append, number)

    thread = threading.Thread(target=post)
    thread.start()
    while len(received) < 1000 and time.monotonic() - started < 5:
        hub.run_once()
    thread.join()
    assert received == list(range(1000))
    assert time.monotonic() - started < 0.9, "the hub slept its second"
    hub.close()
    mailbox.close()


def test_a_failed_call_does_not_stop_the_next() -> None:
    mailbox, received = Mailbox(inline=False), []
    mailbox.post(received.append, 1)
    mailbox.post(lambda: 1 // 0)
    mailbox.post(received.append, 2)
    mailbox.deliver()
    assert received == [1, 2]
    mailbox.close()


def test_a_call_may_deliver_again_as_signal_handlers_do() -> None:
    mailbox, received = Mailbox(inline=False), []
    mailbox.post(mailbox.deliver)
    mailbox.post(received.append, 1)
    mailbox.deliver()
    assert received == [1]
    mailbox.close()


def test_without_a_hub_calls_are_made_where_they_are_posted() -> None:
    mailbox, received = Mailbox(inline=True), []
    thread = threading.Thread(target=mailbox.post, args=(received.append, 1))
    thread.start()
    thread.join()
    assert received == [1]
    mailbox.close()


def test_waiting_ends_with_the_first_call() -> None:
    mailbox = Mailbox(inline=False)
    timer = threading.Timer(0.05, mailbox.post, (list,))
    timer.start()
    started = time.monotonic()
    mailbox.wait(5.0)
    assert time.monotonic() - started < 2.0
    mailbox.close()
