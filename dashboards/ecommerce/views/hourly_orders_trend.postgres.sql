SELECT
    h.start AS hour,
    count(o.id) AS orders,
    coalesce(sum(i.quantity), 0) AS items,
    count(DISTINCT o.customer_id) AS customers,
    round(coalesce(sum(o.total_amount) FILTER (WHERE coalesce(o.status::text, '') <> ALL (
        ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
    )), 0), 2) AS revenue
FROM (
    SELECT date_trunc('hour', {{as_of}}::timestamptz, 'UTC') - n * interval '1 hour' AS start
    FROM generate_series(0, 23) n
) h
LEFT JOIN orders o ON o.created_at >= h.start AND o.created_at < h.start + interval '1 hour'
LEFT JOIN LATERAL (SELECT sum(quantity) AS quantity FROM order_items WHERE order_id = o.id) i ON true
GROUP BY h.start
ORDER BY h.start
