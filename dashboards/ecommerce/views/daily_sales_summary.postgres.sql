SELECT
    d.day,
    d.orders,
    d.items,
    d.customers,
    coalesce(n.new_customers, 0) AS new_customers,
    round(d.revenue, 2) AS revenue,
    round(div(round(d.revenue, 2) * 1000, nullif(d.sold_orders, 0)) / 1000, 2) AS average_order_value,
    d.cancelled_orders
FROM (
    SELECT
        (o.created_at AT TIME ZONE {{timezone}})::date AS day,
        count(*) AS orders,
        coalesce(sum(i.quantity), 0) AS items,
        count(DISTINCT o.customer_id) AS customers,
        count(*) FILTER (WHERE s.sold) AS sold_orders,
        coalesce(sum(o.total_amount) FILTER (WHERE s.sold), 0) AS revenue,
        count(*) FILTER (WHERE o.status::text = ANY (ARRAY[{{cancelled_statuses}}]::text[])) AS cancelled_orders
    FROM orders o
    CROSS JOIN LATERAL (
        SELECT coalesce(o.status::text, '') <> ALL (
            ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
        ) AS sold
    ) s
    LEFT JOIN (SELECT order_id, sum(quantity) AS quantity FROM order_items GROUP BY order_id) i ON i.order_id = o.id
    GROUP BY 1
) d
LEFT JOIN (
    SELECT f.day, count(*) AS new_customers
    FROM (
        SELECT (min(created_at) AT TIME ZONE {{timezone}})::date AS day
        FROM orders
        WHERE customer_id IS NOT NULL
        GROUP BY customer_id
    ) f
    GROUP BY f.day
) n ON n.day = d.day
ORDER BY d.day
