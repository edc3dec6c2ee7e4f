SELECT
    (o.created_at AT TIME ZONE {{timezone}})::date AS day,
    coalesce(nullif(c.country::text, ''), 'Unknown') AS country,
    count(*) AS orders,
    coalesce(sum(i.quantity), 0) AS items,
    count(*) FILTER (WHERE s.sold) AS sold_orders,
    round(coalesce(sum(o.total_amount) FILTER (WHERE s.sold), 0), 2) AS revenue,
    count(*) FILTER (WHERE o.status::text = ANY (ARRAY[{{cancelled_statuses}}]::text[])) AS cancelled_orders
FROM orders o
CROSS JOIN LATERAL (
    SELECT coalesce(o.status::text, '') <> ALL (
        ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
    ) AS sold
) s
LEFT JOIN customers c ON c.id = o.customer_id
LEFT JOIN (SELECT order_id, sum(quantity) AS quantity FROM order_items GROUP BY order_id) i ON i.order_id = o.id
GROUP BY 1, 2
ORDER BY 1, 2
