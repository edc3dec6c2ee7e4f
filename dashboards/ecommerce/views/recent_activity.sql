-- One row a change of the last 24 hours, as far as current rows tell: an order
-- placed, an order last changed, a customer joined, a product last changed.
--
-- What changed is looked up in the state tables first, without FINAL: old
-- versions only add candidates, and `_current` then reads just those keys.
WITH
    {{as_of}} AS as_of,
    subtractHours(as_of, 24) AS since
SELECT
    a.occurred_at AS occurred_at,
    a.kind AS kind,
    a.entity AS entity,
    a.entity_id AS entity_id,
    a.summary AS summary,
    a.amount AS amount
FROM (
    SELECT
        o.created_at AS occurred_at,
        'order_placed' AS kind,
        'order' AS entity,
        toString(o.id) AS entity_id,
        concat('Order ', toString(o.id), ' placed') AS summary,
        CAST(round(toDecimal128(o.total_amount, 6), 2) AS Nullable(Decimal(38, 2))) AS amount
    FROM {{database}}.orders_current AS o
    WHERE o.created_at > since AND o.created_at <= as_of
    UNION ALL
    SELECT
        o.updated_at AS occurred_at,
        'order_changed' AS kind,
        'order' AS entity,
        toString(o.id) AS entity_id,
        concat('Order ', toString(o.id), ' is ', ifNull(toString(o.status), '')) AS summary,
        CAST(round(toDecimal128(o.total_amount, 6), 2) AS Nullable(Decimal(38, 2))) AS amount
    FROM {{database}}.orders_current AS o
    WHERE o.id IN (SELECT s.id FROM {{database}}.orders AS s WHERE s.updated_at > since AND s.updated_at <= as_of)
        AND o.updated_at > since AND o.updated_at <= as_of AND o.updated_at > o.created_at
    UNION ALL
    SELECT
        c.created_at AS occurred_at,
        'customer_joined' AS kind,
        'customer' AS entity,
        toString(c.id) AS entity_id,
        concat(ifNull(c.name, ''), ' joined') AS summary,
        CAST(NULL AS Nullable(Decimal(38, 2))) AS amount
    FROM {{database}}.customers_current AS c
    WHERE c.created_at > since AND c.created_at <= as_of
    UNION ALL
    SELECT
        p.updated_at AS occurred_at,
        'product_changed' AS kind,
        'product' AS entity,
        toString(p.id) AS entity_id,
        concat(ifNull(p.sku, ''), ' ', ifNull(p.name, '')) AS summary,
        CAST(round(toDecimal128(p.price, 6), 2) AS Nullable(Decimal(38, 2))) AS amount
    FROM {{database}}.products_current AS p
    WHERE p.id IN (SELECT s.id FROM {{database}}.products AS s WHERE s.updated_at > since AND s.updated_at <= as_of)
        AND p.updated_at > since AND p.updated_at <= as_of
) AS a
ORDER BY occurred_at DESC, kind, entity_id
SETTINGS {{settings}}
