-- Write packed rows; a row replaces a stored one only if its (event_ts, created_ts) is greater or equal.
--   KEYS  n row keys (on a Redis Cluster: of one slot)
--   ARGV  how the run id (bytes 26 to 41) of a stored row of equal times must end for it to be replaced, empty for all; then n
--         pairs: the packed row, and when it expires (milliseconds since 1970, 0 for never)
-- Returns how many rows were written.
--
-- The times are compared as four 32-bit numbers: Lua's numbers are doubles, which cannot hold 64 bits, and its string
-- comparison follows the server's locale.
--
-- Short rows are read whole, all by one command, which costs 0.5 us a row less than a command for the first 16 bytes of each; of
-- long ones (measured at 760 bytes) the copies cost more than that. A key that is there twice is read twice.
local unpack_times, call = struct.unpack, redis.call
local ties_over = ARGV[1]
local written = 0
local short = #KEYS > 1 and #ARGV[2] <= 512
local stored_rows = short and call('MGET', unpack(KEYS))
local seen = {}
for i = 1, #KEYS do
  local key, row, expires_at = KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]
  local stored = short and not seen[key] and (stored_rows[i] or '') or call('GETRANGE', key, 0, 41)
  seen[key] = true
  local newest = true
  if #stored >= 16 then
    local a1, a2, a3, a4 = unpack_times('>I4I4I4I4', stored)
    local b1, b2, b3, b4 = unpack_times('>I4I4I4I4', row)
    if b1 ~= a1 then newest = b1 > a1
    elseif b2 ~= a2 then newest = b2 > a2
    elseif b3 ~= a3 then newest = b3 > a3
    elseif b4 ~= a4 then newest = b4 > a4
    elseif ties_over ~= '' then newest = string.sub(stored, 43 - #ties_over, 42) == ties_over end
  end
  if newest then
    if expires_at == '0' then
      call('SET', key, row)
    else
      call('SET', key, row, 'PXAT', expires_at)
    end
    written = written + 1
  end
end
return written
