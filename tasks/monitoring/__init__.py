"""What is going on: metrics, traces, snapshots, blockers, costs, Flower.

blocker_metrics.py  what stands still, as metrics
labels.py           names as labels of metrics
setup.py            which listeners a worker has, by its environment
traces.py           openTelemetry traces by the conventions for generative AI …
metrics.py          what Prometheus sees of a namespace
worker_metrics.py   what one worker counts by itself
limits.py           what `overnight limits` shows
snapshot.py         what goes on right now, read in one place for all who show it
blockers.py         what a batch or a workflow waits for right now, in words
costs.py            what calls have cost
throughput.py       how fast something goes
flower/             Flower, extended with what an operator of LLM batches asks: how far, how fast, how dear, …
"""
