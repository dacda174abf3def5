"""One job, from its message to its result line.

job.py                  one line of a batch, checked before it is queued and again when it arrives
proof.py                proof that a message is a line of its batch
state.py                what a job carries from one delivery to the next
run.py                  one delivery of a job, from its queue to its result
runners.py              which function runs a job, by the kind of its line
store.py                one job in Redis: begin, lease, finish
leases.py               the leases of a worker's jobs and reservations
slow_start.py           how many jobs of a model start at the same time
admission.py            ask, wait and ask again, until one attempt may be sent
attempt.py              what an attempt asks of the admission
pricing.py              prices of the models that jobs may use, looked up once and shared
priced_routes.py        a worker's routes, at the shared prices
surcharges.py           what a request may cost besides its tokens
spending_cap.py         the cap on one job's spending
waitlist.py             jobs in this worker that wait for a bucket
flex.py                 the flex lane
failover.py             targets that have failed in this delivery
reasons.py              why a call was not admitted, in words for people
runtime.py              a job's steps over its event loop's connections, and the background loops
connections.py          an event loop's connections, and what all jobs in flight share
reserving.py            steps up to the call: begin, plan, reserve, wait until it may be sent
calling.py              one call to a provider
settling.py             how reservations and jobs end
throttles.py            pauses that this worker has just learned of
sizes.py                whether a model's 429s are about the size of a request
stops.py                batches that were cancelled or expired while their jobs wait here
usage.py                the usage that an answer reports, if it is plausible
retry.py                what follows from a failed attempt or a denial
outcomes.py             what a call's end settles, and the result line
hooks.py                what listeners are called with while jobs run
trace_context.py        how a trace gets from a submission to its jobs
trace_provider.py       OpenTelemetry's tracer provider of this process
storage/                files in a folder or an object store
lua/begin.lua           may this delivery run the job? If so, lease it
lua/lease.lua           renew or give up a job's lease
lua/settle_line.lua     settle a call of a batch's line whose job goes on
lua/report_blocker.lua  report what holds up a batch
lua/finish.lua          end a job
lua/lib/line.lua        whether a message is a line of its batch
lua/lib/wake.lua        make a tick due before the others
"""
