-- One row a source table: how many rows it has now. Counted once a refresh,
-- since a count reads the whole table, and data_freshness is asked often.
SELECT c.table AS table, c.rows AS rows
FROM (
    {{table_rows}}
) AS c
SETTINGS {{settings}}
