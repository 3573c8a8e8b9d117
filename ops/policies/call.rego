# Who may decide about a call that waits for an approval. Under `four_eyes` it is not whoever asked for it: the one whose message it answers.
package soma.gate

decides := {"call.approve", "call.settle"}

holds contains "approver" if not decides[input.action]

holds contains "approver" if terms.four_eyes == false

holds contains "approver" if {
	is_string(input.request.asked_by)
	input.request.asked_by != input.principal.actor
}

reason["approver"] := "Somebody else has to decide about it than who asked for it."
