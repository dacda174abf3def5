"""May this call go out now? Rate limits, budgets and circuits of LLM calls, kept in Redis.

feedback.py              what providers tell, apart from a call's end
encoding.py              quotas, budgets and circuits as the scripts are told of them, in JSON
admission.py             admission
bucket.py                A bucket
budget.py                A budget
circuit.py               A circuit
counting.py              what a call costs in each dimension of a quota
errors.py                what can go wrong between Overnight and its Redis
keys.py                  every Redis key of Overnight
snapshot.py              what `overnight limits` and `overnight costs` show
client/                  How a script in Redis is called: connections, pipelines, replies, and what the server …
lua/admit.lua            admits a call
lua/latch.lua            tells that an account refused a call, or ends a block
lua/ledger.lua           reads a page of the ledger of some days
lua/lib/booking.lua      booking
lua/lib/bucket.lua       A bucket's levels
lua/lib/budget.lua       money in n$
lua/lib/circuit.lua      A circuit and the retry budget of its traffic
lua/lib/departure.lua    departures
lua/lib/giving_back.lua  what a call gives back, and when it is no longer booked or in flight
lua/lib/latch.lua        blocked accounts
lua/lib/namespace.lua    what scripts find in a namespace
lua/lib/pace.lua         the pace of a bucket whose requests a minute nobody has configured
lua/lib/prelude.lua      what every script begins with
lua/lib/provider.lua     what a provider tells of a bucket
lua/lib/quantum.lua      providers that count by the second
lua/lib/reservation.lua  reservations and the end of their leases
lua/lib/settle.lua       settling, for this package's settle.lua and for scripts of other packages that end a …
lua/lib/state.lua        what a script reads and changes is kept here, and written when it ends
lua/lib/stated.lua       limits that the provider's headers state, beside those that are configured
lua/lib/window.lua       what a provider gives back a minute after it was used, as one does that counts the …

lua/release.lua          gives a reservation back whole
lua/renew.lua            prolongs reservations
lua/resume.lua           ends the pause of a bucket by hand
lua/sent.lua             marks a reservation as sent, right before the request leaves
lua/set_circuit.lua      holds a circuit open or closed by hand, or lets it work by itself again
lua/settle.lua           ends reservations with the truth
lua/snapshot.lua         reads buckets, circuits, latches and budgets as of now
lua/sweep.lua            ends reservations whose lease is over

"""
