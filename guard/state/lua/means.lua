-- Adds a guard's new means of one deployment, and returns the fleet's.
-- KEYS[1]  list of means, oldest first
-- ARGV     most that are kept, time to live in ms, number of old means, the old means (only for a list that is gone), new means
-- Returns  {whether there was a list (1 or 0), then the means}
local kept, ttl, old = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local existed = redis.call('EXISTS', KEYS[1])
for i = 4, #ARGV do
  if existed == 0 or i > 3 + old then
    redis.call('RPUSH', KEYS[1], ARGV[i])
  end
end
redis.call('LTRIM', KEYS[1], -kept, -1)
redis.call('PEXPIRE', KEYS[1], ttl)
local out = redis.call('LRANGE', KEYS[1], 0, -1)
table.insert(out, 1, existed)
return out
