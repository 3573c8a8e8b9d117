# Whether a request is let in. One question is asked of it: data.soma.gate.decision.
#
# Each check says when it holds. One that does not hold, or that cannot be decided because its input lacks something, has failed: so
# nothing is let in by a mistake here. `rule` is the scope that let it in, or the first check that failed; `reasons` are for people.
#
# input: principal {tenant, actor, kind, scopes, roles, claims}, action, resource {kind, id, tenant}, and request {method, path, remote},
# besides which an action may have its own facts there: model, tools, limits; asked_by; operator.
package soma.gate

checks := ["action", "tenant", "scope", "operator", "model", "tools", "limits", "approver"]

failed := [check | some check in checks; not holds[check]]

decision := {"allow": true, "rule": data.soma.actions[input.action], "reasons": []} if count(failed) == 0

decision := {"allow": false, "rule": failed[0], "reasons": [why(check) | some check in failed]} if count(failed) > 0

why(check) := reason[check]

why(check) := sprintf("The check %v does not hold.", [check]) if not reason[check]

# What holds for the tenant: its own entry, completed by the one that is for everybody.
terms := object.union(data.soma.tenants["*"], object.get(data.soma.tenants, input.principal.tenant, {}))

holds contains "action" if data.soma.actions[input.action]

reason["action"] := sprintf("There is no action %v.", [input.action])

holds contains "tenant" if input.resource.tenant == input.principal.tenant

reason["tenant"] := "It belongs to another tenant."

holds contains "scope" if "*" in input.principal.scopes

holds contains "scope" if data.soma.actions[input.action] in input.principal.scopes

reason["scope"] := sprintf("This takes the scope %v.", [data.soma.actions[input.action]])

# The policies are the platform's: only the tenant that runs it keeps them.
holds contains "operator" if not startswith(input.action, "policy.")

holds contains "operator" if input.request.operator == true

reason["operator"] := "Only the tenant that runs the platform keeps its policies."
