-- Write packed rows; a row replaces a stored one only if its (event_ts, created_ts) is greater or equal.
--   KEYS  n row keys (on a Redis Cluster: of one slot)
--   ARGV  how the run id (bytes 26 to 41) of a stored row of equal times must end for it to be replaced, empty for all; the run
--         id that rows are written under, or empty: under the one that they carry, which all rows of a call have in common; then
--         n pairs: the packed row, and when it expires (milliseconds since 1970, 0 for never)
-- Returns how many rows were written; of a call with a run id a list: that, how many rows were left alone because the stored one
-- is the same but for its run id (its expiry is set right), and the run id of the last of these if they are the most, else empty.
--
-- The times are compared as four 32-bit numbers: Lua's numbers are doubles, which cannot hold 64 bits, and its string
-- comparison follows the server's locale.
--
-- Lua has every string once, so to compare a stored row and a new one is to compare two pointers, where the new one carries the
-- run id of the stored one. To compare all but the run id takes new strings, 0.8 us a row. So a caller lets rows carry
-- what the last answer named.
--
-- Short rows are read whole, all by one command, which costs 0.5 us a row less than a command for the first 16 bytes of each; of
-- long ones (measured at 760 bytes) the copies cost more than that, unless the rest is needed. A key that is there twice is read twice.
local unpack_times, sub, call = struct.unpack, string.sub, redis.call
local ties_over, writer = ARGV[1], ARGV[2]
local compares = writer ~= ''
-- Redis 6.2 wants to be told, where its `lua-replicate-commands` is off, that writes may follow on a look at the time.
if compares and redis.replicate_commands then redis.replicate_commands() end
local relabels = compares and sub(ARGV[3], 27, 42) ~= writer
local written, unchanged, stored_by, now = 0, 0, nil, nil
local reads_whole = #KEYS > 1 and (relabels or #ARGV[3] <= 512)
local stored_rows = reads_whole and call('MGET', unpack(KEYS))
local overwritten = {}
for i = 1, #KEYS do
  local key, row, expires_at = KEYS[i], ARGV[2 * i + 1], ARGV[2 * i + 2]
  local is_whole = reads_whole and not overwritten[key]
  local stored = is_whole and (stored_rows[i] or '') or call('GETRANGE', key, 0, 41)
  local is_newest, is_same = true, compares and is_whole and stored == row
  if not is_same and #stored >= 16 then
    local a1, a2, a3, a4 = unpack_times('>I4I4I4I4', stored)
    local b1, b2, b3, b4 = unpack_times('>I4I4I4I4', row)
    if b1 ~= a1 then is_newest = b1 > a1
    elseif b2 ~= a2 then is_newest = b2 > a2
    elseif b3 ~= a3 then is_newest = b3 > a3
    elseif b4 ~= a4 then is_newest = b4 > a4
    elseif ties_over ~= '' then is_newest = sub(stored, 43 - #ties_over, 42) == ties_over
    elseif compares then
      is_same = sub(stored, 17, 26) == sub(row, 17, 26)
        and (is_whole and sub(stored, 43) or call('GETRANGE', key, 42, -1)) == sub(row, 43)
    end
  end
  if is_same then
    unchanged = unchanged + 1
    stored_by = stored
    local left = call('PTTL', key)
    if expires_at == '0' then
      if left ~= -1 then call('PERSIST', key) end
    else
      if not now then
        local time = call('TIME')
        now = time[1] * 1000 + math.floor(time[2] / 1000)
      end
      local off = expires_at - now - left
      if left < 0 or off < -1 or off > 10 then call('PEXPIREAT', key, expires_at) end
    end
  elseif is_newest then
    if relabels then row = sub(row, 1, 26) .. writer .. sub(row, 43) end
    if expires_at == '0' then
      call('SET', key, row)
    else
      call('SET', key, row, 'PXAT', expires_at)
    end
    overwritten[key] = true
    written = written + 1
  end
end
if not compares then return written end
return {written, unchanged, 2 * unchanged > #KEYS and sub(stored_by, 27, 42) or ''}
