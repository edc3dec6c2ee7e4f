SELECT
    o.customer_id,
    o.id AS order_id,
    o.created_at,
    coalesce(o.status::text, '') AS status,
    coalesce(i.quantity, 0) AS items,
    o.total_amount
FROM orders o
LEFT JOIN (SELECT order_id, sum(quantity) AS quantity FROM order_items GROUP BY order_id) i ON i.order_id = o.id
