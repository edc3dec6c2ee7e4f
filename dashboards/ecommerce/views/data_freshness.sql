-- One row a source table: how far behind the source its rows here are.
--
-- A sink reports, for each partition of a table, up to which heartbeat of the
-- source it is complete. The table is its worst partition, so a quiet table of a
-- healthy pipeline is Idle and any table of a broken one is Delayed. While a
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
        f.lag_seconds IS NULL, 'Unknown',
        f.lag_seconds > {{delayed_seconds}} OR f.failing_refreshes > 0, 'Delayed',
        f.last_change_at IS NULL OR f.last_change_at < subtractSeconds(as_of, {{idle_seconds}}), 'Idle',
        'Live'
    ) AS status
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
            CAST(greatest(dateDiff('millisecond', p.fresh_to, as_of), 0) AS Nullable(Decimal(18, 3))) / 1000
        ) AS lag_seconds,
        p.applied_lsn AS applied_lsn,
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
            toNullable(max(n.applied_lsn)) AS applied_lsn
        FROM (
            SELECT
                r.table AS table,
                argMax(tuple(r.last_change_at), r.applied_at).1 AS last_change_at,
                argMax(r.fresh_to, r.applied_at) AS fresh_to,
                argMax(r.applied_lsn, r.applied_at) AS applied_lsn,
                max(r.applied_at) AS applied_at
            FROM {{database}}._tidemark_progress AS r
            WHERE r.pipeline = {{pipeline}}
            GROUP BY r.table, r.partition
        ) AS n
        GROUP BY n.table
    ) AS p ON p.table = t.table
) AS f
ORDER BY table
SETTINGS {{settings}}
