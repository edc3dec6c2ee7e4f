-- One row a viewer of the last 7 days: by a hash of the login, or by the login where
-- spec.views.ecommerce.viewerLogins is Shown.
SELECT
    CAST(e.viewer, 'String') AS viewer,
    arraySort(groupUniqArray(e.dashboard)) AS dashboards,
    uniqExact(toStartOfMinute(e.at, 'UTC')) AS minutes,
    count() AS queries,
    countIf(e.exception_code != 0) AS failures,
    max(e.at) AS last_seen
FROM {{database}}.query_events AS e
WHERE e.dashboard != '' AND e.at >= subtractDays({{as_of}}, 7)
GROUP BY e.viewer
ORDER BY viewer
SETTINGS {{settings}}
