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
local SMALL = 5000     -- candidates among which the first ones are looked for here
local MATERIAL = 8000  -- candidates of which the server makes an order of their own
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

-- Conditions. `sets` are sets of ids that a row has to be in, `ranges` bounds in other orders; if
-- `ids` is not nil, it lists every id that can match, and has been held against all of them.

local sets = {}
for _, name in ipairs(q.all_of) do sets[#sets + 1] = name end
local scratch = {}
local function temporary()
  scratch[#scratch + 1] = q.scratch .. #scratch
  return scratch[#scratch]
end
if #q.any_of == 1 then
  sets[#sets + 1] = q.any_of[1]
elseif #q.any_of > 1 then
  sets[#sets + 1] = temporary()
  call('SUNIONSTORE', sets[#sets], unpack(q.any_of))
end

local low, high = '-inf', '+inf'
local ranges = {}
for _, within in ipairs(q.within) do
  if within[1] == q.order then
    low, high = within[2], within[3]
  else
    ranges[#ranges + 1] = {order = q.prefix .. within[1] .. ':', low = within[2], high = within[3]}
  end
end
local bounded = low ~= '-inf' or high ~= '+inf'

local function in_sets(list)
  -- Those of a list of ids that are in every set.
  for _, name in ipairs(sets) do
    local kept = {}
    for first = 1, #list, 1000 do
      local last = math.min(first + 999, #list)
      for index, is in ipairs(call('SMISMEMBER', name, unpack(list, first, last))) do
        if is == 1 then kept[#kept + 1] = list[first + index - 1] end
      end
    end
    list = kept
  end
  return list
end

local function in_ranges(list)
  -- Those of a list of ids that are within every range, in whichever cell they are.
  for _, range in ipairs(ranges) do
    local least, most = tonumber(range.low), tonumber(range.high)
    local kept, left = {}, list
    for _, cell in ipairs(cells) do
      local others = {}
      for first = 1, #left, 1000 do
        local last = math.min(first + 999, #left)
        local scores = call('ZMSCORE', range.order .. cell, unpack(left, first, last))
        for index, score in ipairs(scores) do
          local id, number = left[first + index - 1], score and tonumber(score)
          if not score then
            others[#others + 1] = id
          elseif number >= least and number <= most then
            kept[#kept + 1] = id
          end
        end
      end
      left = others
    end
    list = kept
  end
  return list
end

local function named()
  -- The ids of rows in these cells whose text contains what is asked for.
  local pattern = '*' .. string.gsub(q.contains, '[%*%?%[%]\\]', '\\%0') .. '*'
  local found, known = {}, {}
  for _, cell in ipairs(cells) do
    local cursor = '0'
    repeat
      local reply = call('ZSCAN', q.prefix .. 'name:' .. cell, cursor, 'MATCH', pattern,
        'COUNT', 10000)
      cursor = reply[1]
      for index = 1, #reply[2], 2 do
        local text, id = split(reply[2][index])
        if not known[id] and string.find(text, q.contains, 1, true) then
          known[id] = true
          found[#found + 1] = id
        end
      end
    until cursor == '0'
  end
  return found
end

local function least()
  -- At most how many rows a condition leaves over.
  local number = math.huge
  for _, name in ipairs(sets) do number = math.min(number, call('SCARD', name)) end
  for _, range in ipairs(ranges) do
    local count = 0
    for _, cell in ipairs(cells) do
      count = count + call('ZCOUNT', range.order .. cell, range.low, range.high)
    end
    range.count = count
    number = math.min(number, count)
  end
  return number
end

local ids = nil
if #q.only > 0 then ids = q.only end
if q.contains ~= '' then
  local found = named()
  if ids then
    local known, kept = {}, {}
    for _, id in ipairs(found) do known[id] = true end
    for _, id in ipairs(ids) do if known[id] then kept[#kept + 1] = id end end
    found = kept
  end
  ids = found
end
local few = least()
if ids then
  ids = in_ranges(in_sets(ids))
elseif q.text and few <= SMALL then
  local by_set = nil
  for _, name in ipairs(sets) do
    if call('SCARD', name) <= SMALL then by_set = name end
  end
  if by_set then
    ids = call('SINTER', unpack(sets))
  else
    ids = {}
    for _, range in ipairs(ranges) do
      if range.count == few then
        for _, cell in ipairs(cells) do
          for _, id in ipairs(call('ZRANGEBYSCORE', range.order .. cell, range.low, range.high)) do
            ids[#ids + 1] = id
          end
        end
        break
      end
    end
  end
  ids = in_ranges(in_sets(ids))
end

-- Where a condition leaves few rows of an order by number, the order of these alone is made.

local keys = {}
for _, cell in ipairs(cells) do keys[cell] = order_key(cell) end

local function stored(from, range_low, range_high)
  local name = temporary()
  call('ZRANGESTORE', name, from, range_low, range_high, 'BYSCORE')
  return name
end

if not ids and not q.text and few <= MATERIAL then
  for _, cell in ipairs(cells) do
    local parts, weights = {keys[cell]}, {'1'}
    for _, name in ipairs(sets) do parts[#parts + 1] = name end
    for _, range in ipairs(ranges) do
      parts[#parts + 1] = stored(range.order .. cell, range.low, range.high)
    end
    for index = 2, #parts do weights[index] = '0' end
    local name = temporary()
    local words = {name, #parts}
    for _, part in ipairs(parts) do words[#words + 1] = part end
    words[#words + 1] = 'WEIGHTS'
    for _, weight in ipairs(weights) do words[#words + 1] = weight end
    call('ZINTERSTORE', unpack(words))
    keys[cell] = name
  end
  sets, ranges = {}, {}
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
      for index, held in ipairs(call('HMGET', q.rows, unpack(names))) do
        local place = places[first + index - 1]
        local stop = string.find(held, '\0', 1, true)
        local text = stop > 1 and string.sub(held, 1, stop - 1) or string.lower(place[2])
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

local function first_of(places, size)
  -- The first places in the order of the list, sorted: few of many without sorting all.
  if size > 200 or #places <= size then
    table.sort(places, before)
    for index = #places, size + 1, -1 do places[index] = nil end
    return places
  end
  local best = {}
  for _, place in ipairs(places) do
    if #best < size or before(place, best[#best]) then
      local left, right = 1, #best + 1
      while left < right do
        local middle = math.floor((left + right) / 2)
        if before(place, best[middle]) then right = middle else left = middle + 1 end
      end
      table.insert(best, left, place)
      best[size + 1] = nil
    end
  end
  return best
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
  for _, place in ipairs(first_of(places, q.limit + 1 - #found)) do
    found[#found + 1] = {number, place[3], place[2]}
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
  local key = keys[cell]
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
  return {cell = cell, key = key, first = first, last = last, buffer = {}, at = 1}
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

local function check_range(range, batch, pass)
  local by_cell = {}
  for index, place in ipairs(batch) do
    if pass[index] then
      local of = by_cell[place[4]] or {names = {}, at = {}}
      by_cell[place[4]] = of
      of.names[#of.names + 1] = place[2]
      of.at[#of.at + 1] = index
    end
  end
  local least, most = tonumber(range.low), tonumber(range.high)
  for cell, of in pairs(by_cell) do
    for index, score in ipairs(call('ZMSCORE', range.order .. cell, unpack(of.names))) do
      local number = score and tonumber(score)
      if not number or number < least or number > most then pass[of.at[index]] = false end
    end
  end
end

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
        best[4] = cursors[which].cell
        batch[#batch + 1] = best
        names[#names + 1] = best[2]
      end
      if #sets == 0 and #ranges == 0 and not allowed and #found + #batch > q.limit then break end
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
      for _, range in ipairs(ranges) do check_range(range, batch, pass) end
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
  -- How many rows of a cell satisfy the conditions.
  if #sets == 0 and #ranges == 0 then
    return bounded and call('ZCOUNT', keys[cell], low, high) or call('ZCARD', keys[cell])
  end
  if #sets == 0 and #ranges == 1 and not bounded then
    return call('ZCOUNT', ranges[1].order .. cell, ranges[1].low, ranges[1].high)
  end
  -- An order by text has other members; the base order has the same rows.
  local parts = {q.text and (q.prefix .. q.base .. ':' .. cell) or keys[cell]}
  if bounded then parts[1] = stored(keys[cell], low, high) end
  for _, name in ipairs(sets) do parts[#parts + 1] = name end
  for _, range in ipairs(ranges) do
    parts[#parts + 1] = stored(range.order .. cell, range.low, range.high)
  end
  return call('ZINTERCARD', #parts, unpack(parts))
end

if ids and #ids <= SMALL then
  for number, group in ipairs(groups) do take_candidates(number - 1, group) end
else
  if ids then
    allowed = {}
    for _, id in ipairs(ids) do allowed[id] = true end
    if bounded then
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

for _, name in ipairs(scratch) do call('UNLINK', name) end

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
