-- The 50 customers with the most orders; at equal numbers by revenue, then by id.
SELECT
    row_number() OVER (ORDER BY m.orders DESC, m.revenue DESC, m.customer_id ASC) AS rank,
    m.customer_id AS customer_id,
    m.name AS name,
    m.email AS email,
    m.country AS country,
    m.orders AS orders,
    m.items AS items,
    m.revenue AS revenue,
    m.average_order_value AS average_order_value,
    m.first_order_at AS first_order_at,
    m.last_order_at AS last_order_at,
    m.days_since_last_order AS days_since_last_order,
    m.segment AS segment
FROM (
    SELECT *
    FROM {{database}}.customer_metrics
    WHERE orders > 0
    ORDER BY orders DESC, revenue DESC, customer_id ASC
    LIMIT 50
) AS m
ORDER BY rank
SETTINGS {{settings}}
