"""The HTTP server: any OpenAI SDK submits batches and calls models through Overnight.

In the order in which a request meets them:

    serve.py          `overnight serve`: binds the port and runs uvicorn
    connections.py    one connection: limits for slow requests, large headers and unread answers
    requests.py       every request: its id, its client, its errors, its line in the log
    clients.py        finds the client of a request
    errors.py         OpenAI's error object
    app.py            the application: every route, and what it opens and closes
    resources.py      what the routes work with
    bodies.py         reads a JSON body
    fields.py         checks the fields of requests
    pages.py          pages of a list
    page.py           `/` and /openapi.json
    openapi.py        the OpenAPI document
    health.py         /healthz
    files.py          /v1/files
    multipart.py      reads an upload as it arrives
    result_files.py   the output and the errors of a batch as files
    sweeping.py       removes files that have expired
    batches.py        /v1/batches
    batch_object.py   OpenAI's batch object
    models.py         /v1/models
    live.py           /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages
    live_call.py      one live call: admitted in time, made, settled
    live_response.py  its response: headers, and a stream's events
    live_errors.py    its errors
    telemetry.py      reports live calls to metrics, traces and Flower
    live_metrics.py   their metrics
    live_traces.py    their traces
"""
