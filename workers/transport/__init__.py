"""How messages travel, in the order a message meets these files.

queues.py               one queue for each workflow, its lists in Redis and what they hold
registry.py             the workflow queues that exist, which every worker follows
bulk.py                 publishes many messages into one queue at once
rabbitmq.py             RabbitMQ as the broker, in source of the files below
channel.py              Celery's Redis transport, made safe: connections, publishing, acknowledging
follow_queues.py        the worker's step that consumes from each queue of the registry
fetch.py                how a channel claims messages, and how it rests if there are none
policy.py               how a worker treats a queue: its workflow's settings and its gate
gates.py                whether a worker claims from a workflow's queue: open, half-open or closed
fair_share.py           the order in which a worker claims from its queues
broker.py               what the transport asks of Redis: a typed function for each script
compression.py          bounds what a message may unpack to
message.py              a message on the wire, and its delivery tag
in_flight.py            what this process has claimed: kept alive, acknowledged, put back
envelope.py             what a worker checks of a message before Celery acts on it
dead_letters.py         messages that no worker can run: listed, replayed, dropped
lua/lib/message.lua     what the scripts share: tags, lists, counts, marks of redelivery
lua/publish.lua         puts messages into a queue and wakes an idle worker
lua/schedule.lua        publishes a message for later
lua/scout.lua           finds messages that a stock producer has pushed
lua/claim.lua           moves messages from their queues to in flight
lua/heartbeat.lua       keeps claimed messages in flight
lua/acknowledge.lua     forgets messages whose work is done
lua/delay.lua           moves claimed messages to the delayed set
lua/give_back.lua       puts claimed messages back into their queues
lua/sweep.lua           delivers delayed messages that are due, restores those of dead workers
lua/forget_delayed.lua  drops delayed messages
lua/bury.lua            makes a claimed message a dead letter
lua/entomb.lua          makes a dead letter of a message from RabbitMQ
lua/replay.lua          puts dead letters back into their queues
"""
