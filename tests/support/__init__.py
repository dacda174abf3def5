"""What the tests share: each fixture and each helper is defined once, here. Tests import nothing from other tests.

fixtures.py      the fixtures of most files: simulator, site, desk
toml.py          tables of overnight.toml: a provider, prices, agents
asking.py        lines that ask for JSON with a schema
site.py          a folder with its own overnight.toml, server and workers, as a user has it
commands.py      commands of `overnight` in processes of their own, without the time that their imports take
delivery.py      deliveries of jobs by the worker's own code, without Celery around it
replays.py       agents' jobs that are delivered more than once
api.py           the HTTP server of a site
s3.py            an S3 that may refuse
valkey.py        a Valkey on a port of its own

agents.py        agents that tests run in real workers
own_checks.py    checks of answers as a user may write them
sdk_agents.py    agents that use OpenAI's, Anthropic's and Pydantic's SDKs
tasks.py         Celery tasks as a user may have them beside the jobs
producer.py      a stranger that puts messages into a queue
rabbitmq.py      a RabbitMQ server

raw_provider.py  a provider whose bytes a test decides
answering.py     a provider whose answers a test decides
unreachable.py   addresses at which no connection comes to be
receiver.py      a webhook's receiver
silent_proxy.py  a proxy that keeps connections open and passes nothing on
tls_proxy.py     TLS in front of a server that speaks none
certificates.py  certificates for 127.0.0.1

events.py        Celery's events as another program reads them
collector.py     an OpenTelemetry collector
waiters.py       attempts and denials as a waitlist meets them
watching.py      Flower and the metrics of a site
browser.py       Chromium, driven over its DevTools protocol
screenshots.py   the pictures of docs/monitoring.md
privacy.py       the places in which a prompt or a key could be found
fuzz.py          random lines and random answers
mutations.py     messages with one thing wrong
"""
