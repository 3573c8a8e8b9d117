# The cases of cases/data.yaml, for `opa test ops/policies tests/policies`.
package soma.gate_test

test_case[name] if {
	some name, case in data.cases
	found := data.soma.gate.decision with input as case.input with data.soma.tenants as terms(case)
	found.allow == case.allow
	found.rule == case.rule
	object.get(case, "reasons", found.reasons) == found.reasons
}

terms(case) := data.terms[object.get(case, "terms", "shipped")]
