"""How a script in Redis is called, in the order in which a call meets the files.

server_check.py      whether the server can be used: version, eviction, cluster mode
scripts.py           a Lua script with its includes, and a typed call of it
compact_json.py      JSON that takes no more memory than it needs, and keeps all digits of a number
connection.py        calls from code that may block: one at a time, repeated ones, pipelines
async_connection.py  calls from an event loop: all of one turn in one write
outstanding.py       calls of an event loop that have no answer yet
pipeline.py          several calls of one script sent as one
replies.py           what an error reply means: retry, wait, or fail
"""
