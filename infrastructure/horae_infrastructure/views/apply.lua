-- One step of a projection: rows, indexes and the position change together, or not at all.
-- KEYS[1] the version's position; ARGV: the expected position ('' for none), the new position, then
-- operations, each as the number of its words and the words. Lua does not roll back: the operations
-- are such that none can fail, because the name of a key tells its type.
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then
  return {0, current}
end
local at, last = 3, #ARGV
while at <= last do
  local size = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + size))
  at = at + size + 1
end
redis.call('SET', KEYS[1], ARGV[2])
return {1, ARGV[2]}
