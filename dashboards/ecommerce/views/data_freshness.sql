-- One row a source table: how far behind the source its rows here are.
--
-- A sink reports, for each partition of a table, up to which heartbeat of the
-- source it is complete; the operator notes when the connector reads the source's
-- log late, and up to which instant it had read. The table is its worst partition,
-- and no fresher than the connector. A table that a sink keeps back or reads anew,
-- and a connector that stands or is late, each have a status of their own. While a
-- view's refresh fails, every table is Delayed: what the views show is old.
WITH {{as_of}} AS as_of
SELECT
    f.table AS table,
    f.rows AS rows,
    f.last_change_at AS last_change_at,
    f.applied_at AS applied_at,
    f.lag_seconds AS lag_seconds,
    f.applied_lsn AS applied_lsn,
    multiIf(
        f.state = 'stopped', 'Stopped',
        f.state = 'retrying', 'Retrying',
        f.state = 'held', 'Held',
        f.reading > 0, 'Reading',
        f.connector NOT IN ('', 'RUNNING', 'RESTARTING', 'UNASSIGNED'), 'Source stopped',
        f.connector_lag != '', 'Source behind',
        f.lag_seconds IS NULL, 'Unknown',
        f.lag_seconds > {{delayed_seconds}} OR f.failing_refreshes > 0, 'Delayed',
        f.last_change_at IS NULL OR f.last_change_at < subtractSeconds(as_of, {{idle_seconds}}), 'Idle',
        'Live'
    ) AS status,
    f.message AS message
FROM (
    SELECT
        t.table AS table,
        t.rows AS rows,
        p.last_change_at AS last_change_at,
        p.applied_at AS applied_at,
        -- A heartbeat of a source whose clock is ahead is no negative lag.
        if(
            ifNull(p.fresh_to <= toDateTime64(0, 3, 'UTC'), 1),
            CAST(NULL AS Nullable(Decimal(18, 3))),
            CAST(
                greatest(dateDiff('millisecond', least(p.fresh_to, ifNull(c.fresh_to, p.fresh_to)), as_of), 0)
                AS Nullable(Decimal(18, 3))
            ) / 1000
        ) AS lag_seconds,
        p.applied_lsn AS applied_lsn,
        ifNull(s.worst.2, '') AS state,
        ifNull(s.worst.3, '') AS message,
        ifNull(d.reading, 0) AS reading,
        ifNull(c.state, '') AS connector,
        ifNull(c.lag, '') AS connector_lag,
        (
            SELECT count()
            FROM system.view_refreshes AS v
            WHERE v.database = {{database_name}} AND v.exception != ''
        ) AS failing_refreshes
    FROM {{database}}.table_rows AS t
    ALL LEFT JOIN (
        SELECT
            n.table AS table,
            max(n.last_change_at) AS last_change_at,
            toNullable(min(n.applied_at)) AS applied_at,
            toNullable(min(n.fresh_to)) AS fresh_to,
            -- Positions of different epochs may be those of different servers' logs.
            toNullable(max(n.applied).2) AS applied_lsn
        FROM (
            SELECT
                r.table AS table,
                argMax(tuple(r.last_change_at), r.beat).1 AS last_change_at,
                argMax(r.fresh_to, r.beat) AS fresh_to,
                argMax((r.applied_epoch, r.applied_lsn), r.beat) AS applied,
                argMax(r.applied_at, r.beat) AS applied_at
            FROM {{database}}._tidemark_progress AS r
            WHERE r.pipeline = {{pipeline}}
            GROUP BY r.table, r.partition
        ) AS n
        GROUP BY n.table
    ) AS p ON p.table = t.table
    -- The loudest replica of those that live.
    ALL LEFT JOIN (
        SELECT
            w.table AS table,
            max(tuple(transform(w.newest.1, ['held', 'retrying', 'stopped'], [1, 2, 3], 0), w.newest.1, w.newest.2)) AS worst
        FROM (
            SELECT
                q.table AS table,
                argMax(tuple(toString(q.state), q.message), q.beat) AS newest,
                argMax(q.written_at, q.beat) AS written_at
            FROM {{database}}._tidemark_states AS q
            WHERE q.pipeline = {{pipeline}}
            GROUP BY q.table, q.replica
        ) AS w
        WHERE w.written_at > subtractSeconds(as_of, {{silent_seconds}})
        GROUP BY w.table
    ) AS s ON s.table = t.table
    ALL LEFT JOIN (
        SELECT g.table AS table, toUInt8(argMax(g.state, g.beat) != 'read') AS reading
        FROM {{database}}._tidemark_reads AS g
        WHERE g.pipeline = {{pipeline}}
        GROUP BY g.table
    ) AS d ON d.table = t.table
    CROSS JOIN (
        SELECT
            argMax(toString(h.state), h.seen_at) AS state,
            argMax(toString(h.lag), h.seen_at) AS lag,
            argMax(tuple(h.fresh_to), h.seen_at).1 AS fresh_to
        FROM {{database}}._tidemark_connector AS h
        WHERE h.pipeline = {{pipeline}}
    ) AS c
) AS f
ORDER BY table
SETTINGS {{settings}}
