-- One row a dashboard and panel that Grafana asked for in the last 7 days. The
-- plugin names both in its client information from 4.15 on. An open dashboard asks
-- again and again: minutes say more of its use than queries.
SELECT
    e.dashboard AS dashboard,
    e.panel AS panel,
    uniqExact(e.viewer) AS viewers,
    uniqExact(toStartOfMinute(e.at, 'UTC')) AS minutes,
    count() AS queries,
    countIf(e.exception_code != 0) AS failures,
    toUInt64(quantileExact(0.95)(e.duration_ms)) AS p95_ms,
    sum(e.read_rows) AS read_rows,
    max(e.at) AS last_seen
FROM {{database}}.query_events AS e
WHERE e.dashboard != '' AND e.at >= subtractDays({{as_of}}, 7)
GROUP BY e.dashboard, e.panel
ORDER BY dashboard, panel
SETTINGS {{settings}}
