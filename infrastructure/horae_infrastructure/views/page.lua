-- One page of a listing (see Listing in horae_projections.ports), as it is at one position.
-- KEYS[1] the version's position; ARGV[1] the listing (MessagePack), its names already keys.
-- Returns position, total, rows (number of the group, key, id, stored row, …), and where the scan
-- stopped (group, key, id) or nothing. It stops at the limit, or after `budget` looks, so that one
-- call does not hold the server up; the caller then asks for the rest.
local position = redis.call('GET', KEYS[1])
if not position then
  return {}
end
local q = cmsgpack.unpack(ARGV[1])
local SMALL = 2000
local CHUNK = 200
local call = redis.call

local function split(member)
  -- The text and the id of a member of an order by text: the id is the part behind its last NUL.
  if not string.find(member, '\0', 1, true) then return member, member end
  local at = #member
  while string.byte(member, at) ~= 0 do at = at - 1 end
  return string.sub(member, 1, at - 1), string.sub(member, at + 1)
end

local function order_key(cell) return q.prefix .. q.order .. ':' .. cell end

-- Most cells are empty: look only into those that are not.
local cells, groups = {}, {}
for number, group in ipairs(q.groups) do
  groups[number] = {}
  for _, cell in ipairs(group) do
    if call('EXISTS', order_key(cell)) == 1 then
      cells[#cells + 1] = cell
      table.insert(groups[number], cell)
    end
  end
end

-- Conditions: `ids`, if not nil, is a list that has every id that can match; `sets` are the sets
-- that the others have to be in.

local sets = {}
for _, name in ipairs(q.all_of) do sets[#sets + 1] = name end
local made = {}
if #q.any_of == 1 then
  sets[#sets + 1] = q.any_of[1]
elseif #q.any_of > 1 then
  call('SUNIONSTORE', q.scratch, unpack(q.any_of))
  sets[#sets + 1] = q.scratch
  made[1] = q.scratch
end

local function in_sets(list)
  -- Those of a list of ids that are in every set.
  for _, name in ipairs(sets) do
    local kept = {}
    for first = 1, #list, 1000 do
      local last = math.min(first + 999, #list)
      local found = call('SMISMEMBER', name, unpack(list, first, last))
      for index, is in ipairs(found) do
        if is == 1 then kept[#kept + 1] = list[first + index - 1] end
      end
    end
    list = kept
  end
  return list
end

local function both(one, other)
  if one == nil then return other end
  local known = {}
  for _, id in ipairs(other) do known[id] = true end
  local kept = {}
  for _, id in ipairs(one) do
    if known[id] then kept[#kept + 1] = id end
  end
  return kept
end

local ids = nil
if #q.only > 0 then ids = q.only end
local low, high = '-inf', '+inf'
for _, within in ipairs(q.within) do
  if within[1] == q.order then
    low, high = within[2], within[3]
  else
    local found = {}
    for _, cell in ipairs(cells) do
      local part = call('ZRANGEBYSCORE', q.prefix .. within[1] .. ':' .. cell, within[2], within[3])
      for _, id in ipairs(part) do found[#found + 1] = id end
    end
    ids = both(ids, found)
  end
end
local bounded = low ~= '-inf' or high ~= '+inf'

if q.contains ~= '' then
  local found = {}
  for _, cell in ipairs(cells) do
    local key = q.prefix .. 'name:' .. cell
    for first = 0, call('ZCARD', key) - 1, 1000 do
      local part = call('ZRANGE', key, first, first + 999)
      if string.find(table.concat(part, '\0'), q.contains, 1, true) then
        for _, member in ipairs(part) do
          if string.find(member, q.contains, 1, true) then
            local text, id = split(member)
            if string.find(text, q.contains, 1, true) then found[#found + 1] = id end
          end
        end
      end
    end
  end
  ids = both(ids, found)
end

if ids == nil and #sets > 0 then
  local least = math.huge
  for _, name in ipairs(sets) do least = math.min(least, call('SCARD', name)) end
  if least <= SMALL then ids = call('SINTER', unpack(sets)) end
elseif ids ~= nil then
  ids = in_sets(ids)
end

-- Comparing places: numbers are compared as numbers, texts and ids byte by byte as the server's
-- sorted sets do. Lua compares in the collation of the server's locale, which may be another.

local bytewise = 'Z' < 'a' and 'a-b' < 'aa' and 'a.b' < 'a:b' and 'a:b' < 'aB' and 'z' < '\195\169'

local function less(a, b)
  if bytewise then return a < b end
  local size = math.min(#a, #b)
  for at = 1, size do
    local one, other = string.byte(a, at), string.byte(b, at)
    if one ~= other then return one < other end
  end
  return #a < #b
end

local function value(key)
  if q.text then return key end
  return tonumber(key)
end

local function before(a, b)
  if q.descending then a, b = b, a end
  if a[1] ~= b[1] then
    if q.text then return less(a[1], b[1]) end
    return a[1] < b[1]
  end
  if q.text and a[2] ~= b[2] then
    -- A row whose text is its id comes first, as its member is the shorter one.
    if a[1] == a[2] then return true end
    if b[1] == b[2] then return false end
  end
  return less(a[2], b[2])
end

local after = q.after and {value(q.after[2]), q.after[3]} or nil
local after_group = q.after and q.after[1] or 0
local found = {}
local stopped = nil
local total = 0

local function candidates_of(group)
  -- The candidates that are in the cells of a group, with their keys.
  local places = {}
  local left = ids
  for _, cell in ipairs(group) do
    local name = q.text and (q.prefix .. q.base .. ':' .. cell) or order_key(cell)
    local others = {}
    for first = 1, #left, 1000 do
      local scores = call('ZMSCORE', name, unpack(left, first, math.min(first + 999, #left)))
      for index, score in ipairs(scores) do
        local id = left[first + index - 1]
        if score then
          places[#places + 1] = {tonumber(score), id, score}
        else
          others[#others + 1] = id
        end
      end
    end
    left = others
  end
  if q.text then
    for first = 1, #places, 1000 do
      local names = {}
      for index = first, math.min(first + 999, #places) do names[#names + 1] = places[index][2] end
      for index, stored in ipairs(call('HMGET', q.rows, unpack(names))) do
        local place = places[first + index - 1]
        local stop = string.find(stored, '\0', 1, true)
        local text = stop > 1 and string.sub(stored, 1, stop - 1) or string.lower(place[2])
        place[1], place[3] = text, text
      end
    end
  end
  if bounded then
    local least, most, kept = tonumber(low) or -math.huge, tonumber(high) or math.huge, {}
    for _, place in ipairs(places) do
      if place[1] >= least and place[1] <= most then kept[#kept + 1] = place end
    end
    places = kept
  end
  return places
end

local function take_candidates(number, group)
  local places = candidates_of(group)
  total = total + #places
  if number < after_group or #found > q.limit then return end
  if after and number == after_group then
    local kept = {}
    for _, place in ipairs(places) do
      if before(after, place) then kept[#kept + 1] = place end
    end
    places = kept
  end
  table.sort(places, before)
  for _, place in ipairs(places) do
    found[#found + 1] = {number, place[3], place[2]}
    if #found > q.limit then return end
  end
end

-- Walking the cells of a group side by side, each from its own rank on.

local function place_at(key, rank)
  if q.text then
    local member = call('ZRANGE', key, rank, rank)[1]
    local text, id = split(member)
    return {text, id, text}
  end
  local reply = call('ZRANGE', key, rank, rank, 'WITHSCORES')
  return {tonumber(reply[2]), reply[1], reply[2]}
end

local function seek(key, first, last, start)
  -- The first rank from `first` on, in the direction of the list, that lies behind `start`.
  local left, right = first, last + 1
  while left < right do
    local middle = math.floor((left + right) / 2)
    local place = place_at(key, middle)
    local behind
    if q.descending then behind = not before(start, place) else behind = before(start, place) end
    if behind then right = middle else left = middle + 1 end
  end
  return left
end

local function cursor_of(cell, start)
  local key = order_key(cell)
  local first, last = 0, call('ZCARD', key) - 1
  if bounded then
    first = call('ZCOUNT', key, '-inf', '(' .. low)
    last = first + call('ZCOUNT', key, low, high) - 1
  end
  if last < first then return nil end
  if start then
    local rank = seek(key, first, last, start)
    if q.descending then
      -- Everything from `rank` on is at or behind `start` in rising order.
      last = rank - 1
    else
      first = rank
    end
  end
  if last < first then return nil end
  return {key = key, first = first, last = last, buffer = {}, at = 1}
end

local function head(cursor)
  if cursor.at > #cursor.buffer then
    if cursor.last < cursor.first then return nil end
    local from, to, reply
    local size = math.min(CHUNK, cursor.last - cursor.first + 1)
    if q.descending then
      from, to = cursor.last - size + 1, cursor.last
      cursor.last = from - 1
    else
      from, to = cursor.first, cursor.first + size - 1
      cursor.first = to + 1
    end
    cursor.buffer, cursor.at = {}, 1
    if q.text then
      reply = call('ZRANGE', cursor.key, from, to)
      for index, member in ipairs(reply) do
        local text, id = split(member)
        cursor.buffer[index] = {text, id, text}
      end
    else
      reply = call('ZRANGE', cursor.key, from, to, 'WITHSCORES')
      for index = 1, #reply, 2 do
        cursor.buffer[(index + 1) / 2] = {tonumber(reply[index + 1]), reply[index], reply[index + 1]}
      end
    end
    if q.descending then
      local turned, size = {}, #cursor.buffer
      for index = 1, size do turned[index] = cursor.buffer[size - index + 1] end
      cursor.buffer = turned
    end
  end
  return cursor.buffer[cursor.at]
end

local looks = 0
local allowed = nil

local function walk(number, group)
  local cursors = {}
  for _, cell in ipairs(group) do
    local cursor = cursor_of(cell, after and number == after_group and after or nil)
    if cursor then cursors[#cursors + 1] = cursor end
  end
  while #cursors > 0 and #found <= q.limit and not stopped do
    local batch, names = {}, {}
    while #batch < CHUNK and #cursors > 0 do
      local best, which
      local index = 1
      while index <= #cursors do
        local place = head(cursors[index])
        if not place then
          table.remove(cursors, index)
        else
          if not best or before(place, best) then best, which = place, index end
          index = index + 1
        end
      end
      if best then
        cursors[which].at = cursors[which].at + 1
        batch[#batch + 1] = best
        names[#names + 1] = best[2]
      end
      if #sets == 0 and not allowed and #found + #batch > q.limit then break end
    end
    looks = looks + #batch
    local pass = {}
    if allowed then
      for index, id in ipairs(names) do pass[index] = allowed[id] or false end
    else
      for index = 1, #names do pass[index] = true end
      for _, name in ipairs(sets) do
        for index, is in ipairs(#names > 0 and call('SMISMEMBER', name, unpack(names)) or {}) do
          if is == 0 then pass[index] = false end
        end
      end
    end
    for index, place in ipairs(batch) do
      if pass[index] and #found <= q.limit then found[#found + 1] = {number, place[3], place[2]} end
    end
    if looks >= q.budget and #found <= q.limit and #cursors > 0 then
      local last = batch[#batch]
      stopped = {number, last[3], last[2]}
    end
  end
end

local function count(cell)
  local key = order_key(cell)
  if bounded then
    if #sets == 0 then return call('ZCOUNT', key, low, high) end
    call('ZRANGESTORE', q.scratch .. ':range', key, low, high, 'BYSCORE')
    local number = call('ZINTERCARD', #sets + 1, q.scratch .. ':range', unpack(sets))
    call('DEL', q.scratch .. ':range')
    return number
  end
  if #sets == 0 then return call('ZCARD', key) end
  -- An order by text has other members; the base order has the same rows.
  if q.text then key = q.prefix .. q.base .. ':' .. cell end
  return call('ZINTERCARD', #sets + 1, key, unpack(sets))
end

if ids and #ids <= SMALL then
  for number, group in ipairs(groups) do take_candidates(number - 1, group) end
else
  if ids then
    allowed = {}
    for _, id in ipairs(ids) do allowed[id] = true end
    if bounded or #q.only > 0 then
      for number, group in ipairs(groups) do total = total + #candidates_of(group) end
    else
      total = #ids  -- found in these cells and nowhere else
    end
  elseif q.totals then
    for _, cell in ipairs(cells) do total = total + count(cell) end
  end
  for number, group in ipairs(groups) do
    if number - 1 >= after_group and #found <= q.limit and not stopped then
      walk(number - 1, group)
    end
  end
end

for _, name in ipairs(made) do call('DEL', name) end

local rows = {}
local more = 0
if #found > q.limit then
  found[q.limit + 1] = nil
  more = 1
end
local names = {}
for index, mark in ipairs(found) do names[index] = mark[3] end
for first = 1, #names, 1000 do
  local stored = call('HMGET', q.rows, unpack(names, first, math.min(first + 999, #names)))
  for index, row in ipairs(stored) do
    local mark = found[first + index - 1]
    rows[#rows + 1] = tostring(mark[1])
    rows[#rows + 1] = mark[2]
    rows[#rows + 1] = mark[3]
    rows[#rows + 1] = row
  end
end
return {position, total, rows, more, stopped and {tostring(stopped[1]), stopped[2], stopped[3]} or {}}
