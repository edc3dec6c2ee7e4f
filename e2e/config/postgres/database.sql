-- Once a database that belongs to `shop`, connected to it, as the superuser.
GRANT CONNECT, CREATE ON DATABASE ${POSTGRES_DATABASE} TO tidemark;
ALTER SCHEMA public OWNER TO shop;
GRANT USAGE ON SCHEMA public TO tidemark;
ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT SELECT ON TABLES TO tidemark;
