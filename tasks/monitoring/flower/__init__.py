"""Flower, extended with what an operator of LLM batches asks: how far, how fast, how dear, and what is it waiting for.

application.py  flower's application, with a check before each request and the headers that keep a page's …
incoming.py     events as they come from the broker, where anybody can publish one
columns.py      workflow, model, provider, tokens and cost in Flower's list of tasks, and in its page of one task
guard.py        who may look
loader.py       flower's templates and ours
pages.py        our pages in Flower
workflow_rows.py  the rows of the page of workflows and batches
limit_rows.py   the rows of the page of limits
cells.py        figures as people read them: bars, rates, durations and money
serve.py        `overnight flower`
watch.py        one reading of the system for all who look
"""
