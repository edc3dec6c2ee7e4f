-- One row a kind of query of the last 7 days over this database, by its text
-- without literals: how often, how slow, how often in vain.
SELECT
    e.query_hash AS query_hash,
    any(e.query) AS query,
    any(e.kind) AS kind,
    count() AS queries,
    countIf(e.exception_code != 0) AS failures,
    toUInt64(quantileExact(0.5)(e.duration_ms)) AS p50_ms,
    toUInt64(quantileExact(0.95)(e.duration_ms)) AS p95_ms,
    max(e.duration_ms) AS slowest_ms,
    sum(e.read_rows) AS read_rows,
    max(e.memory_bytes) AS memory_bytes,
    max(e.at) AS last_at,
    argMaxIf(e.exception, e.at, e.exception_code != 0) AS last_error
FROM {{database}}.query_events AS e
WHERE e.at >= subtractDays({{as_of}}, 7)
GROUP BY e.query_hash
ORDER BY query_hash
SETTINGS {{settings}}
