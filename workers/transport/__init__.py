"""Messages: published, claimed, in flight, restored, delayed, shared fairly, set aside.

compression.py          bounds on what a message may unpack to, for whatever reads messages with kombu
envelope.py             what a worker wants of a message before Celery acts on it
registry.py             which workflow queues there are
channel.py              celery's Redis transport, made safe
fetch.py                how a channel gets its messages
in_flight.py            what this process has claimed
broker.py               what the transport asks of its server
message.py              A message on the wire, as kombu's virtual transports write it, and the tag that it is …
queues.py               one queue a workflow, followed by every worker while it is in the registry …
fair_share.py           in which order a worker takes from its queues
gates.py                what this worker need not try now
bulk.py                 many messages into one queue at once
dead_letters.py         messages that no worker can read
rabbitmq.py             rabbitMQ as the broker
lua/acknowledge.lua     ?
lua/bury.lua            sets a message aside that no worker can read
lua/claim.lua           moves messages from their queues to `unacked`, in one step
lua/delay.lua           ?
lua/entomb.lua          adds a message to the dead list that no transport of ours holds
lua/forget_delayed.lua  drops delayed messages
lua/give_back.lua       ?
lua/heartbeat.lua       ?
lua/lib/message.lua     what the transport's scripts share
lua/publish.lua         puts messages at a queue's end, and wakes an idle worker if the queue was empty
lua/replay.lua          puts dead messages back into the queues that they came from
lua/schedule.lua        publishes a message that is to be delivered later
lua/scout.lua           looks for messages that a stock producer has pushed, which touches no key of ours
lua/sweep.lua           ?
"""
