-- Once a cluster, as the superuser.
--
-- `shop` is the application: it owns its databases and tables.
-- `tidemark` is the pipeline. It needs
--   REPLICATION        to make a slot and stream from it,
--   SELECT             on the captured tables, to read them,
--   pg_read_all_stats  to tell an idle source from one whose changes wait (other databases write into the same log),
--   CREATE             on the database, to make the publication (and a heartbeat table),
--   the tables' owner  as a group, since only an owner may add a table to a publication.
-- Where the last is too much, the owner makes the publication by hand and the
-- membership goes: with publication.autocreate.mode=disabled Debezium only reads it.
CREATE ROLE shop LOGIN PASSWORD '${POSTGRES_SHOP_PASSWORD}';
CREATE ROLE tidemark LOGIN REPLICATION PASSWORD '${POSTGRES_TIDEMARK_PASSWORD}' IN ROLE shop;
GRANT pg_read_all_stats TO tidemark;
