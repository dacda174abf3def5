"""How a script in Redis is called: connections, pipelines, replies, and what the server must be.

scripts.py           A Lua script, and a typed call of it
connection.py        sending calls to the server from code that may block
async_connection.py  sending calls to the server from an event loop
pipeline.py          commands that wait for their replies, and those that go to the server as one
replies.py           what an error that came instead of a reply means for the call that met it
server_check.py      what the server must be
compact_json.py      JSON that is kept for a while, in no more memory than it takes, and with the digits that …
"""
