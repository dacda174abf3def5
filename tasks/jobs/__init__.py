"""One job, from its message to its result line.

proof.py             proof that a line belongs to its batch
sizes.py             whether a model's 429s are about the size of a request
stops.py             batches that were cancelled or have expired while their jobs wait in this worker
job.py               one line of a batch
attempt.py           one attempt at a job
retry.py             what becomes of a job whose attempt failed or was not admitted
outcomes.py          how an attempt's call ends
usage.py             the usage that an answer tells, as far as it can be true
state.py             what a job remembers from one delivery to the next
leases.py            what a worker holds
runtime.py           what a worker process needs to run jobs
reasons.py           why a call was not let out, in words for people
pricing.py           prices of the models that jobs may go to
priced_routes.py     A worker's routes, with the prices that submits have shared
surcharges.py        what a body can ask for that is not paid by the token price of its model
waitlist.py          who waits in this worker for room at a target
slow_start.py        how many jobs of a model a worker starts at a time
throttles.py         waits that this worker was told just now
failover.py          the way around targets that have failed in this delivery
spending_cap.py      what one job may spend
storage/             files in a folder or an object store
runners.py           which function runs a job, by the kind of its line
hooks.py             what listeners are called with while jobs run
trace_context.py     how a trace gets from a submission to its jobs
trace_provider.py    OpenTelemetry's tracer provider of this process
store.py             one job in Redis: begin, lease, finish
run.py               one delivery of a job, from its queue to its result
lua/begin.lua        A delivery of a job asks whether it may run, and leases the job if so
lua/finish.lua       A job ends
lua/lease.lua        renew or give up the lease of a job in flight
lua/lib/line.lua     whether a message is a line of its batch
lua/report_blocker.lua  A worker reports what holds up a batch
lua/settle_line.lua  A call of a batch's line has ended, and its job has not
"""
