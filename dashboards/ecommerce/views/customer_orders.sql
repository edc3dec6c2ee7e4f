-- One row an order, found by its customer at once: what a page about one customer lists.
SELECT
    t.customer_id AS customer_id,
    t.order_id AS order_id,
    t.created_at AS created_at,
    t.status AS status,
    t.items AS items,
    t.total_amount AS total_amount
FROM {{database}}.order_totals AS t
SETTINGS {{settings}}
