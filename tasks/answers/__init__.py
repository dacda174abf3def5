"""Is an answer what its line asked for? Checks of answers, without Redis and without calls.

checks.py    the check of one answer, and its results
own.py       a workflow's own check
again.py     whether a line asks again for an answer that is not valid, and how
contents.py  what an answer contains, in each wire format
wanted.py    what a line asks of its answer: JSON, a schema, arguments of tools
schemas.py   JSON schemas that answers are checked against
bounded.py   jsonschema's validators, bounded in time
patterns.py  patterns of schemas, matched in linear time
"""
