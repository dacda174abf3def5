"""What is going on: metrics, traces, snapshots, blockers, costs, Flower.

limits.py           a snapshot of the limits: quotas, circuits, blocked accounts, budgets
costs.py            what calls have cost, from the ledger
live_calls.py       the live calls that HTTP servers have in flight
snapshot.py         a snapshot of the whole system
blockers.py         what a batch or a workflow waits for right now
throughput.py       jobs a second over the last minute
metrics.py          the metrics of a namespace, for Prometheus
blocker_metrics.py  metrics of blockers
flex_tiers.py       what holds the flex tiers back
lane_metrics.py     metrics of the lanes
labels.py           names as labels of metrics
setup.py            a worker's own metrics and traces, if its environment asks for them
worker_metrics.py   what one worker process counts
traces.py           OpenTelemetry traces by the conventions for generative AI
flower/             Flower with pages of workflows, batches and limits
"""
