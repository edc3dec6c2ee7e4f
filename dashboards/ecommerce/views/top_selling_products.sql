-- The 20 products with the most units sold; at equal numbers by revenue, then by id.
SELECT
    row_number() OVER (ORDER BY p.units_sold DESC, p.revenue DESC, p.product_id ASC) AS rank,
    p.product_id AS product_id,
    p.sku AS sku,
    p.name AS name,
    p.category AS category,
    p.units_sold AS units_sold,
    p.orders AS orders,
    p.customers AS customers,
    p.revenue AS revenue,
    p.revenue_share AS revenue_share,
    p.average_unit_price AS average_unit_price,
    p.last_sold_at AS last_sold_at
FROM (
    SELECT *
    FROM {{database}}.product_performance
    WHERE units_sold > 0
    ORDER BY units_sold DESC, revenue DESC, product_id ASC
    LIMIT 20
) AS p
ORDER BY rank
SETTINGS {{settings}}
