-- Keeps this guard's entry, and decides on more retries if some are wanted.
-- KEYS[1]  hash: guard -> "expires sequence retries active", then " call:retries" for each call whose grants may not be
--          among those that the guard told; "" -> when the hash was made. Times in ms of the server's clock.
-- ARGV     guard, sequence of the call, retries in flight, calls (by their sequences, between blanks) that asked for
--          retries and whose answers are on their way, active requests, retries wanted, lease in ms (0: leave), share in
--          hundredths of a percent, floor, settling time in ms
-- Returns  {granted (-1: the hash is too young to know all guards), guards, and of the others: active, retries}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local guard, sequence, held, active = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local wanted, lease = tonumber(ARGV[6]), tonumber(ARGV[7])
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

local awaited = {}
for call in string.gmatch(ARGV[4], '%d+') do
  awaited[call] = true
end

local guards, others_active, others = 1, 0, 0
local latest, mine, told_active, pending = sequence, held, active, ''
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
  local name = entries[i]
  if name ~= '' then
    local expires, its_sequence, its_retries, its_active, its_pending =
      string.match(entries[i + 1], '^(%d+) (%d+) (%d+) (%d+)(.*)$')
    if name == guard then
      if tonumber(its_sequence) > sequence then
        -- A later call of this guard came in first, on another connection; what it told stands.
        latest, mine = tonumber(its_sequence), tonumber(its_retries)
        told_active, pending = tonumber(its_active), its_pending
      else
        -- What was granted to a call is told as in flight once its answer is there; until then it comes on top. A call
        -- that the guard waits for no more was granted for nothing.
        for call, granted in string.gmatch(its_pending, ' (%d+):(%d+)') do
          if awaited[call] then
            mine, pending = mine + tonumber(granted), pending .. ' ' .. call .. ':' .. granted
          end
        end
      end
    elseif tonumber(expires) <= now then
      redis.call('HDEL', KEYS[1], name)
    else
      guards = guards + 1
      others_active = others_active + tonumber(its_active)
      others = others + tonumber(its_retries)
    end
  end
end

local granted = 0
if wanted > 0 then
  -- retry/budget.py: most r with r <= share of (active - r).
  local most = math.max(floor, math.floor(share * (active + others_active) / (10000 + share)))
  granted = math.max(math.min(wanted, most - others - mine), 0)
end
if now - born < settling then
  -- The guard decides; it takes no more than it wanted.
  granted = wanted
end
if granted > 0 then
  mine, pending = mine + granted, pending .. string.format(' %d:%d', sequence, granted)
end
redis.call('HSET', KEYS[1], guard, string.format('%.0f %d %d %d', now + lease, latest, mine, told_active) .. pending)
redis.call('PEXPIRE', KEYS[1], lease + settling)
if now - born < settling then
  granted = -1
end
return {granted, guards, others_active, others}
