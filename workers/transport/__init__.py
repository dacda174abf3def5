"""How messages travel, in the order a message meets these files.

queues.py               one queue for each workflow, its lists in Redis and how many messages they hold
registry.py             the workflow queues that exist, which every worker follows
bulk.py                 publishes many messages into one queue at once
rabbitmq.py             RabbitMQ as the broker, instead of Redis and the files below
channel.py              Celery's Redis transport, made safe: connections, publishing, acknowledging
broker.py               what the transport asks of Redis: a typed function for each script
follow_queues.py        the worker's step that consumes from each queue in the registry
discovery.py            finds messages of stock producers
fetch.py                how a channel claims messages, and how it waits for more
fair_share.py           the order in which a worker claims from its queues
policy.py               how a worker treats a queue: its workflow's settings and its gate
gates.py                whether a worker claims from a workflow's queue: open, half-open or closed
delivery.py             a claimed message is delivered, delayed until its ETA, or made a dead letter
message.py              a message on the wire, and its delivery tag
compression.py          bounds what a message may unpack to
envelope.py             what a worker checks in a message before Celery acts on it
qos.py                  what a channel has delivered, and how much more it may claim
in_flight.py            what this process has claimed: kept alive, acknowledged, put back
unsent.py               changes to claimed messages that the server has not taken yet
dead_letters.py         messages that no worker can run: listed, replayed, dropped
lua/lib/message.lua     what the scripts share: tags, lists, counts, redelivery marks
lua/publish.lua         puts messages into a queue and wakes an idle worker
lua/schedule.lua        publishes a message that is to be delivered later
lua/scout.lua           finds messages that a stock producer has pushed
lua/claim.lua           moves messages from their queues to `unacked`
lua/heartbeat.lua       keeps claimed messages from being restored
lua/acknowledge.lua     forgets messages whose work is done
lua/delay.lua           moves claimed messages to the delayed set
lua/give_back.lua       puts claimed messages back into their queues
lua/sweep.lua           delivers delayed messages that are due, restores those of dead workers
lua/forget_delayed.lua  drops delayed messages
lua/bury.lua            makes a claimed message a dead letter
lua/entomb.lua          makes a message from RabbitMQ a dead letter
lua/replay.lua          puts dead letters back into their queues
"""
