-- One row a change of the connector's state, or of how far it is behind the source,
-- as the operator saw it, for 90 days. While lag is not empty, fresh_to is the instant
-- of the source up to which it had read. wal is not empty while the replication slot
-- holds back more of the source's write-ahead log than it should.
-- MISSING is a connector that Kafka Connect does not have, UNREACHABLE a Connect that
-- gives no answer. Restarts are counted from where the history begins.
SELECT
    c.seen_at AS seen_at,
    c.state AS state,
    c.tasks AS tasks,
    c.failed_tasks AS failed_tasks,
    c.restarts AS restarts,
    c.error AS error,
    c.lag AS lag,
    c.fresh_to AS fresh_to,
    c.wal AS wal
FROM {{database}}._tidemark_connector AS c
WHERE c.pipeline = {{pipeline}}
ORDER BY seen_at
SETTINGS {{settings}}
