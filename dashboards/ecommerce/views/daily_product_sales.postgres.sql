SELECT
    (o.created_at AT TIME ZONE {{timezone}})::date AS day,
    i.product_id,
    sum(i.quantity) AS units,
    count(DISTINCT o.id) AS orders,
    round(coalesce(sum(i.unit_price * i.quantity), 0), 2) AS revenue
FROM order_items i
JOIN orders o ON o.id = i.order_id
WHERE i.product_id IS NOT NULL
    AND coalesce(o.status::text, '') <> ALL (
        ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
    )
GROUP BY 1, 2
ORDER BY 1, 2
