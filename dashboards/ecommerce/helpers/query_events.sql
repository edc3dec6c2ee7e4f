-- One row a finished query over this database, kept longer than the server keeps its
-- log. Without literals, and with a hash in the place of the viewer's login unless it is
-- to be shown. What is
-- there already is not added again; ten minutes back are looked at, since the log is
-- written in batches and not in the order of its times.
SELECT
    e.at AS at,
    e.query_id AS query_id,
    e.query_hash AS query_hash,
    e.query AS query,
    e.kind AS kind,
    e.exception_code AS exception_code,
    e.exception AS exception,
    e.duration_ms AS duration_ms,
    e.read_rows AS read_rows,
    e.memory_bytes AS memory_bytes,
    e.dashboard AS dashboard,
    e.panel AS panel,
    e.viewer AS viewer
FROM (
    SELECT
        q.event_time_microseconds AS at,
        q.query_id AS query_id,
        normalizedQueryHash(q.query) AS query_hash,
        substring(normalizeQuery(q.query), 1, 500) AS query,
        toString(q.query_kind) AS kind,
        q.exception_code AS exception_code,
        substring(q.exception, 1, 300) AS exception,
        q.query_duration_ms AS duration_ms,
        q.read_rows AS read_rows,
        q.memory_usage AS memory_bytes,
        coalesce(nullIf(q.client_name, ''), q.http_user_agent) AS client,
        extract(client, 'grafana_dashboard:([^;)]+)') AS dashboard,
        extract(client, 'grafana_panel:([^;)]+)') AS panel,
        extract(client, 'grafana_user:([^;)]+)') AS login,
        {{viewer}} AS viewer
    FROM system.query_log AS q
    WHERE q.event_date >= toDate(subtractDays({{as_of}}, 7), 'UTC') AND q.type != 'QueryStart' AND q.is_initial_query = 1
        AND (has(q.databases, {{database_name}}) OR q.current_database = {{database_name}})
        AND q.event_time_microseconds >= (SELECT subtractMinutes(max(s.at), 10) FROM {{self}} AS s)
) AS e
WHERE (e.at, e.query_id) NOT IN (
    SELECT k.at, k.query_id FROM {{self}} AS k WHERE k.at >= (SELECT subtractMinutes(max(s.at), 10) FROM {{self}} AS s)
)
SETTINGS {{settings}}
