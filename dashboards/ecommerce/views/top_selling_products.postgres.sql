WITH ranked AS (
    SELECT
        r.product_id,
        r.sku,
        r.name,
        r.category,
        r.units_sold,
        r.orders,
        r.customers,
        r.revenue,
        round(div(r.revenue * 10000000, nullif(sum(r.revenue) OVER (), 0)) / 10000000, 6) AS revenue_share,
        round(div(r.revenue * 1000, nullif(r.units_sold, 0)) / 1000, 2) AS average_unit_price,
        r.last_sold_at
    FROM (
        SELECT
            p.id AS product_id,
            p.sku,
            p.name,
            p.category,
            coalesce(s.units_sold, 0) AS units_sold,
            coalesce(s.orders, 0) AS orders,
            coalesce(s.customers, 0) AS customers,
            round(coalesce(s.revenue, 0), 2) AS revenue,
            s.last_sold_at
        FROM products p
        LEFT JOIN (
            SELECT
                i.product_id,
                coalesce(sum(i.quantity), 0) AS units_sold,
                count(DISTINCT o.id) AS orders,
                count(DISTINCT o.customer_id) AS customers,
                sum(i.unit_price * i.quantity) AS revenue,
                max(o.created_at) AS last_sold_at
            FROM order_items i
            JOIN orders o ON o.id = i.order_id
            WHERE coalesce(o.status::text, '') <> ALL (
                ARRAY[{{cancelled_statuses}}]::text[] || ARRAY[{{refunded_statuses}}]::text[]
            )
            GROUP BY i.product_id
        ) s ON s.product_id = p.id
    ) r
)
SELECT row_number() OVER (ORDER BY units_sold DESC, revenue DESC, product_id) AS rank, ranked.*
FROM ranked
WHERE units_sold > 0
ORDER BY rank
LIMIT 20
