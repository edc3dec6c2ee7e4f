-- One row a partition of a source table: how far it is applied, and by which replica
-- of the sink. Offsets are Kafka's. Dead letters are those that are open: a sink counts
-- none that was dealt with, or that a later read of the table makes up for. Of a table
-- that the pipeline no longer has, nobody does.
SELECT
    n.table AS table,
    n.partition AS partition,
    n.newest.1 AS replica,
    n.newest.2 AS rows,
    n.newest.3 AS dead_letters,
    n.newest.4 AS next_offset,
    n.newest.5 AS last_change_at,
    n.newest.6 AS fresh_to,
    n.applied_at AS applied_at
FROM (
    SELECT
        r.table AS table,
        r.partition AS partition,
        argMax(tuple(r.replica, r.rows, r.dead_letters, r.next_offset, r.last_change_at, r.fresh_to), r.beat) AS newest,
        argMax(r.applied_at, r.beat) AS applied_at
    FROM {{database}}._tidemark_progress AS r
    WHERE r.pipeline = {{pipeline}} AND r.table IN (SELECT t.table FROM {{database}}.table_rows AS t)
    GROUP BY r.table, r.partition
) AS n
ORDER BY table, partition
SETTINGS {{settings}}
