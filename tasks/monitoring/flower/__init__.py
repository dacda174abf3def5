"""Flower, with what an operator of LLM batches asks for: progress, speed, cost, and what each batch waits for.

serve.py          start Flower with our pages, columns and metrics
guard.py          who may look
application.py    Flower's application, with a check before each request and safe headers
loader.py         Flower's templates and ours
incoming.py       which fields of an event are kept: anyone may publish one
columns.py        our columns in Flower's list of tasks
watch.py          one snapshot of the system for everyone who looks
pages.py          our pages
workflow_rows.py  the rows of the page of workflows and batches
lane_rows.py      the rows of chunks on that page
limit_rows.py     the rows of the page of limits
cells.py          what a table's cells contain: bars, rates, moments
"""
