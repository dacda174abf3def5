"""Who does the work, in the order in which a job meets it.

    celery.py      the Celery application; every setting with its reason
    celery_worker.py   its command line without other packages' commands, for workers and beat
    settings.py    overnight.toml, validated once, with errors that name the line to mend
    provider_settings.py   an account, its keys and limits, and its models
    server.py      the embedded Valkey, for one machine; keeper.py: the process that holds it up
    child.py       how a Python process of our own is started; private.py: files that only their owner can read
    queues.py      one queue a workflow, followed while it is registered
    registry.py    which queues are registered: how they are found, how many, and for how long
    results.py     where single jobs' results are kept, and waited for
    last_resort.py the end of a worker that was told to stop and cannot
    heartbeat.py   the file that health checks look at
    request.py     a delivery of a job: private in logs and events, put back without loss
    routing.py     which provider, model and key may take a call, and what it would cost
    tokens.py      how many tokens a body has, before anyone has counted them
    prices.py      what tokens cost, in integer nano-dollars
    providers/     one file a wire format

`limits` is below this package and `tasks` above it: imports point one way.
"""
