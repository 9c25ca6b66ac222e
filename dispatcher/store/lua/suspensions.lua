-- Which lanes an operator has suspended; put in front of scripts that ask, after lib.lua.
-- A pattern is a lane, the beginning of one (a provider) or has `*` for anything. It holds for lanes
-- that are not known yet. A lane is suspended by every pattern that covers it, but for those older than
-- a resume that covers it too.
local function glob(pattern, text)
  local head, rest = string.match(pattern, '^([^*]*)(.*)$')
  if string.sub(text, 1, #head) ~= head then return false end
  if rest == '' then return #text == #head end
  local at = #head + 1
  for part, ends in string.gmatch(rest, '%*+([^*]*)()') do
    if ends > #rest then
      local start = #text - #part + 1
      return start >= at and string.sub(text, start) == part
    end
    local _, to = string.find(text, part, at, true)
    if not to then return false end
    at = to + 1
  end
end

local function covers(pattern, lane) return glob(pattern, lane) or glob(pattern .. '/*', lane) end

local rules -- pattern -> {number, until, reason}; resumes: pattern -> number
local resumes = {}
local function read_rules()
  rules = {}
  local all = redis.call('HGETALL', key('suspended'))
  for i = 1, #all, 2 do
    local number, ends, reason = string.match(all[i + 1], '^(%d+) (%d+) ?(.*)$')
    rules[all[i]] = { tonumber(number), tonumber(ends), reason }
  end
  if #all == 0 then return end
  all = redis.call('HGETALL', key('resumed'))
  for i = 1, #all, 2 do resumes[all[i]] = tonumber(all[i + 1]) end
end

local function resumed_since(lane, number)
  for pattern, later in pairs(resumes) do
    if later > number and covers(pattern, lane) then return true end
  end
end

-- Until when a lane is suspended (us; 0 or in the past: it is not), and why.
local function suspended_until(lane)
  if not rules then read_rules() end
  local ends, reason = 0, ''
  for pattern, rule in pairs(rules) do
    if rule[2] > ends and covers(pattern, lane) and not resumed_since(lane, rule[1]) then
      ends, reason = rule[2], rule[3]
    end
  end
  return ends, reason
end
