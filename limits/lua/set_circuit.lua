-- Holds a circuit open or closed by hand, or lets it work on its own again.
-- Guarantee: a new generation begins, so calls in flight change nothing.
-- KEYS  1 the clock
-- ARGV  1 the time in us, 0: the server's
--       2 JSON: circuit, state (open | closed | auto)
-- Returns nothing
--@include limits/lua/lib/namespace.lua
clock(ARGV[1])
local ask = cjson.decode(ARGV[2])
local circuit = read_circuit(ask.circuit)
circuit.by_hand = ask.state ~= 'auto'
circuit.state = ask.state == 'open' and 'open' or 'closed'
circuit.generation = circuit.generation + 1
circuit.till, circuit.streak, circuit.probe, circuit.proved = 0, 0, '', 0
circuit.slots = {}
save_circuit(ask.circuit, circuit)
commit()
return false
