-- Write packed rows; a row replaces a stored one only if its (event_ts, created_ts) is greater or equal.
--   KEYS  n row keys (on a Redis Cluster: of one slot)
--   ARGV  how the run id (bytes 26 to 41) of a stored row of equal times must end for it to be replaced, empty for all; then n
--         pairs: the packed row, and when it expires (milliseconds since 1970, 0 for never)
-- Returns how many rows were written.
--
-- The times are compared as four 32-bit numbers: Lua's numbers are doubles, which cannot hold 64 bits, and its string
-- comparison follows the server's locale.
local unpack = struct.unpack
local ties_over = ARGV[1]
local written = 0
for i = 1, #KEYS do
  local row, expires_at = ARGV[2 * i], ARGV[2 * i + 1]
  local stored = redis.call('GETRANGE', KEYS[i], 0, 15)
  local newest = true
  if #stored == 16 then
    local a1, a2, a3, a4 = unpack('>I4I4I4I4', stored)
    local b1, b2, b3, b4 = unpack('>I4I4I4I4', row)
    if b1 ~= a1 then newest = b1 > a1
    elseif b2 ~= a2 then newest = b2 > a2
    elseif b3 ~= a3 then newest = b3 > a3
    elseif b4 ~= a4 then newest = b4 > a4
    elseif ties_over ~= '' then newest = redis.call('GETRANGE', KEYS[i], 42 - #ties_over, 41) == ties_over end
  end
  if newest then
    if expires_at == '0' then
      redis.call('SET', KEYS[i], row)
    else
      redis.call('SET', KEYS[i], row, 'PXAT', expires_at)
    end
    written = written + 1
  end
end
return written
