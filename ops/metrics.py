"""Every number that the processes publish. Each is declared here once, with what it counts."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# Worker: what became of commands
commands = Counter("soma_commands_total", "Commands decided, by topic", ["topic"])
events = Counter("soma_events_total", "Events appended, by type", ["type"])
refusals = Counter("soma_refusals_total", "Commands refused, by code", ["code"])
redelivered = Counter("soma_redelivered_total", "Commands delivered again after they were recorded, and skipped", ["topic"])
dead_letters = Counter("soma_dead_letters_total", "Commands that could not be read", ["topic"])
commands_lost = Counter("soma_commands_lost_total", "Commands that retention removed before they were read", ["topic"])
second_writers = Counter("soma_second_writers_total", "Appends that landed behind another writer's, and were decided again", ["topic"])
append_seconds = Histogram("soma_append_seconds", "From sending a group of records to the broker's acknowledgement", buckets=SECONDS)
group_records = Histogram("soma_group_records", "Records in one append", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
resume_seconds = Histogram("soma_resume_seconds", "From an assignment to a partition that decides", buckets=SECONDS)

# Every reader
void_records = Counter("soma_void_records_total", "Records that do not continue the chain, by reader", ["reader"])
lag = Gauge("soma_lag_records", "Records behind the end of the partition", ["reader", "topic", "partition"])

# Orchestrator
effects = Gauge("soma_effects_outstanding", "Model calls that states wait for, in this process")
model_seconds = Histogram("soma_model_seconds", "Model calls from start to end", ["model", "outcome"], buckets=SECONDS)

# Executor
tool_seconds = Histogram("soma_tool_seconds", "Attempts of tool calls, from begin to end", ["tool", "outcome"], buckets=SECONDS)
calls_running = Gauge("soma_calls_running", "Attempts of tool calls under way in this process")
calls_waiting = Gauge("soma_calls_waiting", "Tool calls that wait in this process for their turn")
calls_refused = Counter("soma_calls_refused_total", "Tool calls that were not made because the breaker was open")
calls_lost = Counter("soma_calls_lost_total", "Tool calls begun again here because their executor was lost")
calls_unknown = Gauge("soma_calls_unknown", "Calls whose outcome is unknown and whose tool is asked how they ended, in this process")
breakers_open = Gauge("soma_breakers_open", "Tools whose breaker is not closed, as this process knows them")

# Projector
projector_moved = Counter("soma_projector_moved_total", "Transactions given up because another projector or a rebuild was ahead")
projected = Counter("soma_projected_total", "Events written to the read model")
projection_seconds = Histogram("soma_projection_seconds", "From an event's command to its row", buckets=SECONDS)
tuples_written = Counter("soma_tuples_written_total", "Tuples added to OpenFGA and removed from it")

# Gateway
policy_decisions = Counter("soma_policy_decisions_total", "Decisions of the policies: allow, deny, open, unavailable", ["outcome"])
policy_seconds = Histogram("soma_policy_seconds", "From a question to the policies to the decision", buckets=SECONDS)
relation_seconds = Histogram("soma_relation_seconds", "From a question about a relation to its answer", buckets=SECONDS)
relations_down = Counter("soma_relations_down_total", "Questions about relations that nobody answered")
audit_noted = Counter("soma_audit_decisions_total", "Decisions of the gate, by outcome; counted before they are on record", ["outcome"])
audit_waiting = Gauge("soma_audit_spool_bytes", "Decisions that wait on this gateway's disk for Kafka")
audit_closed = Counter("soma_audit_closed_total", "Requests that were kept out because their decision found no room")
requests = Histogram("soma_http_seconds", "Requests, from the first byte to the last", ["method", "route", "status"], buckets=SECONDS)
in_flight = Gauge("soma_writes_in_flight", "Writes that wait for their outcome")
at_work = Gauge("soma_sessions_at_work", "Sessions at work, of the tenants that began a turn in this gateway since it was started")
turn_seconds = Histogram("soma_turn_seconds", "From a POST with input to its recorded reply", buckets=SECONDS)
streams = Gauge("soma_sse_streams", "Open event streams")
