-- One row a kind of query of the last 7 days over this database, by its text
-- without literals: how often, how slow, how often in vain.
SELECT
    normalizedQueryHash(q.query) AS query_hash,
    any(substring(normalizeQuery(q.query), 1, 500)) AS query,
    any(q.query_kind) AS kind,
    count() AS queries,
    countIf(q.exception_code != 0) AS failures,
    toUInt64(quantileExact(0.5)(q.query_duration_ms)) AS p50_ms,
    toUInt64(quantileExact(0.95)(q.query_duration_ms)) AS p95_ms,
    max(q.query_duration_ms) AS slowest_ms,
    sum(q.read_rows) AS read_rows,
    max(q.memory_usage) AS memory_bytes,
    max(q.event_time_microseconds) AS last_at,
    argMaxIf(substring(q.exception, 1, 300), q.event_time_microseconds, q.exception_code != 0) AS last_error
FROM system.query_log AS q
WHERE q.event_date >= toDate(subtractDays({{as_of}}, 7), 'UTC') AND q.type != 'QueryStart' AND q.is_initial_query = 1
    AND (has(q.databases, {{database_name}}) OR q.current_database = {{database_name}})
GROUP BY query_hash
ORDER BY query_hash
SETTINGS {{settings}}
