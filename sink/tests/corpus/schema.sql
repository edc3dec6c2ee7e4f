-- The tables of the recorded events, and the rows that their snapshot saw.
CREATE TYPE order_status AS ENUM ('pending','paid','shipped','delivered','cancelled');
CREATE TABLE customers (
  id bigserial PRIMARY KEY, external_id uuid NOT NULL DEFAULT gen_random_uuid(), email text NOT NULL UNIQUE, full_name varchar(120) NOT NULL,
  phone text, address jsonb, tags text[] NOT NULL DEFAULT '{}', scores int[], birth_date date, is_vip boolean NOT NULL DEFAULT false,
  credit_limit numeric(12,2) NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamp(3));
CREATE TABLE products (
  id bigserial PRIMARY KEY, sku text NOT NULL UNIQUE, name text NOT NULL, description text, price numeric(10,2) NOT NULL, cost numeric,
  weight_kg real, rating double precision, attrs jsonb, image bytea, shelf_time time, lead_time interval, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE orders (
  id bigserial PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers(id), status order_status NOT NULL DEFAULT 'pending',
  currency char(3) NOT NULL DEFAULT 'EUR', total numeric(14,2) NOT NULL DEFAULT 0, note text, ship_to jsonb, ip inet,
  placed_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE order_items (
  order_id bigint NOT NULL, line_no smallint NOT NULL, product_id bigint NOT NULL REFERENCES products(id), qty int NOT NULL,
  unit_price numeric(10,2) NOT NULL, discount numeric(5,4) NOT NULL DEFAULT 0, PRIMARY KEY (order_id, line_no));
CREATE TABLE audit_log (at timestamptz NOT NULL DEFAULT now(), actor text, action text);   -- no primary key
CREATE TABLE debezium_signal (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text);
ALTER TABLE orders REPLICA IDENTITY FULL;
ALTER TABLE audit_log REPLICA IDENTITY FULL;
-- rows the snapshot sees
INSERT INTO customers(email,full_name,phone,address,tags,scores,birth_date,is_vip,credit_limit,updated_at)
 SELECT 'c'||i||'@example.com','Customer "'||i||'" Ünï 漢字', CASE WHEN i%3=0 THEN NULL ELSE '+49'||i END, jsonb_build_object('city','Köln','zip',50000+i,'geo',jsonb_build_array(50.9,6.9)),
 ARRAY['t'||i,'a,b','with "q"'], CASE WHEN i%2=0 THEN ARRAY[1,NULL,i] END, date '1970-01-01'+(i*400-4000), i%5=0, i*1000.05, timestamp '2024-01-01 00:00:00.123' FROM generate_series(1,12) i;
INSERT INTO products(sku,name,description,price,cost,weight_kg,rating,attrs,image,shelf_time,lead_time)
 SELECT 'SKU-'||i,'Product '||i, CASE WHEN i<=2 THEN (SELECT string_agg(md5((g*i)::text),'') FROM generate_series(1,100) g) ELSE 'short '||i END, i*9.99, i*1.234567890123456789, i*0.5, CASE i WHEN 3 THEN 'NaN'::float8 WHEN 4 THEN 'Infinity'::float8 ELSE 4.5 END,
 jsonb_build_object('color','red','n',i), decode('deadbeef','hex'), time '08:30:15.5', interval '1 day 2 hours 3.5 seconds' FROM generate_series(1,10) i;
ALTER TABLE products ALTER COLUMN description SET STORAGE EXTERNAL;
UPDATE products SET description=description||'' WHERE id<=2;
INSERT INTO orders(customer_id,status,total,note,ship_to,ip,placed_at) SELECT 1+i%12,'paid',i*19.99,CASE WHEN i%2=0 THEN 'note '||i END,'{"a": 1, "big": 12345678901234567890, "f": 1.10}','10.0.0.1', timestamptz '2024-02-29 23:59:59.999999+02' FROM generate_series(1,12) i;
INSERT INTO order_items SELECT o,l,1+(o+l)%10,l,9.99,0.0500 FROM generate_series(1,10) o, generate_series(1,2) l;
INSERT INTO audit_log(actor,action) VALUES ('sys','init');
