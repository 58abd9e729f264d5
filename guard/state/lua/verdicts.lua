-- Adds verdicts to the capped stream.
-- KEYS[1]  stream of entries with the one field "json"
-- ARGV     most that are kept, time to live in ms, entries
for i = 3, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[1], '*', 'json', ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {redis.call('XLEN', KEYS[1])}
