//! The questions to PostgreSQL's catalogues, for servers from 14 on.
//!
//! What only newer servers have is asked through `to_jsonb(row)`, which has the columns that there are.

/// One snapshot for all that follows.
///
/// Names of types are printed with their schema where it is not on the search path, so that is one for all roles.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = public; SET LOCAL row_security = on";

/// Not every role may read it.
pub(super) const CONTROL: &str = "
SELECT s.system_identifier::text AS system_identifier, c.timeline_id AS timeline
FROM pg_control_system() s, pg_control_checkpoint() c";

pub(super) const POSITION: &str = "
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::bigint AS lsn";

/// Whoever alters a table holds this lock until its transaction ends; prepared ones too.
pub(super) const LOCKED: &str = "
SELECT DISTINCT l.relation AS relation FROM pg_locks l
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted AND l.relation IS NOT NULL
  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())";

pub(super) const SERVER: &str = "
SELECT current_setting('server_version_num')::int AS version,
       current_setting('wal_level') AS wal_level,
       pg_is_in_recovery() AS in_recovery,
       current_setting('server_encoding') AS encoding,
       ARRAY(SELECT format('%I.%I', n.nspname, t.typname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
             WHERE t.typcategory = 'E' AND NOT EXISTS (SELECT FROM pg_enum e WHERE e.enumtypid = t.oid)
               AND n.nspname <> 'pg_catalog' ORDER BY 1) AS enums_without_labels,
       current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots) AS free_slots,
       current_setting('max_wal_senders')::bigint - (SELECT count(*) FROM pg_stat_replication) AS free_senders,
       (SELECT s.setting::bigint FROM pg_settings s WHERE s.name = 'wal_sender_timeout') AS sender_timeout,
       (SELECT s.setting::bigint FROM pg_settings s WHERE s.name = 'max_slot_wal_keep_size') AS wal_keep_mib,
       r.rolreplication OR r.rolsuper OR EXISTS (
         SELECT FROM pg_roles p WHERE p.rolname IN ('rds_replication', 'rdsrepladmin', 'rds_superuser', 'rdsadmin')
           AND pg_has_role(r.oid, p.oid, 'MEMBER')) AS may_replicate,
       ARRAY(SELECT p.rolname::text FROM pg_roles p
             WHERE p.rolname IN ('rds_replication', 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin')) AS providers,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       current_user::text AS role,
       current_database()::text AS database,
       (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AS database_oid,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::bigint AS lsn,
       (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now_ms
FROM pg_roles r WHERE r.rolname = current_user";

/// One row a wanted relation that exists. The owner's members may publish it as the owner may.
pub(super) const TABLES: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid AS oid, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relreplident::text AS identity,
       coalesce((SELECT a.amname::text FROM pg_am a WHERE a.oid = c.relam), '') AS access_method,
       c.relfilenode AS file,
       c.relkind IN ('r', 'p') AND row_security_active(c.oid) AS row_security,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_select,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_get_userbyid(c.relowner)::text AS owner,
       c.reltuples::bigint AS estimated_rows,
       (c.relpages + coalesce((SELECT kept.relpages FROM pg_class kept WHERE kept.oid = c.reltoastrelid), 0))
         * current_setting('block_size')::bigint AS estimated_bytes,
       (SELECT md5(coalesce(string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum), ''))
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns_hash,
       c.relispartition AS is_partition,
       root.nspname AS root_schema, root.relname AS root_name,
       child.nspname AS child_schema, child.relname AS child_name
FROM unnest($1::text[], $2::text[]) AS w(schema, name)
JOIN pg_namespace n ON n.nspname = w.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
LEFT JOIN LATERAL (
  SELECT rn.nspname::text, rc.relname::text FROM pg_class rc JOIN pg_namespace rn ON rn.oid = rc.relnamespace
  WHERE c.relispartition AND rc.oid = pg_partition_root(c.oid)) AS root ON true
LEFT JOIN LATERAL (
  SELECT hn.nspname::text, hc.relname::text FROM pg_inherits h
  JOIN pg_class hc ON hc.oid = h.inhrelid JOIN pg_namespace hn ON hn.oid = hc.relnamespace
  WHERE c.relkind <> 'p' AND h.inhparent = c.oid ORDER BY 1, 2 LIMIT 1) AS child ON true";

/// What the given tables' values and events hang on beside their own columns: labels of enums, attributes of composite
/// types, the name of the table, which its row type shares, and the indexes that can be its key, or that of a leaf. Each with
/// the transactions that wrote it, since all of them can be changed and changed back between two looks, and meanwhile events
/// have the other label, name or key. `REPLICA IDENTITY` writes the rows of the indexes that it makes or leaves the identity.
pub(super) const DEFINITIONS: &str = "
WITH RECURSIVE used(oid, typ) AS (
  SELECT a.attrelid, a.atttypid FROM pg_attribute a
  WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT u.oid, part.typ FROM used u JOIN pg_type t ON t.oid = u.typ
  CROSS JOIN LATERAL (
    SELECT t.typelem UNION ALL SELECT t.typbasetype
    UNION ALL SELECT a.atttypid FROM pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE t.typtype IN ('r', 'm') AND t.oid IN (r.rngtypid, r.rngmultitypid)
  ) AS part(typ)
  WHERE part.typ <> 0
)
SELECT u.oid AS oid, 'e' || e.oid AS key, e.xmin::text || ' ' || e.enumlabel::text AS value
FROM used u JOIN pg_enum e ON e.enumtypid = u.typ
UNION ALL
SELECT u.oid, 'c' || t.typrelid, coalesce(string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum), '')
FROM used u JOIN pg_type t ON t.oid = u.typ AND t.typtype = 'c'
LEFT JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0
GROUP BY 1, 2
UNION ALL
SELECT t.typrelid, 't' || t.oid, t.xmin::text FROM pg_type t WHERE t.typrelid = ANY ($1::oid[])
UNION ALL
-- Of columns and their elements: what the connector tells apart by name alone.
SELECT a.attrelid, 'n' || t.typname, string_agg(DISTINCT CASE t.typtype
    WHEN 'd' THEN 'b' || t.typbasetype WHEN 'b' THEN 'b' || t.oid ELSE t.typtype::text END, ',')
FROM pg_attribute a JOIN pg_type own ON own.oid = a.atttypid
JOIN pg_type t ON t.oid = CASE WHEN own.typcategory = 'A' AND own.typelem <> 0 AND own.typtype = 'b' THEN own.typelem ELSE own.oid END
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND t.typnamespace <> 'pg_catalog'::regnamespace
GROUP BY 1, 2
UNION ALL
SELECT r.oid, 'i' || i.indexrelid, i.xmin::text
FROM unnest($1::oid[]) AS r(oid)
CROSS JOIN LATERAL (SELECT r.oid AS relid UNION SELECT p.relid FROM pg_partition_tree(r.oid::regclass) p) AS part
JOIN pg_index i ON i.indrelid = part.relid
WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
UNION ALL
SELECT r.oid, 'k' || r.oid, coalesce(
  string_agg(i.indexrelid::text, ',' ORDER BY i.indexrelid) FILTER (WHERE i.indisreplident),
  string_agg(i.indexrelid::text, ',' ORDER BY i.indexrelid) FILTER (WHERE i.indisprimary),
  string_agg(i.indexrelid::text, ',' ORDER BY i.indexrelid), '')
FROM unnest($1::oid[]) AS r(oid)
LEFT JOIN pg_index i ON i.indrelid = r.oid AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY r.oid";

/// One row a leaf of the given partitioned tables. A leaf is `attached` where a row of `pg_inherits` on its way to the
/// root is younger than the leaf itself; the last one on it is of another transaction also where the leaf was made in a
/// savepoint. Within one transaction the commands tell: ATTACH writes the rows of all the
/// leaf's columns anew, with the one of `pg_inherits`, and `CREATE TABLE ... PARTITION OF` writes them once. Rows of
/// system columns are as old as the table: nothing rewrites them.
pub(super) const PARTITIONS: &str = "
WITH RECURSIVE tree AS (
  SELECT r.oid AS root, r.oid AS relid, ARRAY[]::xid[] AS xids, ARRAY[]::bigint[] AS cids
  FROM unnest($1::oid[]) AS r(oid)
  UNION ALL
  SELECT t.root, h.inhrelid, t.xids || h.xmin, t.cids || h.cmin::text::bigint
  FROM tree t JOIN pg_inherits h ON h.inhparent = t.relid
)
SELECT t.root AS root, n.nspname::text AS schema, c.relname::text AS name, c.oid AS oid, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relreplident::text AS identity, c.relfilenode AS file,
       array_to_string(t.xids, ',') AS links,
       coalesce((SELECT a.amname::text FROM pg_am a WHERE a.oid = c.relam), '') AS access_method,
       c.relkind = 'r' AND row_security_active(c.oid) AS row_security,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_select,
       c.reltuples::bigint AS estimated_rows,
       (c.relpages + coalesce((SELECT kept.relpages FROM pg_class kept WHERE kept.oid = c.reltoastrelid), 0))
         * current_setting('block_size')::bigint AS estimated_bytes,
       EXISTS (
         SELECT FROM pg_attribute a
         CROSS JOIN LATERAL unnest(t.xids, t.cids) WITH ORDINALITY AS link(xid, cid, depth)
         WHERE a.attrelid = c.oid AND a.attnum = -1
           AND (age(link.xid) < age(a.xmin)
                OR link.xid <> a.xmin AND link.depth = cardinality(t.xids)
                OR link.xid = a.xmin AND link.depth < cardinality(t.xids) AND link.cid > a.cmin::text::bigint
                OR link.xid = a.xmin AND link.depth = cardinality(t.xids)
                   AND (SELECT bool_and(u.xmin = link.xid AND u.cmin::text::bigint = link.cid) FROM pg_attribute u
                        WHERE u.attrelid = c.oid AND u.attnum > 0 AND NOT u.attisdropped))) AS attached
FROM tree t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.relid <> t.root AND c.relkind <> 'p'
ORDER BY 2, 3";

/// One row a unique index that covers all rows with plain columns.
pub(super) const INDEXES: &str = "
SELECT i.indrelid AS oid, x.relname::text AS name, i.indisprimary AS is_primary, i.indisreplident AS is_identity,
       i.indimmediate AS immediate, i.indisvalid AND i.indisready AND i.indislive AS valid,
       k.names AS columns, k.not_null AS not_null
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
CROSS JOIN LATERAL (
  SELECT array_agg(a.attname::text ORDER BY u.ord) AS names, bool_and(a.attnotnull) AS not_null
  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u(attnum, ord)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
  WHERE u.ord <= i.indnkeyatts) AS k
WHERE i.indrelid = ANY($1::oid[]) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indrelid, x.relname";

/// One row a live column. Domains are unfolded to their base type; an array's kind is that of its elements,
/// so that an array of enums is known as one.
///
/// What rows from before a column have in it is kept where the rows are: of a partitioned table with its leaves, by the name of
/// the column, since its number may be another there. One that was made later keeps nothing.
pub(super) const COLUMNS: &str = "
WITH RECURSIVE wanted AS (
  SELECT a.attrelid, a.attnum, a.attname::text AS name, a.attnotnull, a.attcollation,
         CASE WHEN c.relkind <> 'p' THEN a.attmissingval::text ELSE (
           SELECT CASE WHEN count(DISTINCT l.attmissingval::text) = 1 THEN min(l.attmissingval::text) END
           FROM pg_partition_tree(c.oid::regclass) p
           JOIN pg_attribute l ON l.attrelid = p.relid AND l.attname = a.attname AND NOT l.attisdropped
           WHERE p.isleaf) END AS missing,
         a.attndims::int AS attndims,
         a.attgenerated, a.atthasdef, a.atttypid AS own, a.atttypid AS typ, a.atttypmod AS typmod,
         ARRAY[]::text[] AS domains
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT w.attrelid, w.attnum, w.name, w.attnotnull, w.attcollation, w.missing,
         greatest(w.attndims, t.typndims::int), w.attgenerated, w.atthasdef, w.own, t.typbasetype, t.typtypmod,
         w.domains || format_type(t.oid, NULL)
  FROM wanted w JOIN pg_type t ON t.oid = w.typ WHERE t.typtype = 'd'
), named AS (
  -- What the connector tells apart by name alone. Row types of tables are none that a column is looked up by.
  SELECT t.oid, t.typname, n.nspname,
         CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END AS what,
         CASE t.typtype WHEN 'd' THEN 'b' || t.typbasetype WHEN 'b' THEN 'b' || t.oid ELSE t.typtype::text END AS sort
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.typtype <> 'p' AND n.nspname <> 'information_schema'
    AND (t.typtype <> 'c' OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
), elements AS (
  SELECT t.oid AS array_type, t.typelem AS typ, NULL::int AS typmod FROM pg_type t
  WHERE t.typcategory = 'A' AND t.typelem <> 0 AND t.oid IN (SELECT w.typ FROM wanted w)
  UNION ALL
  SELECT e.array_type, t.typbasetype, t.typtypmod FROM elements e JOIN pg_type t ON t.oid = e.typ WHERE t.typtype = 'd'
)
SELECT w.attrelid AS oid, w.attnum AS attnum, w.name AS name,
       format_type(w.typ, w.typmod) AS type_name,
       CASE WHEN o.typtype = 'd' AND e.oid IS NULL AND b.typtype = 'b' THEN 'd'
            ELSE coalesce(e.typtype, b.typtype) END::text AS type_kind,
       w.domains AS domains,
       (SELECT format_type(l.typ, l.typmod) FROM elements l JOIN pg_type t ON t.oid = l.typ
        WHERE l.array_type = w.typ AND t.typtype <> 'd') AS element,
       w.attndims AS dimensions,
       w.attgenerated::text AS generated,
       NOT w.attnotnull AS nullable,
       -- The driver tells Debezium that such a column is NOT NULL.
       CASE WHEN w.attnotnull OR w.attgenerated <> '' OR o.typtype <> 'd' OR NOT o.typnotnull THEN 'Null'
            WHEN w.atthasdef THEN 'Default' ELSE 'Empty' END AS null_as,
       (w.missing::text[])[1] AS missing,
       -- Its own type, or an array's elements', and another kind of type that has the same name elsewhere.
       (SELECT format('%s %I.%I and %s %I.%I', own.what, own.nspname, own.typname, other.what, other.nspname, other.typname)
        FROM named own JOIN named other ON other.typname = own.typname AND other.sort <> own.sort
        WHERE own.oid = CASE WHEN o.typcategory = 'A' AND o.typelem <> 0 AND o.typtype = 'b' THEN o.typelem ELSE o.oid END
        ORDER BY 1 LIMIT 1) AS namesake,
       coalesce((SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = w.attcollation), true) AS deterministic
FROM wanted w
JOIN pg_type o ON o.oid = w.own
JOIN pg_type b ON b.oid = w.typ AND b.typtype <> 'd'
LEFT JOIN pg_type e ON b.typcategory = 'A' AND e.oid = b.typelem
ORDER BY w.attrelid, w.attnum";

pub(super) const PUBLICATION: &str = "
SELECT p.oid AS oid, p.oid || ':' || p.xmin::text AS version,
       age(p.xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::xid) AS settled, p.puballtables AS all_tables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AS all_operations,
       p.pubviaroot AS via_root,
       coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's' AS generated,
       to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL AS has_schemas,
       coalesce(obj_description(p.oid, 'pg_publication'), '') AS comment
FROM pg_publication p WHERE p.pubname = $1";

/// The tables that a publication names, roots of partitioned ones as such. One is settled once every transaction is over that
/// was open when it was published, prepared ones too: what such a one wrote before is in no event, whenever it commits, since
/// the server decodes each change by the publication of its moment.
pub(super) const PUBLISHED: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name, r.oid || ':' || r.xmin::text AS version,
       age(r.xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::xid) AS settled,
       coalesce(to_jsonb(r) ->> 'prattrs', '') <> '' AS column_list,
       coalesce(to_jsonb(r) ->> 'prqual', '') <> '' AS row_filter
FROM pg_publication p
JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = $1";

pub(super) const PUBLISHED_SCHEMAS: &str = "
SELECT n.nspname::text AS schema, s.oid || ':' || s.xmin::text AS version,
       age(s.xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::xid) AS settled
FROM pg_publication p
JOIN pg_publication_namespace s ON s.pnpubid = p.oid
JOIN pg_namespace n ON n.oid = s.pnnspid
WHERE p.pubname = $1";

pub(super) const SLOT: &str = "
SELECT coalesce(s.database::text, '') AS database, coalesce(s.plugin::text, '') AS plugin,
       s.active AS active, s.active_pid AS active_pid, coalesce(s.wal_status, 'lost') AS wal_status,
       CASE WHEN pg_is_in_recovery() OR s.restart_lsn IS NULL THEN 0
            ELSE greatest(0, pg_current_wal_lsn() - s.restart_lsn)::bigint END AS retained,
       coalesce((s.confirmed_flush_lsn - '0/0'::pg_lsn)::bigint, 0) AS confirmed,
       -- Of another role's connection it is NULL, unless ours may read all statistics.
       coalesce((r.write_lsn - '0/0'::pg_lsn)::bigint, 0) AS received
FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = $1";

/// Locks on transaction ids are for all to see, the activity behind them is not.
pub(super) const OPEN_TRANSACTIONS: &str = "
SELECT * FROM (
  SELECT l.pid AS pid, '' AS gid, coalesce(a.usename::text, '') AS user, coalesce(a.datname::text, '') AS database,
         (extract(epoch FROM a.xact_start) * 1000)::bigint AS since_ms, age(l.transactionid) AS age
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
  WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
    AND l.virtualtransaction NOT LIKE '-1/%' AND l.pid <> pg_backend_pid()
  UNION ALL
  SELECT NULL, p.gid, p.owner::text, p.database::text, (extract(epoch FROM p.prepared) * 1000)::bigint, age(p.transaction)
  FROM pg_prepared_xacts p
) AS open ORDER BY age DESC LIMIT 20";
