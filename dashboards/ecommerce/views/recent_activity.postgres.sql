WITH clock AS (
    SELECT {{as_of}}::timestamptz AS as_of, {{as_of}}::timestamptz - interval '24 hours' AS since
)
SELECT
    o.created_at AS occurred_at,
    'order_placed' AS kind,
    'order' AS entity,
    o.id::text AS entity_id,
    concat('Order ', o.id, ' placed') AS summary,
    round(o.total_amount, 2) AS amount
FROM orders o, clock
WHERE o.created_at > clock.since AND o.created_at <= clock.as_of
UNION ALL
SELECT
    o.updated_at,
    'order_changed',
    'order',
    o.id::text,
    concat('Order ', o.id, ' is ', o.status),
    round(o.total_amount, 2)
FROM orders o, clock
WHERE o.updated_at > clock.since AND o.updated_at <= clock.as_of AND o.updated_at > o.created_at
UNION ALL
SELECT
    c.created_at,
    'customer_joined',
    'customer',
    c.id::text,
    concat(c.name, ' joined'),
    NULL
FROM customers c, clock
WHERE c.created_at > clock.since AND c.created_at <= clock.as_of
UNION ALL
SELECT
    p.updated_at,
    'product_changed',
    'product',
    p.id::text,
    concat(p.sku, ' ', p.name),
    round(p.price, 2)
FROM products p, clock
WHERE p.updated_at > clock.since AND p.updated_at <= clock.as_of
ORDER BY occurred_at DESC, kind, entity_id
