-- One row a dashboard and panel that Grafana asked for in the last 7 days. The
-- plugin names both in its client information from 4.15 on. Viewers are counted by
-- a hash of their login, which is not shown. An open dashboard asks again and
-- again: minutes say more of its use than queries.
SELECT
    u.dashboard AS dashboard,
    u.panel AS panel,
    uniqExact(u.viewer) AS viewers,
    uniqExact(u.minute) AS minutes,
    count() AS queries,
    countIf(u.exception_code != 0) AS failures,
    toUInt64(quantileExact(0.95)(u.query_duration_ms)) AS p95_ms,
    sum(u.read_rows) AS read_rows,
    max(u.at) AS last_seen
FROM (
    SELECT
        coalesce(nullIf(q.client_name, ''), q.http_user_agent) AS client,
        extract(client, 'grafana_dashboard:([^;)]+)') AS dashboard,
        extract(client, 'grafana_panel:([^;)]+)') AS panel,
        sipHash64(extract(client, 'grafana_user:([^;)]+)')) AS viewer,
        toStartOfMinute(q.event_time, 'UTC') AS minute,
        q.exception_code AS exception_code,
        q.query_duration_ms AS query_duration_ms,
        q.read_rows AS read_rows,
        q.event_time_microseconds AS at
    FROM system.query_log AS q
    WHERE q.event_date >= toDate(subtractDays({{as_of}}, 7), 'UTC') AND q.type != 'QueryStart' AND q.is_initial_query = 1
        AND (has(q.databases, {{database_name}}) OR q.current_database = {{database_name}})
) AS u
WHERE u.dashboard != ''
GROUP BY dashboard, panel
ORDER BY dashboard, panel
SETTINGS {{settings}}
