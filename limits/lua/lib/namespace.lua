-- What scripts find in a namespace: its keys and state, and what is kept of each thing.

--@include limits/lua/lib/prelude.lua
--@include limits/lua/lib/state.lua
--@include limits/lua/lib/pace.lua
--@include limits/lua/lib/bucket.lua
--@include limits/lua/lib/window.lua
--@include limits/lua/lib/circuit.lua
--@include limits/lua/lib/budget.lua
--@include limits/lua/lib/reservation.lua
