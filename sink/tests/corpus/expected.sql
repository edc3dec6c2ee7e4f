-- What PostgreSQL holds after schema.sql and workload.sql, one row of text a table row, every value in the
-- form in which the test prints what the sink decoded: times as microseconds, dates as days, bytes as hex.
SELECT 'customers' AS "table", json_build_object(
  'id', id::text, 'external_id', external_id::text, 'email', email, 'full_name', full_name,
  'phone_number', phone_number, 'address', address::text, 'tags', to_json(tags)::text,
  'scores', to_json(coalesce(scores, '{}'))::text, 'birth_date', (birth_date - date '1970-01-01')::text,
  'is_vip', is_vip::text, 'credit_limit', credit_limit::text,
  'created_at', (extract(epoch FROM created_at) * 1000000)::bigint::text,
  'updated_at', (extract(epoch FROM updated_at) * 1000000)::bigint::text)::text AS "row" FROM customers
UNION ALL SELECT 'products', json_build_object(
  'id', id::text, 'sku', sku, 'name', name, 'description', description, 'price', price::text,
  'cost', cost::text, 'weight_kg', weight_kg::text, 'rating', rating::text, 'attrs', attrs::text,
  'image', encode(image, 'hex'), 'shelf_time', (extract(epoch FROM shelf_time) * 1000000)::bigint::text,
  'lead_time', (extract(epoch FROM lead_time) * 1000000)::bigint::text,
  -- What no DateTime64 holds is NULL in a nullable column.
  'created_at', CASE WHEN isfinite(created_at) AND created_at >= '1900-01-01Z'
                THEN (extract(epoch FROM created_at) * 1000000)::bigint::text END)::text FROM products
UNION ALL SELECT 'orders', json_build_object(
  'id', id::text, 'customer_id', customer_id::text, 'status', status::text, 'currency', currency::text,
  'total', total::text, 'ship_to', ship_to::text, 'ip', host(ip),
  'placed_at', (extract(epoch FROM placed_at) * 1000000)::bigint::text,
  'updated_at', (extract(epoch FROM updated_at) * 1000000)::bigint::text,
  'coupon', coupon, 'priority', priority::text)::text FROM orders
UNION ALL SELECT 'order_items', json_build_object(
  'order_id', order_id::text, 'line_no', line_no::text, 'product_id', product_id::text, 'qty', qty::text,
  'unit_price', unit_price::text, 'discount', discount::text)::text FROM order_items
UNION ALL SELECT 'audit_log', json_build_object(
  'at', (extract(epoch FROM at) * 1000000)::bigint::text, 'actor', actor, 'action', action)::text FROM audit_log
UNION ALL SELECT 'debezium_signal', json_build_object('id', id, 'type', type, 'data', data)::text
  FROM debezium_signal WHERE id NOT LIKE '%-%-%'
ORDER BY 1, 2
