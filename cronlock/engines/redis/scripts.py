"""What the server does in one step: Lua scripts over one hash for each key.

Fields of the hash: ``cronlock`` (1, the layout), ``fence`` (the highest granted), ``lapse`` and
``hold`` (ends of lease and hold, in microseconds of the server's clock), ``gone`` (the owners that
gave the key back last, each between line ends), ``forced`` (the last one that it was taken from by
force), the run that was granted the key last and has not ended by its own word (``owner``, ``host``,
``pid``, ``program``, ``started_at``, ``ttl``, ``extra``), and the last one that has (the same under
``last_``, with ``fence``, ``ended_at``, ``outcome``, ``status``). Of a hold that the present run was
told to ignore, ``kept`` is the end, and ``kept_owner`` and so on are the run that it belonged to, if
that died; a takeover keeps both, whether or not the hold is over.

``extra`` is the owner, the fence, and of a takeover the tick and the fence of the dead, between line
ends. It counts only with its owner's other fields: an older program leaves it behind.

``history`` has the runs of the past, one a line, the newest first, and ``success`` the last that
succeeded (`cronlock.lease.record.run_to_line`). Only who changes or shows them reads them: a loser's
answer is the same however long they are.

Every script takes the key, and as arguments the database, the owner and how many milliseconds the
hash outlives this step if nobody uses it: for the rules alone lapse and hold count. It answers a
word, the server's time in microseconds, and what the word needs. Numbers go through ``%.0f``, since
Lua writes those above 2^46 with an exponent.

An ACL user needs `ACL_RULE`.
"""

from __future__ import annotations

from ...lease.vocabulary import HISTORY

#: The least that a user of a server with ACLs needs, for the default prefix and database 0.
#: Another database: also +select. min_replicas: +wait. A cluster: +cluster|slots +asking (redis-py 5 asks
#: for +info as well). The user of sentinels, who have rules of their own: +sentinel|masters. redis-py tells
#: both of them its name: without +client|setinfo (7.2 and later) a refusal is left in the ACL log.
#: Without +info a server that restarted empty is waited for longer, without +scan keys cannot be listed.
ACL_RULE = "~cronlock:* +eval +hmget +hset +hdel +pexpire +time +exists +info +scan"


def _lean(script: str) -> str:
    """Return a script without comments and indentation: every request sends it whole."""
    lines = (line.strip() for line in script.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("--"))


_COMMON = _lean("""
local key, database, owner, retention = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
-- Here and not as a request of its own: a refused SELECT would let this run in database 0.
if database ~= '0' then redis.call('SELECT', database) end
local RUN = {'owner', 'host', 'pid', 'program', 'started_at', 'ttl', 'extra'}
local NAMES = {'cronlock', 'fence', 'lapse', 'hold', 'gone', 'forced', 'kept',
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

-- Spreads `extra`. Once another gave the key back, the highest fence is not that of the run before it.
if record.owner then record.fence = text(fence) end
for _, prefix in ipairs({'', 'last_', 'kept_'}) do
  local who, own, tick, before =
    string.match(record[prefix .. 'extra'] or '', '^([^\\n]+)\\n(%d+)\\n([^\\n]*)\\n(%d*)$')
  if who and who == record[prefix .. 'owner'] and #own < 17 and #before < 17 then
    record[prefix .. 'fence'] = own
    record[prefix .. 'stands_for'] = tick ~= '' and tick or nil
    record[prefix .. 'took_over'] = before ~= '' and before or nil
  end
end

local function seconds(microseconds) return string.format('%.6f', microseconds / 1000000) end

local function is_gone(who)
  return record.forced == who or string.find(record.gone or '', '\\n' .. who .. '\\n', 1, true) ~= nil
end

local function extra(who, own, tick, before)
  return table.concat({who, own, tick or '', before or ''}, '\\n')
end

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
""")

_TOLD = _lean("""
local TOLD = {'owner', 'host', 'pid', 'program', 'started_at', 'ttl', 'fence', 'ended_at', 'outcome', 'status',
  'stands_for', 'took_over'}
""")

# Appends the fields of a run that has not ended (no prefix), or of the one that has.
_DESCRIBE = _lean("""
local function describe(list, prefix)
  if not record[prefix .. 'owner'] then return list end
  for _, name in ipairs(TOLD) do
    local value = record[prefix .. name]
    if value and value ~= '' then
      list[#list + 1] = prefix .. name
      list[#list + 1] = value
    end
  end
  return list
end
""")

# Makes the present run the newest of the history, in place of what that had of it; returns its line.
_REMEMBER = _lean("""
local function remember()
  local words = {}
  for _, name in ipairs(TOLD) do
    local value = record[name]
    if value and value ~= '' then
      value = value:gsub('%%', '%%25'):gsub('\\n', '%%0A'):gsub('\\t', '%%09')
      words[#words + 1] = name .. '=' .. value
    end
  end
  local lines, start = {table.concat(words, '\\t')}, words[1] .. '\\t'
  for line in string.gmatch(redis.call('HMGET', key, 'history')[1] or '', '[^\\n]+') do
    if #lines < HISTORY and string.sub(line, 1, #start) ~= start then lines[#lines + 1] = line end
  end
  redis.call('HSET', key, 'history', table.concat(lines, '\\n'))
  return lines[1]
end
""").replace("HISTORY", str(HISTORY))

ACQUIRE = (
    _COMMON
    + _TOLD
    + _DESCRIBE
    + _REMEMBER
    + _lean("""
local ttl, length, ignore_hold = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local floor, age, noticed = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local doubtful = tonumber(ARGV[10])
local host, pid, program, asked = ARGV[11], ARGV[12], ARGV[13], ARGV[14]
-- nil unless it stands by
local tick = ARGV[15]
local latest = record.owner and '' or 'last_'

local function conflict(why, remaining) return describe(answer(why, text(remaining), text(fence)), latest) end

-- Whether the latest run is of this tick, not done, and not taken from its owner by force.
local function may_take_over(live)
  if (record[latest .. 'stands_for'] or record[latest .. 'owner']) ~= tick then return false end
  if latest == '' then return live or not is_gone(record.owner) end
  return record.last_outcome == 'lost' or record.last_outcome == 'not-started'
end

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
local live = lapse > now
if live and record.owner == owner then
  -- A write, since 7.2 and later WAIT for this connection's last one: none would be acknowledged at once.
  keep()
  return answer('granted', record.fence, record.took_over or '0')
end
if tick and not may_take_over(live) then return conflict('ended', 0) end
if live then return conflict('held', lapse - now) end
-- Its own lease may have lapsed before it heard of it: that leaves a hold of its own.
local again = record.owner == owner
if hold > now and not (ignore_hold or again or tick) then return conflict('hold', hold - now) end
local wait = doubt()
if wait > 0 then return conflict('forgotten', wait) end
local granted = {}
local took_over = record.took_over
if not again then
  describe(granted, latest)
  took_over = tick and record[latest .. 'fence']
  drop_kept()
  kept = hold
  if hold > now or tick then
    redis.call('HSET', key, 'kept', text(hold))
    if record.owner then
      for _, name in ipairs(RUN) do redis.call('HSET', key, 'kept_' .. name, record[name] or '') end
      redis.call('HSET', key, 'kept_extra', extra(record.owner, record.fence, record.stands_for, record.took_over))
    end
  end
  if record.owner then
    record.outcome = record.forced == record.owner and 'released' or 'died'
    remember()
  end
end
fence = math.max(fence + 1, now, floor + 1)
hold = math.max(now + length, kept, again and hold or 0)
redis.call('HSET', key, 'cronlock', '1', 'fence', text(fence), 'lapse', text(now + ttl), 'hold', text(hold),
  'owner', owner, 'host', host, 'pid', pid, 'program', program, 'started_at', seconds(now), 'ttl', asked,
  'extra', extra(owner, text(fence), tick, took_over))
keep()
local reply = answer('granted', text(fence), took_over or '0')
for _, word in ipairs(granted) do reply[#reply + 1] = word end
return reply
""")
)

RENEW = _COMMON + _lean("""
if not ours() then return answer('no') end
redis.call('HSET', key, 'lapse', text(now + tonumber(ARGV[4])))
keep()
return answer('yes')
""")

RELEASE = (
    _COMMON
    + _TOLD
    + _REMEMBER
    + _lean("""
local keep_hold, outcome, status = ARGV[4] == '1', ARGV[5], ARGV[6]
local was_ours = ours()
if was_ours then
  for _, name in ipairs(RUN) do redis.call('HSET', key, 'last_' .. name, record[name] or '') end
  record.ended_at, record.outcome, record.status = seconds(now), outcome, status
  redis.call('HSET', key, 'last_fence', record.fence, 'last_ended_at', record.ended_at,
    'last_outcome', outcome, 'last_status', status)
  local line = remember()
  if outcome == 'exited' and status == '0' then redis.call('HSET', key, 'success', line) end
  redis.call('HDEL', key, 'lapse', unpack(RUN))
  if not keep_hold then end_hold() end
  drop_kept()
end
go(owner)
return answer(was_ours and 'yes' or 'no')
""")
)

ABANDON = _COMMON + _lean("""
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
""")

# The run stays in the record: it did not end by its own word.
FORCE_RELEASE = _COMMON + _lean("""
local taken = math.max(lapse, hold) > now
if record.owner == owner then
  redis.call('HDEL', key, 'lapse', 'hold')
  redis.call('HSET', key, 'forced', owner)
  drop_kept()
elseif not record.owner and record.last_owner == owner and hold > now then
  redis.call('HDEL', key, 'hold')
else
  return answer('no')
end
go(owner)
return answer(taken and 'yes' or 'no')
""")

READ = (
    _COMMON
    + _TOLD
    + _DESCRIBE
    + _lean("""
if not record.fence then return answer('none') end
local known = answer('record', text(math.max(lapse - now, 0)), text(math.max(hold - now, 0)))
local past = redis.call('HMGET', key, 'history', 'success')
for i, name in ipairs({'history', 'success'}) do
  known[#known + 1] = name
  known[#known + 1] = past[i] or ''
end
known[#known + 1] = 'forced'
known[#known + 1] = record.forced or ''
return describe(describe(known, ''), 'last_')
""")
)
