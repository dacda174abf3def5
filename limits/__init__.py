"""May this call be sent now? Rate limits, budgets and circuits of LLM calls, kept in Redis.

What a person sets, what a call asks, how the server decides, and what can be read or changed by hand:

    errors.py                what can go wrong between Overnight and its Redis
    keys.py                  every Redis key of Overnight
    client/                  how a script in Redis is called
    bucket.py                the quota of one bucket, and how GCRA counts it
    budget.py                a budget's windows
    circuit.py               when a circuit opens and closes; the retry budget
    counting.py              what a call costs in each dimension of a quota
    reservation.py           asks, answers and settlements: what admission takes and returns
    encoding.py              the same as JSON for the scripts
    admission.py             admit, sent, settle, release, renew, sweep
    feedback.py              refused accounts, and limits that are set by hand
    snapshot.py              the limits as of now, and the ledger

    lua/admit.lua            admits calls
    lua/sent.lua             marks a reservation as sent, right before the request
    lua/settle.lua           ends reservations with what really happened
    lua/release.lua          gives a whole reservation back
    lua/renew.lua            extends the leases of reservations
    lua/sweep.lua            ends reservations whose lease is over
    lua/block.lua            records that an account refused a call, or unblocks an account
    lua/resume.lua           ends the pause of a bucket by hand
    lua/set_circuit.lua      holds a circuit open or closed by hand
    lua/snapshot.lua         reads buckets, circuits, blocked accounts and budgets
    lua/ledger.lua           reads a page of the ledger

    lua/lib/prelude.lua      the namespace's keys, and the clock
    lua/lib/state.lua        what a script reads and changes, written when it ends
    lua/lib/namespace.lua    includes everything about a namespace
    lua/lib/bucket.lua       a bucket's state
    lua/lib/booking.lua      when a call fits, what it takes, when a denied call should ask again
    lua/lib/pace.lua         the learned pace of a bucket without a configured request limit
    lua/lib/window.lua       what a provider gives back a minute after it was used
    lua/lib/stated.lua       limits that the provider's headers state
    lua/lib/circuit.lua      a circuit and the retry budget of its traffic
    lua/lib/blocked.lua      blocked accounts
    lua/lib/budget.lua       money: budgets' windows and the ledger
    lua/lib/reservation.lua  reservations and the end of their leases
    lua/lib/sending.lua      when a booked call must ask again, and what sending changes
    lua/lib/giving_back.lua  what a call gives back
    lua/lib/provider.lua     what a provider reports, in headers and in 429s
    lua/lib/part.lua         settling one call of a chunk
    lua/lib/settle.lua       settling, also for scripts of other packages
"""
