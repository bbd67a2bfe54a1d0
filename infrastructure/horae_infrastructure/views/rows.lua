-- Rows of a version as they are at one position.
-- KEYS[1] the version's position; ARGV: a hash and an id for each row.
local position = redis.call('GET', KEYS[1])
if not position then
  return {}
end
local rows = {}
for index = 1, #ARGV, 2 do
  rows[#rows + 1] = redis.call('HGET', ARGV[index], ARGV[index + 1])
end
return {position, rows}
