-- One row a refreshed view: when it was last computed, how long that took, and why
-- it failed if it did. While it fails, the view shows what it last computed.
SELECT
    replaceRegexpOne(v.view, '__refresh$', '') AS view,
    v.status AS status,
    v.last_success_time AS last_success_at,
    v.last_success_duration_ms AS duration_ms,
    v.next_refresh_time AS next_at,
    v.exception AS exception
FROM system.view_refreshes AS v
WHERE v.database = {{database_name}}
ORDER BY view
SETTINGS {{settings}}
