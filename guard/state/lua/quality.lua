-- Publishes this guard's counts over the window, and returns those of the others.
-- KEYS[1]  hash: guard -> "expires counts"; expires in ms of the server's clock, counts as the guards write them
-- ARGV     guard, counts ("" for none), window in ms
-- Returns  the others' counts that have not expired
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local guard, counts, window = ARGV[1], ARGV[2], tonumber(ARGV[3])
if counts == '' then
  redis.call('HDEL', KEYS[1], guard)
else
  redis.call('HSET', KEYS[1], guard, string.format('%.0f ', now + window) .. counts)
end
local others = {}
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
  local expires, its_counts = string.match(entries[i + 1], '^(%d+) (.*)$')
  if tonumber(expires) <= now then
    redis.call('HDEL', KEYS[1], entries[i])
  elseif entries[i] ~= guard then
    others[#others + 1] = its_counts
  end
end
redis.call('PEXPIRE', KEYS[1], window)
return others
