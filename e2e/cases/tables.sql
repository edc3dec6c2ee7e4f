-- Ordinary tables and changes that a naive chain gets wrong. One block a case:
--   -- case NAME: what goes wrong in a naive chain | what is right
--   the table and its rows before the pipeline exists; then `-- later`: changes while it streams.
-- "Equal" means: the rows of TARGET_current are PostgreSQL's rows, column by column.
-- docs/testing.md says what the directives mean; further cases of each kind are in more.sql.

-- case null-default: NULL arrives as 'low' and 3 | NULL
-- expect equal
CREATE TABLE ticket(id int PRIMARY KEY, priority text DEFAULT 'low', stars smallint DEFAULT 3);
INSERT INTO ticket VALUES (1, NULL, NULL), (2, 'high', 5);
-- later
UPDATE ticket SET priority = NULL, stars = NULL WHERE id = 2;

-- case generated: NULL after the first update | left out and said (PostgreSQL 18: published), never NULL
-- expect equal
CREATE TABLE parcel(id int PRIMARY KEY, w int, h int, area int GENERATED ALWAYS AS (w * h) STORED);
INSERT INTO parcel(id, w, h) VALUES (1, 2, 3);
-- later
UPDATE parcel SET w = 5;

-- case rename: NULL in the renamed column when events of both names are in flight (seen under writers, equal in a quiet run) | equal
-- expect equal
CREATE TABLE person(id int PRIMARY KEY, phone text);
INSERT INTO person SELECT g, '0' || g FROM generate_series(1, 50) g;
-- load
UPDATE person SET phone = '0' || {n} WHERE id % 10 = {n} % 10;
UPDATE person SET mobile = '0' || {n} WHERE id % 10 = {n} % 10;
-- later
UPDATE person SET phone = '1' || id WHERE id < 10;
ALTER TABLE person RENAME COLUMN phone TO mobile;
INSERT INTO person VALUES (100, 'new');

-- case rename-reuse: both columns NULL, then an endless DUPLICATE_COLUMN | equal
-- expect equal
CREATE TABLE memo(id int PRIMARY KEY, body text);
INSERT INTO memo VALUES (1, 'a'), (2, 'b');
-- later
ALTER TABLE memo RENAME COLUMN body TO body_old;
ALTER TABLE memo ADD COLUMN body text;
UPDATE memo SET body = upper(body_old) WHERE id = 1;

-- case swap-names: both columns NULL in all rows | equal
-- expect equal
CREATE TABLE pair(id int PRIMARY KEY, a int, b int);
INSERT INTO pair VALUES (1, 10, 20);
-- later
ALTER TABLE pair RENAME a TO c; ALTER TABLE pair RENAME b TO a; ALTER TABLE pair RENAME c TO b;
INSERT INTO pair VALUES (2, 30, 40);

-- case drop-readd: row missing | equal
-- expect equal
CREATE TABLE gauge(id int PRIMARY KEY, v int NOT NULL);
INSERT INTO gauge VALUES (1, 1);
-- later
ALTER TABLE gauge DROP COLUMN v; INSERT INTO gauge VALUES (2);
ALTER TABLE gauge ADD COLUMN v text; INSERT INTO gauge VALUES (3, 'three');

-- case drop-create: (grant SELECT to the pipeline's role again) stale and missing rows, no new read | equal to the new table
-- expect equal
CREATE TABLE stage(id int PRIMARY KEY, a text, b text);
INSERT INTO stage VALUES (1, 'a', 'b');
-- later
DROP TABLE stage; CREATE TABLE stage(id int PRIMARY KEY, b text, a text); INSERT INTO stage(id, a, b) VALUES (2, 'A', 'B');

-- case volatile-default: old rows have the zero UUID | equal
-- expect equal
CREATE TABLE token(id int PRIMARY KEY);
INSERT INTO token SELECT g FROM generate_series(1, 20) g;
-- later
ALTER TABLE token ADD COLUMN secret uuid NOT NULL DEFAULT gen_random_uuid(), ADD COLUMN made timestamptz DEFAULT clock_timestamp();

-- case using: old values stay | equal
-- expect equal
CREATE TABLE price(id int PRIMARY KEY, cents int);
INSERT INTO price VALUES (1, 150), (2, 250);
-- later
ALTER TABLE price ALTER cents TYPE numeric(10, 2) USING cents / 100.0;

-- case to-text: updates end in the dead letters | equal
-- expect equal
CREATE TABLE area_code(id int PRIMARY KEY, code int);
INSERT INTO area_code VALUES (1, 30);
-- later
ALTER TABLE area_code ALTER code TYPE text USING code::text; UPDATE area_code SET code = '030';

-- case arrays: enum[] holds the table for ever, and every other table's first load with it; without that column: empty array for NULL,
-- for a TOASTed numeric[], for interval[]; [NULL, NULL] for int[][] | exact, or PostgreSQL's text
-- expect equal
CREATE TYPE flavour AS ENUM ('sweet', 'sour');
CREATE TABLE bag(id int PRIMARY KEY, n int, tags text[], nums numeric[], spans interval[], grid int[][], kinds flavour[]);
ALTER TABLE bag ALTER nums SET STORAGE EXTERNAL;
INSERT INTO bag SELECT 1, 0, NULL, array_agg(g * 1.5), '{1 day}', '{{1,2},{3,4}}', '{sweet}' FROM generate_series(1, 3000) g;
-- later
UPDATE bag SET n = 1;

-- case toast-kinds: bytea and hstore come back wrong, a key change loses the row | equal
-- expect equal
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE TABLE file(id int PRIMARY KEY, n int, raw bytea, attrs hstore, body text, doc jsonb);
ALTER TABLE file ALTER raw SET STORAGE EXTERNAL, ALTER attrs SET STORAGE EXTERNAL, ALTER body SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL;
INSERT INTO file SELECT 1, 0, decode(repeat('ab', 9000), 'hex'), hstore('k', repeat('v', 9000)), repeat('t', 9000), jsonb_build_object('k', repeat('j', 9000));
-- later
UPDATE file SET n = 1; UPDATE file SET id = 2; UPDATE file SET n = 2;

-- case toast-batch: three updates of a key meet in one batch; wrong by reading the code, equal in two runs | equal, by a test that puts them into one batch
-- expect equal
CREATE TABLE page(id int PRIMARY KEY, price int, body text);
ALTER TABLE page ALTER body SET STORAGE EXTERNAL;
INSERT INTO page SELECT g, 1, repeat('old', 4000) FROM generate_series(1, 30) g;
-- later
BEGIN; UPDATE page SET price = 2; UPDATE page SET body = repeat('new', 4000); UPDATE page SET price = 3; COMMIT;

-- case odd-types: base64 | PostgreSQL's text, or exact
-- expect equal
CREATE TYPE address AS (street text, house int);
CREATE TABLE odd(id int PRIMARY KEY, flags bit(5), bits varbit, pos pg_lsn, home address, marks int4multirange);
INSERT INTO odd VALUES (1, B'10110', B'11', '16/B374D848', ROW('Main', 7), '{[1,3),[7,9)}');

-- case edges: NULL, dead letters, table stopped | the policy of the spec, by default nothing stops
-- expect equal
CREATE TABLE contract(id int PRIMARY KEY, valid_to date NOT NULL DEFAULT '9999-12-31', at timestamptz NOT NULL DEFAULT 'infinity', born date, amount numeric(10, 2), ratio float8);
INSERT INTO contract(id, born, amount, ratio) VALUES (1, '0044-03-15 BC', 'NaN', '-Infinity');
-- later
INSERT INTO contract(id) SELECT g FROM generate_series(2, 40) g;

-- case identity-index: a delete leaves a ghost | equal, or refused with the ALTER TABLE that mends it
CREATE TABLE sku(id int PRIMARY KEY, code text NOT NULL UNIQUE);
ALTER TABLE sku REPLICA IDENTITY USING INDEX sku_code_key;
INSERT INTO sku VALUES (1, 'a'), (2, 'b');
-- later
DELETE FROM sku WHERE id = 1;

-- case identity-nothing, deferrable: PostgreSQL refuses the shop's own UPDATE | refused before it is published
-- expect refused
CREATE TABLE nothing_(id int PRIMARY KEY, v int); ALTER TABLE nothing_ REPLICA IDENTITY NOTHING;
CREATE TABLE later_(id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int);

-- case unique-only: refused | equal: a unique index of NOT NULL columns is a key
-- expect equal
CREATE TABLE reg(code text NOT NULL, v int); CREATE UNIQUE INDEX reg_code ON reg(code); ALTER TABLE reg REPLICA IDENTITY USING INDEX reg_code;
INSERT INTO reg VALUES ('a', 1);
-- later
UPDATE reg SET v = 2;

-- case unlogged, partitioned: no table of the pipeline starts | unlogged refused by name, partitioned equal, the others start
-- expect scratch refused
-- expect visit equal
CREATE UNLOGGED TABLE scratch(id int PRIMARY KEY);
CREATE TABLE visit(id int, day date, v int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO visit VALUES (1, '2026-01-05', 1);
-- later
UPDATE visit SET day = '2026-02-05' WHERE id = 1;
CREATE TABLE visit_3 PARTITION OF visit FOR VALUES FROM ('2026-03-01') TO ('2026-04-01'); INSERT INTO visit VALUES (2, '2026-03-02', 2);

-- case row-security: the first load sees a part, the stream all | refused, or read with a role that bypasses it
-- expect refused
CREATE TABLE tenant_order(id int PRIMARY KEY, tenant text); ALTER TABLE tenant_order ENABLE ROW LEVEL SECURITY;
CREATE POLICY one ON tenant_order USING (tenant = 'a');
INSERT INTO tenant_order VALUES (1, 'a'), (2, 'b'); ALTER TABLE tenant_order FORCE ROW LEVEL SECURITY;

-- case big-row: the connector fails, every table stops | equal up to the limit of the spec (at least 16 MiB)
-- expect equal
-- pipeline big
CREATE TABLE blob_(id int PRIMARY KEY, body text); ALTER TABLE blob_ ALTER body SET STORAGE EXTERNAL;
INSERT INTO blob_ VALUES (1, repeat('x', 1200000));
-- later
INSERT INTO blob_ VALUES (2, repeat('y', 9000000));

-- case message: rows after it never arrive, for all tables | nothing happens
-- expect equal
-- pipeline message
CREATE TABLE plain(id int PRIMARY KEY, v int);
INSERT INTO plain VALUES (1, 1);
-- later
SELECT pg_logical_emit_message(true, 'outbox', '{"any": "program"}'); INSERT INTO plain VALUES (2, 2);

-- case view-name: with preset Ecommerce a table of this name: "replace view daily_sales_summary" destroys the state table, and every
-- table of the pipeline is blind from then on | refused as a conflict; the table is never replaced
-- expect refused
-- pipeline ecommerce
CREATE TABLE daily_sales_summary(id int PRIMARY KEY, v text);
INSERT INTO daily_sales_summary VALUES (1, 'mine');
