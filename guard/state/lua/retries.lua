-- Keeps this guard's entry, and decides on one more retry if one is wanted.
-- KEYS[1]  hash: guard -> "expires sequence retries active"; "" -> when the hash was made. Times in ms of the server's clock.
-- ARGV     guard, sequence of the call, retries in flight, retries asked for whose answer is still on its way (without
--          the wanted one), active requests, wanted (1 or 0), lease in ms (0: leave), share in hundredths of a percent,
--          floor, settling time in ms
-- Returns  {granted (1, 0; -1: the hash is too young to know all guards), guards, and of the others: active, retries}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local guard, sequence, held, asked, active = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local wanted, lease = ARGV[6] == '1', tonumber(ARGV[7])
local share, floor, settling = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

if lease == 0 then
  redis.call('HDEL', KEYS[1], guard)
  return {0, 0, 0, 0}
end

local born = tonumber(redis.call('HGET', KEYS[1], '') or nil)
if not born then
  born = now
  redis.call('HSET', KEYS[1], '', string.format('%.0f', now))
end

local guards, others_active, others = 1, 0, 0
local latest, counted = sequence, nil
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
  local name = entries[i]
  if name ~= '' then
    local expires, its_sequence, its_retries, its_active = string.match(entries[i + 1], '(%d+) (%d+) (%d+) (%d+)')
    if name == guard then
      latest, counted = math.max(latest, tonumber(its_sequence)), tonumber(its_retries)
    elseif tonumber(expires) <= now then
      redis.call('HDEL', KEYS[1], name)
    else
      guards = guards + 1
      others_active = others_active + tonumber(its_active)
      others = others + tonumber(its_retries)
    end
  end
end

-- Of the retries asked for, those granted are counted already. A later call of this guard may have come in first, on
-- another connection; then what is counted stands.
local mine = counted or held + asked
if latest == sequence then
  mine = math.max(held, math.min(mine, held + asked))
end
local granted = 0
if now - born < settling then
  granted = -1
end
if wanted then
  -- retry/budget.py: most r with r <= share of (active - r).
  local most = math.max(floor, math.floor(share * (active + others_active) / (10000 + share)))
  if granted == 0 and others + mine + 1 <= most then
    granted = 1
  end
  if granted ~= 0 then
    mine = mine + 1
  end
end
redis.call('HSET', KEYS[1], guard, string.format('%.0f %d %d %d', now + lease, latest, mine, active))
redis.call('PEXPIRE', KEYS[1], lease + settling)
return {granted, guards, others_active, others}
