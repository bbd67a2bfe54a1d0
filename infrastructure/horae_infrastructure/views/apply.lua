-- One step of a projection: rows, indexes and the position change together, or not at all.
-- KEYS[1] the version's position; ARGV: the expected position ('' for none), the new position, and
-- operations (MessagePack). Lua does not roll back: the operations are such that none can fail,
-- because the name of a key tells its type.
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then
  return {0, current}
end
for _, operation in ipairs(cmsgpack.unpack(ARGV[3])) do
  redis.call(unpack(operation))
end
redis.call('SET', KEYS[1], ARGV[2])
return {1, ARGV[2]}
