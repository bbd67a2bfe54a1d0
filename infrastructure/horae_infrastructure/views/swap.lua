-- Name another live version, if the live one is the expected one. KEYS[1] the name; ARGV: the
-- expected one, the new one ('' for none).
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
