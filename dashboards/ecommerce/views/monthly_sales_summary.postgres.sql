WITH months AS (
    SELECT
        date_trunc('month', o.created_at AT TIME ZONE {{timezone}})::date AS month,
        count(*) AS orders,
        coalesce(sum(i.quantity), 0) AS items,
        count(DISTINCT o.customer_id) AS customers,
        count(*) FILTER (WHERE s.sold) AS sold_orders,
        round(coalesce(sum(o.total_amount) FILTER (WHERE s.sold), 0), 2) AS revenue
    FROM orders o
    CROSS JOIN LATERAL (
        SELECT coalesce(o.status::text, '') <> ALL (
            ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
        ) AS sold
    ) s
    LEFT JOIN (SELECT order_id, sum(quantity) AS quantity FROM order_items GROUP BY order_id) i ON i.order_id = o.id
    GROUP BY 1
)
SELECT
    m.month,
    m.orders,
    m.items,
    m.customers,
    m.revenue,
    round(div(m.revenue * 1000, nullif(m.sold_orders, 0)) / 1000, 2) AS average_order_value,
    m.revenue - p.revenue AS revenue_change
FROM months m
LEFT JOIN months p ON p.month = (m.month - interval '1 month')::date
ORDER BY m.month
