-- The two roles of dosi in this database (docs/security.md). Run once by an administrator, before `dosi migrate`:
--
--   psql --set=ON_ERROR_STOP=1 --file=roles.sql dos
--
-- Other names: --set=dosi=NAME --set=dosi_migrate=NAME. Neither role gets a password here: `\password dosi`, or a
-- certificate. Safe to run again.
\if :{?dosi} \else
    \set dosi dosi
\endif
\if :{?dosi_migrate} \else
    \set dosi_migrate dosi_migrate
\endif

SELECT format('CREATE ROLE %I LOGIN', wanted.name) FROM (VALUES (:'dosi'), (:'dosi_migrate')) AS wanted(name)
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) \gexec

-- For `dosi run` and `dosi position`: no more than to come in. What it may do then is in grants.sql.
GRANT CONNECT ON DATABASE :"DBNAME" TO :"dosi";
-- For `dosi migrate`: makes schema dos_integration and owns it; sees nothing of DoS.
GRANT CONNECT, CREATE ON DATABASE :"DBNAME" TO :"dosi_migrate";
