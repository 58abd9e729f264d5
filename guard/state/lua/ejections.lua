-- Publishes ejections, and returns all that hold.
-- KEYS[1]  hash: replica -> "until text"; "" -> a mark that is new when the hash is. Times in ms of the server's clock.
-- ARGV     triples: replica, how long from now in ms (0: it returns), text as the guards write it
-- Returns  {mark, then triples: replica, how long from now in ms, text}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, 3 do
  local replica, ends = ARGV[i], now + tonumber(ARGV[i + 1])
  if ends <= now then
    redis.call('HDEL', KEYS[1], replica)
  else
    -- Of two ejections the longer one holds.
    local known = redis.call('HGET', KEYS[1], replica)
    if not known or tonumber(string.match(known, '^%d+')) < ends then
      redis.call('HSET', KEYS[1], replica, string.format('%.0f ', ends) .. ARGV[i + 2])
    end
  end
end
local mark = redis.call('HGET', KEYS[1], '')
if not mark then
  mark = string.format('%.0f.%s', now, time[2])
  redis.call('HSET', KEYS[1], '', mark)
end
local out, longest = {mark}, 0
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
  if entries[i] ~= '' then
    local ends, text = string.match(entries[i + 1], '^(%d+) (.*)$')
    local left = tonumber(ends) - now
    if left <= 0 then
      redis.call('HDEL', KEYS[1], entries[i])
    else
      longest = math.max(longest, left)
      table.insert(out, entries[i])
      table.insert(out, string.format('%.0f', left))
      table.insert(out, text)
    end
  end
end
redis.call('PEXPIRE', KEYS[1], longest + 3600000)
return out
