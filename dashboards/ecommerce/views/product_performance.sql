-- One row a product, those never sold too. Everything is of orders that were
-- neither cancelled nor refunded. revenue is what the lines came to (quantity
-- times unit price), revenue_share a fraction of the total of all products.
SELECT
    r.product_id AS product_id,
    r.sku AS sku,
    r.name AS name,
    r.category AS category,
    r.units_sold AS units_sold,
    r.orders AS orders,
    r.customers AS customers,
    r.revenue AS revenue,
    -- Decimal division cuts off, and rounding half up needs one digit more alone.
    CAST(round(CAST(r.revenue AS Decimal(38, 7)) / nullIf(sum(r.revenue) OVER (), 0), 6) AS Nullable(Decimal(38, 6)))
        AS revenue_share,
    CAST(round(CAST(r.revenue AS Decimal(38, 3)) / nullIf(r.units_sold, 0), 2) AS Nullable(Decimal(38, 2)))
        AS average_unit_price,
    r.last_sold_at AS last_sold_at
FROM (
    SELECT
        p.id AS product_id,
        p.sku AS sku,
        p.name AS name,
        p.category AS category,
        ifNull(s.units_sold, 0) AS units_sold,
        ifNull(s.orders, 0) AS orders,
        ifNull(s.customers, 0) AS customers,
        CAST(round(ifNull(s.revenue, 0), 2) AS Decimal(38, 2)) AS revenue,
        s.last_sold_at AS last_sold_at
    FROM {{database}}.products_current AS p
    ALL LEFT JOIN (
        SELECT
            assumeNotNull(i.product_id) AS product_id,
            sum(toInt64(i.quantity)) AS units_sold,
            uniqExact(t.order_id) AS orders,
            uniqExact(t.customer_id) AS customers,
            ifNull(sum(toDecimal128(i.unit_price, 6) * toInt64(i.quantity)), 0) AS revenue,
            toNullable(max(t.created_at)) AS last_sold_at
        FROM {{database}}.order_items_current AS i
        ALL INNER JOIN {{database}}.order_totals AS t ON t.order_id = i.order_id
        WHERE t.is_sold = 1 AND i.product_id IS NOT NULL
        GROUP BY product_id
    ) AS s ON s.product_id = p.id
) AS r
ORDER BY product_id
SETTINGS {{settings}}
