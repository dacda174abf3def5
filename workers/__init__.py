"""Who does the work: the Celery application, its transport and pool, and the providers that it calls.

celery.py           the Celery application
celery_worker.py    celery's command line without the commands of other packages
child_process.py    how Overnight starts a Python process of its own
consumer.py         celery's consumer, which sets a message aside that it cannot read instead of failing, …
figures.py          money and spans of time as people read them
embedded_keeper.py  the keeper of an embedded Valkey
heartbeat.py        A file that is touched as long as a process goes round
inspection.py       `inspect scheduled`, with what waits in the server
plain_text.py       text from elsewhere (a message, a provider, a model) as it may stand in a log or on a page
private_files.py    files and folders that only their owner can read, whatever the umask
remote_control.py   what `celery control` and Flower's buttons may do to a worker
request.py          one delivery of a job, as Celery's worker sees it
result_backend.py   celery's Redis backend, whose `.get()` outlives a subscription that has fallen silent
event_batches.py    task events leave a few times a second, many in one message
embedded.py         the embedded Valkey
ids.py              identifiers that no other process makes, without a question to the kernel for each
config/             overnight.toml: read and validated once, with errors that name the line to fix
models/             Which model takes a call and what it costs
pool/               Coroutines and threads under Celery
providers/          Calls to providers: one wire format a file, one meaning for what they answer
transport/          Messages: published, claimed, in flight, restored, delayed, shared fairly, set aside
"""
