"""One job, from its message to its result line.

job.py                  one line of a batch, checked before it is queued and again when it arrives
proof.py                proof that a message is a line of its batch
state.py                what a job carries from one delivery to the next
messages.py             the Celery task of every job, and what a crash does to one
delivery.py             what runs a job in this worker, and what has failed in it
run.py                  one job's way, from its delivery to its result
runners.py              which function runs a job, by the kind of its line
store.py                one job in Redis: begin, lease, finish
leases.py               the leases of a worker's jobs and reservations
admission.py            ask, wait and ask again, until one attempt may be sent
planning.py             which routes an attempt may take, and what each would cost
prompt_cache.py         calls that find what an earlier call has put into a provider's prompt cache
warming.py              one call fills the cache, and the others with the same prefix follow
attempt.py              what an attempt asks of the admission, and the route that it was given
pricing.py              prices of the models that jobs may use, looked up once and shared
priced_routes.py        a worker's routes, at the shared prices
surcharges.py           what a request may cost besides its tokens
spending_cap.py         the cap on one job's spending
waitlists.py            a worker's waitlists, and which of them a job joins
waitlist.py             the waitlist of one bucket, and its asker
bucket_calls.py         this worker's calls of one bucket: slow start, calls in flight, a 429's pause
flex.py                 the flex lane
reasons.py              why a call was not admitted, in words for people
runtime.py              a job's steps over its event loop's connections, and the background loops
connections.py          an event loop's connections, and what all jobs in flight share
reserving.py            steps up to the call: begin, reserve, wait until it may be sent
calling.py              one call to a provider
settling.py             how reservations and jobs end
sizes.py                whether a model's 429s are about the size of a request
changed_settings.py     settings that someone has changed while this worker runs
pauses.py               batches and workflows that someone has paused
stops.py                batches that were cancelled or expired while their jobs wait here
usage.py                the usage that an answer reports, if it is plausible
retry.py                what follows from a failed attempt or a denial
outcomes.py             what a call's end settles, and the result line
further.py              what follows from an answer: the job ends with it, or asks for a further one
kept.py                 the best answer of a line that asks for another one
hooks.py                what listeners are called with while jobs run
trace_context.py        how a trace gets from a submission to its jobs
trace_provider.py       OpenTelemetry's tracer provider of this process
storage/                files in a folder or an object store
lua/begin.lua           may this delivery run the job? If so, lease it
lua/lease.lua           renew or give up a job's lease
lua/keep_answer.lua     settle the call of an answer and keep the answer
lua/settle_line.lua     settle a call of a batch's line whose job goes on
lua/report_blocker.lua  report what holds up a batch
lua/finish.lua          end a job
lua/lib/line.lua        whether a message is a line of its batch
lua/lib/count_line.lua  count a settled call of a line whose job goes on
lua/lib/wake.lua        make a tick due before the others
lua/lib/clock.lua       the time, or the one that a test gives
lua/lib/keep.lua        extend the lifetime of a shared key
"""
