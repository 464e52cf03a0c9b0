-- Write rows into Feast's hashes; a row replaces a stored one of its view only if its event time is greater or equal.
--   KEYS  n hash keys (on a Redis Cluster: of one slot)
--   ARGV  the hash field of the view's event time; seconds that a written key lives from now, 0 for ever; m; m hash fields;
--         then per row: its event time, a serialized google.protobuf.Timestamp, and m values
-- Returns how many rows were written.

-- Seconds and nanoseconds of a Timestamp: two varints. Nil if it is none, so that a damaged time stands in no row's way.
local function instant(bytes)
  local found, at = {0, 0}, 1
  while at <= #bytes do
    local tag = bytes:byte(at)
    if tag ~= 8 and tag ~= 16 then return nil end
    local value, rest, scale, groups = 0, 0, 1, 0
    repeat
      at = at + 1
      local byte = bytes:byte(at)
      if not byte or groups == 10 then return nil end
      groups = groups + 1
      -- Nine groups hold 63 bits; a tenth is the sign. What a negative number lacks to all ones is small, and exact in a double.
      if groups < 10 then
        value = value + byte % 128 * scale
        rest = rest + (127 - byte % 128) * scale
        scale = scale * 128
      end
    until byte < 128
    at = at + 1
    found[tag / 8] = groups == 10 and -rest - 1 or value
  end
  return found
end

local time_field, lives, fields = ARGV[1], ARGV[2], tonumber(ARGV[3])
local written, at = 0, 3 + fields
for i = 1, #KEYS do
  local stored = redis.call('HGET', KEYS[i], time_field)
  local a, b = stored and instant(stored), instant(ARGV[at + 1])
  if not a or b[1] > a[1] or b[1] == a[1] and b[2] >= a[2] then
    -- In parts: Lua passes some thousand arguments to a call, and a view can have more features.
    for first = 1, fields, 1000 do
      local pairs_of = {}
      for field = first, math.min(first + 999, fields) do
        pairs_of[#pairs_of + 1] = ARGV[3 + field]
        pairs_of[#pairs_of + 1] = ARGV[at + 1 + field]
      end
      redis.call('HSET', KEYS[i], unpack(pairs_of))
    end
    redis.call('HSET', KEYS[i], time_field, ARGV[at + 1])
    if lives ~= '0' then redis.call('EXPIRE', KEYS[i], lives) end
    written = written + 1
  end
  at = at + 1 + fields
end
return written
