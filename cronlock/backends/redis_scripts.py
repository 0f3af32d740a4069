"""What the server does in one step: Lua scripts over one hash for each key.

Fields of the hash: ``cronlock`` (1, the layout), ``fence`` (the highest granted), ``lapse`` and
``hold`` (ends of lease and hold, in microseconds of the server's clock), ``gone`` (the owners that
gave the key back last, each between line ends), the run that was granted the key last and has not
ended by its own word (``owner``, ``host``, ``pid``, ``program``, ``started_at``, ``ttl``), and the
last one that has (the same under ``last_``, with ``fence``, ``ended_at``, ``outcome``, ``status``).
Of a hold that the present run was told to ignore, ``kept`` is the end, and ``kept_owner`` and so on
are the run that it belonged to, if that died.

Every script takes the key, and as arguments the database, the owner and how many milliseconds the
hash outlives this step if nobody uses it: for the rules alone lapse and hold count. It answers a
word, the server's time in microseconds, and what the word needs. Numbers go through ``%.0f``, since
Lua writes those above 2^46 with an exponent.

An ACL user needs `ACL_RULE`.
"""

from __future__ import annotations

#: The least that a user of a server with ACLs needs, for the default prefix and database 0.
#: Another database: also +select. min_replicas: +wait. A cluster: +cluster|slots +asking (redis-py 5 asks
#: for +info as well). The user of sentinels, who have rules of their own: +sentinel|masters. redis-py tells
#: both of them its name: without +client|setinfo (7.2 and later) a refusal is left in the ACL log.
#: Without +info a server that restarted empty is waited for longer, without +scan keys cannot be listed.
ACL_RULE = "~cronlock:* +eval +hmget +hset +hdel +pexpire +time +exists +info +scan"

_COMMON = """
local key, database, owner, retention = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
-- Here and not as a request of its own: a refused SELECT would let this run in database 0.
if database ~= '0' then redis.call('SELECT', database) end
local RUN = {'owner', 'host', 'pid', 'program', 'started_at', 'ttl'}
local NAMES = {'cronlock', 'fence', 'lapse', 'hold', 'gone', 'kept',
  'last_fence', 'last_ended_at', 'last_outcome', 'last_status'}
for _, name in ipairs(RUN) do
  NAMES[#NAMES + 1] = name
  NAMES[#NAMES + 1] = 'last_' .. name
  NAMES[#NAMES + 1] = 'kept_' .. name
end
local values = redis.pcall('HMGET', key, unpack(NAMES))
if values.err then
  if string.find(values.err, 'WRONGTYPE', 1, true) then return {'foreign', 'a value of another type'} end
  return values
end
local record = {}
for i, name in ipairs(NAMES) do record[name] = values[i] or nil end
if record.cronlock ~= '1' and (record.cronlock or redis.call('EXISTS', key) == 1) then
  return {'foreign', 'a hash without the mark of cronlock'}
end
for _, name in ipairs({'fence', 'lapse', 'hold', 'kept', 'last_fence', 'pid', 'started_at', 'ttl'}) do
  local value = record[name]
  -- Above 2^53 a number would no longer grow by one.
  if value and not (#value < 25 and string.match(value, '^%d+%.?%d*$') and tonumber(value) < 2^53) then
    return {'foreign', 'a hash with a wrong field: ' .. name}
  end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local fence = tonumber(record.fence or 0)
local lapse = tonumber(record.lapse or 0)
local hold = tonumber(record.hold or 0)
local kept = tonumber(record.kept or 0)

local function text(number) return string.format('%.0f', number) end

local function seconds(microseconds) return string.format('%.6f', microseconds / 1000000) end

local function is_gone(who) return string.find(record.gone or '', '\\n' .. who .. '\\n', 1, true) ~= nil end

local function ours() return record.owner == owner and not is_gone(owner) end

-- Whoever writes last may have asked for less than a lease or a hold that is still on.
local function keep()
  redis.call('PEXPIRE', key, text(math.max(tonumber(retention), (math.max(lapse, hold) - now) / 1000)))
end

-- Ends the hold of the present run; one that it was told to ignore goes on.
local function end_hold()
  if kept > now then redis.call('HSET', key, 'hold', text(kept)) else redis.call('HDEL', key, 'hold') end
end

local function drop_kept()
  if not record.kept then return end
  redis.call('HDEL', key, 'kept')
  for _, name in ipairs(RUN) do redis.call('HDEL', key, 'kept_' .. name) end
end

-- A late duplicate of the acquire of an owner that has gone must not take the key.
local function go(who)
  local gone, count = '\\n' .. who .. '\\n', 1
  for other in string.gmatch(record.gone or '', '[^\\n]+') do
    if other ~= who and count < 8 then
      gone, count = gone .. other .. '\\n', count + 1
    end
  end
  redis.call('HSET', key, 'cronlock', '1', 'gone', gone)
  keep()
end

local function answer(word, ...) return {word, text(now), ...} end

-- Appends the fields of the run that has not ended, and of the one that has.
local function describe(list)
  if record.owner then
    list[#list + 1] = 'fence'
    list[#list + 1] = text(fence)
  end
  for _, name in ipairs(NAMES) do
    local prefix = string.sub(name, 1, 5)
    if record[name] and prefix ~= 'kept_' and (prefix == 'last_' or (record.owner and name ~= 'fence')) then
      list[#list + 1] = name
      list[#list + 1] = record[name]
    end
  end
  return list
end
"""

ACQUIRE = (
    _COMMON
    + """
local ttl, length, ignore_hold = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local floor, age, noticed = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local doubtful = tonumber(ARGV[10])
local host, pid, program, asked = ARGV[11], ARGV[12], ARGV[13], ARGV[14]

local function conflict(why, remaining) return describe(answer(why, text(remaining), text(fence))) end

-- How long the key counts as held since the server may have lost a lease that is still out.
local function doubt()
  if fence >= floor then return 0 end
  local info = redis.pcall('INFO', 'server')
  local uptime = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)'))
  -- Both ends of the uptime are cut to seconds: it may be a second more or less.
  if uptime and (uptime + 1) * 1000000 <= age then return doubtful - math.max(uptime - 1, 0) * 1000000 end
  -- Not restarted since: a failover or a flush, and when it was only this node can tell.
  return doubtful - noticed
end

if is_gone(owner) then return conflict('cancelled', 0) end
if lapse > now then
  if record.owner == owner then
    -- A write, since 7.2 and later WAIT for this connection's last one: none would be acknowledged at once.
    keep()
    return answer('granted', text(fence))
  end
  return conflict('held', lapse - now)
end
-- Its own lease may have lapsed before it heard of it: that leaves a hold of its own.
local again = record.owner == owner
if hold > now and not (ignore_hold or again) then return conflict('hold', hold - now) end
local wait = doubt()
if wait > 0 then return conflict('forgotten', wait) end
if not again then
  drop_kept()
  kept = hold
  if hold > now then
    redis.call('HSET', key, 'kept', text(hold))
    if record.owner then
      for _, name in ipairs(RUN) do redis.call('HSET', key, 'kept_' .. name, record[name] or '') end
    end
  end
end
fence = math.max(fence + 1, now, floor + 1)
redis.call('HSET', key, 'cronlock', '1', 'fence', text(fence), 'lapse', text(now + ttl),
  'hold', text(math.max(now + length, kept)),
  'owner', owner, 'host', host, 'pid', pid, 'program', program, 'started_at', seconds(now), 'ttl', asked)
keep()
return answer('granted', text(fence))
"""
)

RENEW = (
    _COMMON
    + """
if not ours() then return answer('no') end
redis.call('HSET', key, 'lapse', text(now + tonumber(ARGV[4])))
keep()
return answer('yes')
"""
)

RELEASE = (
    _COMMON
    + """
local keep_hold, outcome, status = ARGV[4] == '1', ARGV[5], ARGV[6]
local was_ours = ours()
if was_ours then
  for _, name in ipairs(RUN) do redis.call('HSET', key, 'last_' .. name, record[name] or '') end
  redis.call('HSET', key, 'last_fence', text(fence), 'last_ended_at', seconds(now),
    'last_outcome', outcome, 'last_status', status)
  redis.call('HDEL', key, 'lapse', unpack(RUN))
  if not keep_hold then end_hold() end
  drop_kept()
end
go(owner)
return answer(was_ours and 'yes' or 'no')
"""
)

ABANDON = (
    _COMMON
    + """
if ours() then
  redis.call('HDEL', key, 'lapse', unpack(RUN))
  end_hold()
  if record.kept_owner then
    for _, name in ipairs(RUN) do redis.call('HSET', key, name, record['kept_' .. name] or '') end
  end
  drop_kept()
end
go(owner)
return answer('yes')
"""
)

# The run stays in the record: it did not end by its own word.
FORCE_RELEASE = (
    _COMMON
    + """
if ours() then
  redis.call('HDEL', key, 'lapse', 'hold')
  drop_kept()
elseif not record.owner and record.last_owner == owner and hold > now then
  redis.call('HDEL', key, 'hold')
else
  return answer('no')
end
go(owner)
return answer('yes')
"""
)

READ = (
    _COMMON
    + """
if not record.fence then return answer('none') end
return describe(answer('record', text(math.max(lapse - now, 0)), text(math.max(hold - now, 0))))
"""
)
