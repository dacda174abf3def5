"""Every Redis key of Overnight: type, unit, lifetime, owner.

All keys of a namespace begin with `{namespace}:`. The braces are Redis Cluster's hash tag: a namespace lies in one
slot, so a script may touch any of its keys, even those that it learns from a reservation. An ACL for Overnight only has
to grant `~{namespace}:*`.

The Lua scripts build the same names (lua/lib/prelude.lua); tests/unit/limits/test_keys.py compares the two.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str

    def __post_init__(self) -> None:
        if not self.namespace or not self.namespace.isprintable() or set(self.namespace) & set("{} "):
            msg = f"namespace {self.namespace!r}: expected printable text without braces or spaces"
            raise ValueError(msg)

    @property
    def prefix(self) -> str:
        """What every key of the namespace begins with."""
        return "{" + self.namespace + "}:"

    @property
    def clock(self) -> str:
        """String, µs since the epoch: the latest time that a script has seen. A day. Owner: limits/lua."""
        return self.prefix + "clock"

    @property
    def clock_lead(self) -> str:
        """String: if the scripts' time is ahead of the server's, both at one moment (µs). A day. Owner: limits/lua."""
        return self.prefix + "clock:lead"

    @property
    def leases(self) -> str:
        """Sorted set of reservation ids by the µs at which their lease ends. 400 days. Owner: limits/lua."""
        return self.prefix + "leases"

    def reservation(self, reservation_id: str) -> str:
        """String, MessagePack: an open reservation, or what became of it.

        400 days while it is open, like the money that it holds; then a day if swept, half a minute if settled.
        Owner: limits/lua.
        """
        return f"{self.prefix}reservation:{reservation_id}"

    def parts(self, reservation_id: str) -> str:
        """Bitmap: the calls of a chunk's reservation that were settled (lua/lib/part.lua). 400 days, or until it ends.

        Owner: limits/lua.
        """
        return f"{self.reservation(reservation_id)}:parts"

    def bucket(self, bucket_id: str) -> str:
        """String, MessagePack: a bucket's state (lua/lib/bucket.lua). 8 days. Owner: limits/lua."""
        return f"{self.prefix}bucket:{bucket_id}"

    def circuit(self, circuit_id: str) -> str:
        """String, MessagePack: a circuit and its retry budget. A day; 90 days if held by hand. Owner: limits/lua."""
        return f"{self.prefix}circuit:{circuit_id}"

    def blocked_account(self, account: str) -> str:
        """String, MessagePack: why an account, or one of its models, is blocked (lua/lib/blocked.lua).

        90 days, or until it is unblocked; an hour if it is only suspected. Owner: limits/lua.
        """
        return f"{self.prefix}latch:{account}"

    def budget(self, subject: str, window: str) -> str:
        """String, MessagePack: n$ spent and held in one window of a budget. 400 days. Owner: limits/lua."""
        return f"{self.prefix}budget:{subject}:{window}"

    def ledger(self, day: int) -> str:
        """Hash, row -> MessagePack of columns (tokens, n$, counts): one UTC day, counted from 1970-01-01.

        400 days. Owner: limits/lua.
        """
        return f"{self.prefix}ledger:{day}"

    def batch(self, batch_id: str) -> str:
        """Hash: a batch's record (batches/batch.py). 90 days after its end, or after its deadline if it never ends.

        Owner: tasks/batches/store.py.
        """
        return f"{self.prefix}batch:{batch_id}"

    @property
    def batches(self) -> str:
        """Sorted set of batch ids by the second of their submission. As the youngest batch. Owner: batches/store.py."""
        return self.prefix + "batches"

    def done(self, batch_id: str) -> str:
        """Bitmap, a bit a line of the input: the jobs that succeeded. As its batch. Owner: tasks/batches/store.py."""
        return f"{self.prefix}batch:{batch_id}:done"

    def failed(self, batch_id: str) -> str:
        """Bitmap, a bit a line of the input: the jobs that failed. As its batch. Owner: tasks/batches/store.py."""
        return f"{self.prefix}batch:{batch_id}:failed"

    def settled(self, batch_id: str) -> str:
        """Bitmap: the jobs that had succeeded when this round began. As its batch. Owner: batches/store.py."""
        return f"{self.prefix}batch:{batch_id}:settled"

    def job_leases(self, batch_id: str) -> str:
        """Sorted set of the lines in flight by the µs at which their lease ends. Until the batch ends.

        Owner: tasks/batches/store.py.
        """
        return f"{self.prefix}batch:{batch_id}:leases"

    def job_owners(self, batch_id: str) -> str:
        """Hash, line -> the delivery that holds its lease. Until the batch ends. Owner: tasks/batches/store.py."""
        return f"{self.prefix}batch:{batch_id}:owners"

    def spent(self, batch_id: str) -> str:
        """Hash, line -> n$ of its settled calls, of jobs that have not ended. Until the batch ends.

        Owner: tasks/batches/store.py.
        """
        return f"{self.prefix}batch:{batch_id}:spent"

    def kept(self, batch_id: str) -> str:
        """Hash, line -> its best answer, of jobs that ask for another one (tasks/jobs/kept.py). Until the batch ends.

        Owner: tasks/jobs/store.py.
        """
        return f"{self.prefix}batch:{batch_id}:kept"

    def results(self, batch_id: str) -> str:
        """Stream of results that are not in a file yet. Until the batch ends. Owner: tasks/batches/store.py."""
        return f"{self.prefix}batch:{batch_id}:results"

    def taken(self, batch_id: str) -> str:
        """Bitmap: the lines that the batch lane has taken in this round. As its batch. Owner: chunk_journal.py."""
        return f"{self.prefix}batch:{batch_id}:taken"

    def offloaded(self, batch_id: str) -> str:
        """Bitmap: the lines that are in the batch lane now. As its batch. Owner: batches/chunk_journal.py."""
        return f"{self.prefix}batch:{batch_id}:offloaded"

    def chunks(self, batch_id: str) -> str:
        """Hash, chunk id -> JSON: the journal of a batch's chunks. As its batch. Owner: chunk_journal.py."""
        return f"{self.prefix}batch:{batch_id}:chunks"

    @property
    def lane_limits(self) -> str:
        """Hash, target -> input tokens that its Batch API takes, as a refusal said. 30 days.

        Owner: tasks/batches/batch_lane.py.
        """
        return self.prefix + "lane_limits"

    def lane_times(self, target: str, kind: str) -> str:
        """List of seconds, newest first: what a target's provider batches took (`done`), and cancelling (`cancel`).

        60 days after the latest. Owner: tasks/batches/lane_times.py.
        """
        return f"{self.prefix}lane_times:{kind}:{target}"

    def lane_refused(self, scope: str) -> str:
        """String: a Batch API has refused this account's model. An hour. Owner: tasks/batches/batch_lane.py."""
        return f"{self.prefix}lane_refused:{scope}"

    def client_batches(self, client: str) -> str:
        """Sorted set of the ids of a client's batches by the µs of their creation. 400 days. Owner: acceptance.py."""
        return f"{self.prefix}client:{client}:batches"

    def client_files(self, client: str) -> str:
        """Sorted set of the ids of a client's files by the µs of their creation. 400 days. Owner: uploads.py."""
        return f"{self.prefix}client:{client}:files"

    def file(self, file_id: str) -> str:
        """Hash: the record of an uploaded file (tasks/batches/uploads.py). Until it expires. Owner: uploads.py."""
        return f"{self.prefix}file:{file_id}"

    @property
    def expiring_files(self) -> str:
        """Sorted set of the ids of files by the second at which they are removed. 400 days. Owner: uploads.py."""
        return self.prefix + "files:expiring"

    def job(self, task_id: str) -> str:
        """Hash: lease and answer of a job without a batch, and the answer that it keeps. A day.

        Owner: tasks/jobs/store.py.
        """
        return f"{self.prefix}job:{task_id}"

    def journal(self, batch_id: str, line: int) -> str:
        """Hash: what an agent's job has done (tasks/agents/journal.py). As its batch.

        Money in n$, times in µs. Owner: tasks/agents/journal.py.
        """
        return f"{self.prefix}batch:{batch_id}:journal:{line}"

    def journals(self, batch_id: str) -> str:
        """The pattern of the keys of a batch's journals."""
        return f"{self.prefix}batch:{batch_id}:journal:*"

    def job_journal(self, task_id: str) -> str:
        """Hash: the same for a job without a batch. A month from when it is due, a day from its end.

        Owner: tasks/agents/journal.py.
        """
        return f"{self.prefix}job:{task_id}:journal"

    @property
    def ticks(self) -> str:
        """Sorted set of the ticks of live batches by the µs at which they are due. As the youngest batch.

        Owner: tasks/batches/due_ticks.py.
        """
        return self.prefix + "ticks"

    @property
    def ticks_idle(self) -> str:
        """Set of the ticks that have nothing to do until a job of their batch ends. 1 h. Owner: due_ticks.py."""
        return self.prefix + "ticks:idle"

    @property
    def changed_settings(self) -> str:
        """Hash: a setting -> its value while workers run. 90 days after the latest. Owner: jobs/changed_settings.py."""
        return self.prefix + "settings"

    @property
    def paused(self) -> str:
        """Hash: what is paused -> since when, in seconds. 90 days after the latest. Owner: jobs/pauses.py."""
        return self.prefix + "paused"

    @property
    def tickers(self) -> str:
        """Sorted set of the workers that run ticks by the µs at which each last asked for one. An hour.

        Owner: tasks/batches/due_ticks.py.
        """
        return self.prefix + "tickers"

    @property
    def ticks_duty(self) -> str:
        """String: the worker on duty, which looks for due ticks often. Under a second. Owner: batches/due_ticks.py."""
        return self.prefix + "ticks:duty"

    def of_lane(self, ticks: str) -> str:
        """One of the four keys above for the ticks of the batch lane, which run in a thread of their own.

        Types and lifetimes are the same. Owner: tasks/batches/due_ticks.py.
        """
        return ticks + ":lane"

    @property
    def probe(self) -> str:
        """Never set. Whether the server takes writes is tested by a SET that only writes if the key exists.

        Owner: tasks/monitoring/snapshot.py.
        """
        return self.prefix + "probe"

    @property
    def schedules(self) -> str:
        """Set of the schedules that a beat has seen. Owner: tasks/schedules/runs.py."""
        return self.prefix + "schedules"

    def schedule(self, name: str) -> str:
        """Hash: until when a schedule's runs are dealt with, and scheduled_for -> JSON of its latest runs.

        400 days after the latest of them. Owner: tasks/schedules/runs.py.
        """
        return f"{self.prefix}schedule:{name}"

    @property
    def redbeat(self) -> str:
        """What RedBeat's keys begin with: `lock` (string, 25 s: which beat leads), `:schedule` (sorted set) and
        `:statics` (set) and a hash an entry, for entries that an application adds. Owner: celery-redbeat.
        """
        return self.prefix + "redbeat:"

    @property
    def queues(self) -> str:
        """Set of the workflow queues that workers follow. Owner: workers/transport/registry.py."""
        return self.prefix + "queues"

    @property
    def queue_ages(self) -> str:
        """Sorted set of the unconfigured queues in `queues` by the second when they last held a message. 30 days.

        Owner: workers/transport/registry.py.
        """
        return self.prefix + "queue_ages"

    @property
    def queue_scan(self) -> str:
        """String: a worker has just looked for queues of stock producers. Seconds. Owner: transport/registry.py."""
        return self.prefix + "queue_scan"

    @property
    def queue_cursor(self) -> str:
        """String, cursor of the search for queues of stock producers. An hour. Owner: transport/registry.py."""
        return self.prefix + "queue_cursor"

    # The broker's side: what workers/transport/channel.py stores beside Celery's lists (one by queue and priority).

    @property
    def unacked(self) -> str:
        """Hash, delivery tag -> message: claimed by a worker and not acknowledged. Until then.

        Owner: workers/transport/channel.py, as all that follow up to `dead`.
        """
        return self.prefix + "unacked"

    @property
    def unacked_index(self) -> str:
        """Sorted set of the delivery tags in `unacked` by the µs of their worker's last heartbeat."""
        return self.prefix + "unacked_index"

    @property
    def in_flight(self) -> str:
        """Hash, queue -> how many of its messages are in `unacked`; a queue with none has no field."""
        return self.prefix + "in_flight"

    @property
    def delayed(self) -> str:
        """Sorted set of the tags of messages that wait for their time, by the µs at which they are due."""
        return self.prefix + "delayed"

    @property
    def delayed_messages(self) -> str:
        """Hash, tag -> message, of what is in `delayed`."""
        return self.prefix + "delayed_messages"

    @property
    def delayed_counts(self) -> str:
        """Hash, queue -> how many of its messages are in `delayed`; a queue with none has no field."""
        return self.prefix + "delayed_counts"

    @property
    def ready(self) -> str:
        """Set of the queue lists that may hold messages, which a claim looks into. Empty lists are removed."""
        return self.prefix + "ready"

    @property
    def wake(self) -> str:
        """List of at most one token. An idle worker blocks on it. A minute."""
        return self.prefix + "wake"

    @property
    def sweep(self) -> str:
        """Hash: when the transport was last swept, when it is next, and until when nothing is restored (µs). A day."""
        return self.prefix + "sweep"

    @property
    def dead(self) -> str:
        """Stream of messages that no worker can read, with queue and reason. 30 days each. Owner: dead_letters.py."""
        return self.prefix + "dead"

    @property
    def token_ratios(self) -> str:
        """Hash: sums of counted and real tokens by model. 30 days. Owner: workers/models/tokens.py."""
        return self.prefix + "token_ratios"

    def warm(self, place: str) -> str:
        """String: a prefix (digest) at an account is in its provider's prompt cache (1), or a call is to put it there.

        A minute after the last answer. Owner: tasks/jobs/warming.py.
        """
        return f"{self.prefix}warm:{place}"

    @property
    def live_calls(self) -> str:
        """Hash, HTTP server -> JSON: its live calls in flight by workflow, and the time (s). A minute.

        Owner: tasks/monitoring/live_calls.py.
        """
        return self.prefix + "live_calls"

    @property
    def prices(self) -> str:
        """Hash, provider/model -> JSON of its rates. 30 days. Owner: workers/models/shared_prices.py."""
        return self.prefix + "prices"
