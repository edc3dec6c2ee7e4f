SELECT
    date_bin('5 minutes', o.created_at, timestamptz 'epoch') AS start,
    coalesce(nullif(c.country::text, ''), 'Unknown') AS country,
    count(*) AS orders,
    count(*) FILTER (WHERE s.sold) AS sold_orders,
    coalesce(sum(o.total_amount) FILTER (WHERE s.sold), 0)::numeric(38, 6) AS revenue,
    count(*) FILTER (WHERE o.status::text = ANY (ARRAY[{{cancelled_statuses}}]::text[])) AS cancelled_orders
FROM orders o
CROSS JOIN LATERAL (
    SELECT coalesce(o.status::text, '') <> ALL (
        ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
    ) AS sold
) s
LEFT JOIN customers c ON c.id = o.customer_id
GROUP BY 1, 2
ORDER BY 1, 2
