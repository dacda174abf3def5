"""Flower, extended with what an operator of LLM batches asks: how far, how fast, how dear, and what is it waiting for.

serve.py     `overnight flower`: Flower's own start, with our pages in it
guard.py     who may look: nobody without a password, unless the port is this machine's alone
door.py      each request before Flower sees it, and the headers of each answer
incoming.py  what of an event from the broker is kept
loader.py    Flower's templates and ours side by side; our tabs in its navigation bar
watch.py     one reading of the overview for all who look, with the pace of everything
pages.py     our pages: workflows and batches, limits, queues; the metrics, behind the same door
rows.py      what the pages show, made of an overview: pure functions
columns.py   workflow, model, provider, tokens and cost in Flower's list of tasks

Nothing of Flower is copied or patched in place of its own extension points, but it has few: template names, handler
order and the fields of Celery's task events are internals, which is why its version is pinned.
"""
