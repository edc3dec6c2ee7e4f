SELECT
    (o.created_at AT TIME ZONE {{timezone}})::date AS day,
    CASE
        WHEN o.total_amount >= 1000 THEN 1000 WHEN o.total_amount >= 500 THEN 500 WHEN o.total_amount >= 200 THEN 200
        WHEN o.total_amount >= 100 THEN 100 WHEN o.total_amount >= 50 THEN 50 WHEN o.total_amount >= 25 THEN 25 ELSE 0
    END::bigint AS at_least,
    count(*) AS orders
FROM orders o
WHERE o.total_amount IS NOT NULL
    AND coalesce(o.status::text, '') <> ALL (
        ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
    )
GROUP BY 1, 2
ORDER BY 1, 2
