# What a session may be started with: the models, the tools and the limits that its tenant has.
package soma.gate

starts := {"session.start", "session.fork", "chat.complete", "response.create", "tool.execute"}

holds contains "model" if not starts[input.action]

holds contains "model" if input.action == "tool.execute"

holds contains "model" if listed(input.request.model, terms.models)

reason["model"] := sprintf("This tenant may not use the model %v.", [input.request.model])

holds contains "tools" if not starts[input.action]

holds contains "tools" if {
	is_array(input.request.tools)
	count(foreign) == 0
}

# Of `pay@3` the name counts.
foreign := [tool | some tool in input.request.tools; not listed(split(tool, "@")[0], terms.tools)]

reason["tools"] := sprintf("This tenant may not use the tool %v.", [foreign[0]])

holds contains "limits" if not starts[input.action]

holds contains "limits" if {
	is_object(input.request.limits)
	count(exceeded) == 0
}

# A limit that is not asked for is none at all, and so exceeds any ceiling.
exceeded := [name | some name in object.keys(terms.ceilings); not within[name]]

within contains name if {
	some name in object.keys(terms.ceilings)
	is_number(input.request.limits[name])
	input.request.limits[name] <= terms.ceilings[name]
}

reason["limits"] := sprintf("Ask for `limits` of at most %v %v.", [terms.ceilings[exceeded[0]], exceeded[0]])

listed(_, names) if "*" in names

listed(name, names) if name in names
