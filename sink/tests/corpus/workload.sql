-- The changes of the recorded events.
-- streamed changes; each statement is its own transaction unless BEGIN
INSERT INTO customers(email,full_name,tags,credit_limit) VALUES ('new1@example.com','New One','{}',0.01),('new2@example.com','New Two','{x,y}',-12345.67);
UPDATE customers SET phone=NULL, updated_at=timestamp '2024-06-01 10:00:00.5', credit_limit=9999999999.99 WHERE id=1;
UPDATE customers SET email='renamed@example.com' WHERE id=2;
UPDATE customers SET id=1000 WHERE id=13;                         -- primary key change
DELETE FROM customers WHERE id=14;
-- TOASTed column unchanged: before null, description = __debezium_unavailable_value
UPDATE products SET price=price+1 WHERE id=1;
UPDATE products SET price=price+1, description='now short' WHERE id=2;
UPDATE products SET cost=NULL, rating='-Infinity' WHERE id=5;
UPDATE products SET cost=123456789012345678901234567890.123456789 WHERE id=6;
INSERT INTO products(sku,name,price,created_at) VALUES ('SKU-OLD','ancient',0,timestamptz '0044-03-15 12:00:00+00 BC'),('SKU-FUT','far',1,'infinity');
BEGIN;
INSERT INTO orders(id,customer_id,total,note) VALUES (100,3,59.97,'multi-row tx');
INSERT INTO order_items VALUES (100,1,1,1,19.99,0),(100,2,2,1,19.99,0),(100,3,3,1,19.99,0.1);
UPDATE orders SET total=60.00, updated_at=now() WHERE id=100;
COMMIT;
UPDATE orders SET status='shipped' WHERE id IN (1,2,3,4);
UPDATE orders SET status='cancelled', total=0 WHERE id=5;
DELETE FROM order_items WHERE order_id=5;
DELETE FROM orders WHERE id=5;
BEGIN; INSERT INTO orders(customer_id,total) VALUES (4,1); ROLLBACK;
UPDATE order_items SET qty=qty+1 WHERE order_id=1;
UPDATE order_items SET order_id=200 WHERE order_id=10;            -- part of a composite key
INSERT INTO audit_log(actor,action) VALUES ('web','login'),('web',E'tab\tnew\nline \\ "quote" \u2028 😀');
UPDATE audit_log SET action='x' WHERE actor='sys';
DELETE FROM audit_log WHERE actor='sys';
SELECT pg_logical_emit_message(true,'ecom','{"hello":"world"}');
-- schema change
ALTER TABLE orders ADD COLUMN coupon text;
UPDATE orders SET coupon='SAVE10' WHERE id=1;
INSERT INTO orders(customer_id,total,coupon) VALUES (6,77.70,'NEW');
ALTER TABLE orders ADD COLUMN priority smallint NOT NULL DEFAULT 3;
UPDATE orders SET priority=1 WHERE id=2;
ALTER TABLE orders DROP COLUMN note;
UPDATE orders SET total=total+1 WHERE id=3;
ALTER TABLE order_items ALTER COLUMN qty TYPE bigint;
UPDATE order_items SET qty=5000000000 WHERE order_id=2;
ALTER TABLE orders ALTER COLUMN total TYPE numeric(20,4);
UPDATE orders SET total=1234567890123456.7891 WHERE id=4;
ALTER TABLE customers RENAME COLUMN phone TO phone_number;
UPDATE customers SET phone_number='+1' WHERE id=4;
ALTER TYPE order_status ADD VALUE 'returned';
UPDATE orders SET status='returned' WHERE id=6;
TRUNCATE audit_log;
INSERT INTO audit_log(actor,action) VALUES ('after','truncate');
INSERT INTO orders(customer_id,total,status,placed_at) SELECT 1+i%9, i*1.11, 'pending', timestamptz '2025-01-01'+i*interval '1 hour' FROM generate_series(1,25) i;
UPDATE orders SET status='paid', updated_at=now() WHERE id>10 AND id<40 AND id%3=0;
DELETE FROM orders WHERE id IN (20,21,22);
INSERT INTO orders(id,customer_id,total) VALUES (20,1,42);         -- re-insert a deleted key
INSERT INTO debezium_signal VALUES ('inc-1','execute-snapshot','{"data-collections":["public.products"],"type":"incremental"}');
