"""The HTTP server: any OpenAI SDK submits batches and calls models through Overnight.

In the order in which a request meets them:

    serve.py          `overnight serve`: binds the port and runs uvicorn
    connections.py    a connection: how long it may take to send a request, and to read its answer
    requests.py       every request: its id, its client, its errors, its line in the log
    clients.py        who sends a request
    errors.py         OpenAI's error object
    app.py            the application: every route, and what it opens and closes
    resources.py      what the routes work with
    bodies.py         reads a JSON body
    health.py         /healthz
    models.py         /v1/models
    live.py           /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages
    live_call.py      one live call: admitted in time, made, settled
    live_response.py  its response: headers, and a stream's events
    live_errors.py    why it could not be served
"""
