"""The workers: the Celery application, its transport and pool, and the providers that it calls.

config/             overnight.toml, read and validated once
celery.py           the Celery application and its settings
celery_worker.py    Celery's command line without other packages' commands
embedded.py         the embedded Valkey that the processes of one `data_dir` share
embedded_keeper.py  the process that keeps an embedded Valkey running
transport/          how messages travel
consumer.py         Celery's consumer, but a message that it cannot run becomes a dead letter
request.py          one delivery of a job: private in logs and events, put back without loss
pool/               coroutines and threads under Celery
models/             which model takes a call and what it costs
providers/          calls to providers, one file for each wire format
result_backend.py   Celery's Redis backend, but `.get()` survives a silent connection
event_batches.py    sends task events a few times a second, many in one message
heartbeat.py        the health file that a worker touches
inspection.py       `inspect scheduled` and `inspect conf`
remote_control.py   what `celery control` and Flower's buttons may do to a worker
user_modules.py     imports a user's modules: agents and checks
child_process.py    starts Overnight's own Python processes
private_files.py    files and folders that only their owner can read
plain_text.py       makes text from outside safe for logs and pages
figures.py          money and spans of time as people read them
ids.py              unique identifiers without a system call for each
"""
