-- `http-request lua.latchkey`: asks auth-api whether the request may pass. If so, says who it is in the X-Auth headers and sets the variable
-- txn.allowed, without which haproxy.cfg lets nothing pass; if not, answers.
-- The variable txn.scope names the scopes that are needed, separated by %20.

local VERIFY = 'http://latchkey/v1/verify'
local SOCKET = 'abns@latchkey-${GATEWAY_PORT}'
local IDENTITY = { 'x-auth-user', 'x-auth-session', 'x-auth-scope', 'x-auth-token-expires' }
local REFUSAL = { 'www-authenticate', 'content-type', 'cache-control', 'x-request-id' }

local function verify(txn)
  local scope = txn:get_var('txn.scope')
  local authorization = txn.http:req_get_headers()['authorization']
  local answer = core.httpclient():get({
    url = scope and (VERIFY .. '?scope=' .. scope) or VERIFY,
    dst = SOCKET,
    headers = authorization and { authorization = { authorization[0] } } or {},
  })
  local status = answer and answer.status

  if status == 200 then
    for _, name in ipairs(IDENTITY) do
      local values = answer.headers[name]
      if values then txn.http:req_set_header(name, values[0]) end
    end
    txn:set_var('txn.allowed', true)
  elseif status == 401 or status == 403 then
    local reply = txn:reply({ status = status, body = answer.body })
    for _, name in ipairs(REFUSAL) do
      local values = answer.headers[name]
      if values then reply:add_header(name, values[0]) end
    end
    txn:done(reply)
  else
    -- Whatever else was said, or nothing: closed.
    local reply = txn:reply({ status = 503 })
    reply:add_header('retry-after', '1')
    txn:done(reply)
  end
end

core.register_action('latchkey', { 'http-req' }, verify)
