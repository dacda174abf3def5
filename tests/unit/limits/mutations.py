"""Ways to break the Lua: a text that occurs once in a file, and its replacement.

Each is a mistake that would cost money, quota or a job. A history in histories/ must notice it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from limits.client.scripts import Script, compose, read
from tests.support.provider_feedback import OBSERVE

BOOKING: Final = "limits/lua/lib/booking.lua"
BUCKET: Final = "limits/lua/lib/bucket.lua"
GIVING_BACK: Final = "limits/lua/lib/giving_back.lua"
BUDGET: Final = "limits/lua/lib/budget.lua"
CIRCUIT: Final = "limits/lua/lib/circuit.lua"
PART: Final = "limits/lua/lib/part.lua"
PROVIDER: Final = "limits/lua/lib/provider.lua"
PRELUDE: Final = "limits/lua/lib/prelude.lua"
RESERVATION: Final = "limits/lua/lib/reservation.lua"
SETTLE: Final = "limits/lua/lib/settle.lua"
WINDOW: Final = "limits/lua/lib/window.lua"
SNAPSHOT: Final = "limits/lua/snapshot.lua"
ADMIT: Final = "limits/lua/admit.lua"
SENT: Final = "limits/lua/sent.lua"
SCRIPTS: Final = tuple(f"limits/lua/{name}.lua" for name in ("admit", "sent", "settle", "release", "renew", "sweep"))


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` becomes `new` in `file`; `history` notices."""

    name: str
    history: str
    file: str
    old: str
    new: str

    def scripts(self) -> dict[str, Script]:
        """Every script, composed from the changed file."""
        text = read(self.file)
        assert text.count(self.old) == 1, f"{self.name}: the text occurs {text.count(self.old)} times in {self.file}"

        def changed(path: str) -> str:
            return text.replace(self.old, self.new) if path == self.file else read(path)

        paths = (*SCRIPTS, OBSERVE, SNAPSHOT)
        return {path: Script(path, compose(changed(path), changed)) for path in paths}


def all_mutations() -> Iterator[Mutation]:
    """Every way to break the Lua that a history must notice."""
    yield Mutation(
        "charged at now instead of the admission's time",
        "arithmetic",
        BOOKING,
        "and dim[BOOKED] or 0), at) + width",
        "and dim[BOOKED] or 0), now) + width",
    )
    yield Mutation(
        "an overrun is forgiven",
        "arithmetic",
        GIVING_BACK,
        "dim[TAT] = max(dim[TAT], now) + over * mine[2]",
        "dim[TAT] = dim[TAT]",
    )
    yield Mutation(
        "a day's quota bursts like a minute's",
        "arithmetic",
        BUCKET,
        "if PERIOD[name] == DAY then return DAY end",
        "",
    )
    yield Mutation(
        "a header above ours is believed, whatever others showed",
        "levels",
        PROVIDER,
        "spare = max(spare, shown_level(dim, name, now) + slack)",
        "spare = spare",
    )
    yield Mutation(
        "calls that were open when a request was sent count as arrived before it",
        "levels",
        PROVIDER,
        "(mine[6] or 0) + remaining",
        "mine[4] + remaining",
    )
    yield Mutation(
        "a burst that grows makes room",
        "levels",
        BOOKING,
        "dim[TAT] = max(dim[TAT], min(before + more * SECOND, surely_shown(dim, name, now)))",
        "",
    )
    yield Mutation("time runs backwards", "arithmetic", PRELUDE, "if latest > now then", "if false then")
    yield Mutation(
        "time stands still after the server's clock was set back",
        "arithmetic",
        PRELUDE,
        "max(0, now - tonumber(seen)) * SLOWER",
        "0",
    )
    yield Mutation(
        "a lead of long ago counts once more",
        "arithmetic",
        PRELUDE,
        "if tonumber(at) ~= latest then",
        "if not at then",
    )
    yield Mutation(
        "a refund reaches into the past",
        "dimensions",
        GIVING_BACK,
        "min(-over * mine[2], ahead)",
        "-over * mine[2]",
    )
    yield Mutation(
        "a refund reaches behind booked calls",
        "dimensions",
        GIVING_BACK,
        "ends - max(now, bucket.last)",
        "ends - now",
    )
    yield Mutation(
        "a pause is ignored at sent",
        "dimensions",
        SENT,
        "max(reservation.at + moved, pause)",
        "reservation.at",
    )
    yield Mutation(
        "booked calls are not postponed for urgent work",
        "dimensions",
        BOOKING,
        "    bucket.shift = bucket.shift + jump\n",
        "",
    )
    yield Mutation(
        "a call in flight is landed twice",
        "dimensions",
        SETTLE,
        "if in_time then end_flight(bucket, now, reservation.sent > 0 and now - reservation.sent or nil) end",
        "end_flight(bucket, now) end_flight(bucket, now) bucket.flight = bucket.flight - 1",
    )
    yield Mutation(
        "a released reservation stays charged",
        "conserving",
        SETTLE,
        "if report.costs then correct",
        "if report.outcome ~= 'neutral' then correct",
    )
    yield Mutation(
        "denied calls ask again all at once", "conserving", BOOKING, "bucket.hint = back + step", "bucket.hint = back"
    )
    yield Mutation("stale headers are believed", "levels", PROVIDER, "sent >= dim[SEEN] and (limit", "(limit")
    yield Mutation(
        "calls sent since a header are forgotten",
        "levels",
        PROVIDER,
        "dim[SENT] - mine[4] + dim[BOOKED]",
        "dim[BOOKED]",
    )
    yield Mutation("booked calls are forgotten by a header", "levels", PROVIDER, " + dim[BOOKED] / each", "")
    yield Mutation(
        "a header raises a fixed burst",
        "levels",
        PROVIDER,
        "dim[TAT] and dim[FIXED] == 0 and dim[REPORTED]",
        "dim[TAT] and dim[REPORTED]",
    )
    yield Mutation(
        "a burst is sent right after a 429",
        "levels",
        PROVIDER,
        "dim[TAT] = max(dim[TAT] - debt, max(now, bucket.pause) + capacity(dim, name) + dim[BOOKED])",
        "",
    )
    yield Mutation(
        "a provider that counts by the minute seems to hold less",
        "windows",
        PROVIDER,
        "return by_the_minute(bucket, now) and",
        "return false and",
    )
    yield Mutation(
        "all is used of a minute that comes back at once",
        "headrooms",
        BUCKET,
        "local known = reported and (most <= FEW or bucket.refills)",
        "local known = reported",
    )
    yield Mutation(
        "a 429 makes no more careful",
        "headrooms",
        BUCKET,
        "return known and now - max(bucket.throttled, bucket.pause) >= CAREFUL_FOR and 1",
        "return known and 1",
    )
    yield Mutation(
        "a settle that is not idempotent",
        "budgets",
        SETTLE,
        "save(reservation_key(id), { owner = reservation.owner, state = 'settled' }, SETTLED_LIFE)",
        "save_reservation(id, reservation)",
    )
    yield Mutation(
        "an ended lease does not charge what was sent",
        "budgets",
        RESERVATION,
        "was_sent and amount or 0)",
        "0)",
    )
    yield Mutation(
        "a call of a chunk is settled twice",
        "chunks",
        PART,
        "redis.call('SETBIT', parts_key(id), report.part.place, 1) == 1",
        "redis.call('SETBIT', parts_key(id), report.part.place, 1) == 2",
    )
    yield Mutation(
        "a settled call keeps its money held",
        "chunks",
        PART,
        "budgets, -held, report.amount",
        "budgets, 0, report.amount",
    )
    yield Mutation(
        "a call takes more than its chunk holds",
        "chunks",
        PART,
        "min(report.part.held, reservation.amount)",
        "report.part.held",
    )
    yield Mutation(
        "a late result is spent beside what was presumed",
        "chunks",
        PART,
        "0, report.amount - held)",
        "0, report.amount)",
    )
    yield Mutation(
        "the ledger keeps what was presumed",
        "chunks",
        PART,
        "{ presumed_cost = -held }",
        "{ presumed_cost = 0 }",
    )
    yield Mutation(
        "a chunk gives back what its calls have settled",
        "chunks",
        PART,
        "reservation.amount = reservation.amount - held",
        "reservation.amount = reservation.amount",
    )
    yield Mutation("an ended lease keeps its money held", "budgets", RESERVATION, "-amount, was_sent", "0, was_sent")
    yield Mutation(
        "a budget ignores held money",
        "budgets",
        ADMIT,
        "money[SPENT] + money[HELD] + candidate",
        "money[SPENT] + candidate",
    )
    yield Mutation(
        "money is held in the window of now", "budgets", ADMIT, "window_key(budget, plan.at)", "window_key(budget, now)"
    )
    yield Mutation(
        "a late settlement is paid twice",
        "budgets",
        SETTLE,
        "0, report.amount - reservation.amount",
        "0, report.amount",
    )
    yield Mutation(
        "a presumed cost stays in the ledger",
        "budgets",
        SETTLE,
        "{ presumed_cost = -reservation.amount, presumed = -1 }",
        "{ presumed = -1 }",
    )
    yield Mutation(
        "leases end early", "budgets", RESERVATION, "'-inf', integer(now),", "'-inf', integer(now + SECOND),"
    )
    yield Mutation(
        "two seconds' worth is sent at once",
        "seconds",
        BUCKET,
        "dim[BURST]) * SECOND",
        "dim[BURST]) * 2 * SECOND",
    )
    yield Mutation("a row of openings never ends", "circuits", CIRCUIT, "then circuit.streak = 0 end", "then end")
    yield Mutation(
        "a probe that died with its worker blocks the next",
        "circuits",
        RESERVATION,
        "  withdraw_probe(id, reservation)\n  if not was_sent",
        "  if not was_sent",
    )
    yield Mutation(
        "two probes at once",
        "circuits",
        CIRCUIT,
        "if circuit.probe ~= '' then return false",
        "if false then return false",
    )
    yield Mutation(
        "generations are ignored",
        "circuits",
        CIRCUIT,
        "reservation.generation ~= circuit.generation or circuit.by_hand",
        "circuit.by_hand",
    )
    yield Mutation(
        "retries are not spent",
        "circuits",
        ADMIT,
        "spend_retry(circuit, settings, now)",
        "",
    )
    yield Mutation(
        "old failures never leave the window",
        "circuits",
        CIRCUIT,
        "if each[1] > slot_of(settings, now) - SLOTS then",
        "if true then",
    )
    yield Mutation(
        "admitting again takes again",
        "admissions",
        ADMIT,
        "if is_open(before) then",
        "if is_open(before) and before.owner ~= ask.owner then",
    )
    yield Mutation(
        "joined calls all see the state before the first",
        "joined",
        "limits/lua/lib/state.lua",
        "local found = values[key]",
        "local found = nil",
    )
    yield Mutation(
        "of joined calls only the last enters the ledger",
        "joined",
        BUDGET,
        "if not rows[name] then",
        "if true then",
    )
    yield Mutation(
        "a denial takes a slot",
        "admissions",
        ADMIT,
        "save_bucket(refused.charge.bucket, bucket)",
        "save_bucket(refused.charge.bucket, bucket) bucket.flight = bucket.flight + 1",
    )
    yield Mutation(
        "a slot is not given back when its lease ends",
        "admissions",
        RESERVATION,
        "    end_flight(bucket, now)\n    save_bucket(part.bucket, bucket)\n  end\n  withdraw",
        "    save_bucket(part.bucket, bucket)\n  end\n  withdraw",
    )
    yield Mutation(
        "a blocked account is called",
        "admissions",
        ADMIT,
        "if barring then",
        "if false then",
    )
    yield Mutation(
        "a failed target is tried again at once",
        "admissions",
        ADMIT,
        "local from = now + candidate.not_before",
        "local from = now",
    )
    yield Mutation(
        "a fallback counts although the budget can pay",
        "admissions",
        ADMIT,
        "if candidate.fallback and not unpaid_all then break end",
        "",
    )
    yield Mutation(
        "only the first of a call's buckets is charged",
        "admissions",
        ADMIT,
        "reservation.parts[i] = take(",
        "if i > 1 then charge.costs = {} end reservation.parts[i] = take(",
    )
    yield Mutation(
        "a circuit opened by hand lets probes out",
        "admissions",
        CIRCUIT,
        "if circuit.by_hand then return false, false, 30 * SECOND end",
        "",
    )
    yield Mutation(
        "a cap on calls in flight is off by one",
        "admissions",
        BOOKING,
        "return bucket.flight >= limit",
        "return bucket.flight > limit",
    )
    yield Mutation(
        "sent calls count as given back half a minute later",
        "windows",
        WINDOW,
        "local TRANSIT = SECOND / 4 ",
        "local TRANSIT = -MINUTE / 2 ",
    )
    yield Mutation(
        "returned quota is not used", "windows", WINDOW, "dim[TAT] = min(dim[TAT], max(level, bucket.last))", ""
    )
