-- One row a source table: how far it is compared with its source, row by row. Every row
-- was as it is at the source at verified_from or later; differences and repaired count
-- rows since the table is compared, open is how many differ now. coverage is the share
-- of the round that began at began_at.
SELECT
    n.table AS table,
    n.newest.1 AS began_at,
    n.newest.2 AS coverage,
    n.newest.3 AS verified_from,
    n.newest.4 AS verified_to,
    n.newest.5 AS compared,
    n.newest.6 AS differences,
    n.newest.7 AS repaired,
    n.newest.8 AS open,
    n.newest.9 AS error,
    n.updated_at AS updated_at
FROM (
    SELECT
        r.table AS table,
        argMax(
            tuple(
                r.began_at, r.coverage, r.verified_from, r.verified_to, r.compared, r.differences, r.repaired, r.open,
                r.error
            ),
            r.beat
        ) AS newest,
        argMax(r.updated_at, r.beat) AS updated_at
    FROM {{database}}._tidemark_verification AS r
    WHERE
        r.pipeline = {{pipeline}}
        -- One that the pipeline has no more is no longer compared.
        AND r.table IN (
            SELECT l.key
            FROM {{database}}._tidemark_ledger AS l FINAL
            WHERE l.pipeline = {{pipeline}} AND l.kind = 'read' AND l.value != 'null'
        )
    GROUP BY r.table
) AS n
ORDER BY table
SETTINGS {{settings}}
