//! Whether a database is fit to work on: the DoS tables, our schema, and the rights on both.

use deadpool_postgres::GenericClient;

use super::{Fault, Result, migrations};

/// What is missing, one line each. All but [`SetupFault::Database`] only a person can mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupFault {
    #[error("DOSI_DATABASE_URL: the database is encoded in {found}, which cannot hold every event: it must be UTF8")]
    Encoding { found: String },
    #[error("DOSI_DATABASE_SCHEMA: the database has no DoS tables in schema {schema} (no {table})")]
    NoDos { schema: String, table: &'static str },
    #[error("the database has no schema dos_integration: run `dosi migrate`")]
    NotMigrated,
    #[error("schema dos_integration is at version {found}, version {needed} is needed: run `dosi migrate`")]
    Outdated { found: usize, needed: usize },
    #[error("role {role} lacks rights: {}", missing.join(", "))]
    RightsMissing { role: String, missing: Vec<String> },
    #[error(transparent)]
    Database(#[from] Fault),
}

/// Tables of DoS and what dosi does with them. Rows that go by cascade need no right; rows locked need UPDATE.
const DOS_RIGHTS: [(&str, &str); 15] = [
    ("services", "SELECT, UPDATE"),
    ("servicetypes", "SELECT"),
    ("servicestatuses", "SELECT"),
    ("openingtimedays", ""),
    ("servicedayopenings", "SELECT, INSERT, DELETE"),
    ("servicedayopeningtimes", "SELECT, INSERT"),
    ("servicespecifiedopeningdates", "SELECT, INSERT, UPDATE, DELETE"),
    ("servicespecifiedopeningtimes", "SELECT, INSERT, UPDATE"),
    ("servicesgsds", "SELECT, INSERT, DELETE"),
    ("symptomgroupsymptomdiscriminators", "SELECT"),
    ("servicehistories", "SELECT, INSERT, UPDATE"),
    ("changes", "SELECT, UPDATE"),
    ("users", "SELECT"),
    ("locations", "SELECT"),
    ("symptomdiscriminators", ""),
];

const OWN_RIGHTS: [(&str, &str); 6] = [
    ("dos_integration.consumer_position", "SELECT, INSERT, UPDATE"),
    ("dos_integration.outbox", "SELECT, INSERT, DELETE"),
    ("dos_integration.accepted_sequence", "SELECT, INSERT, UPDATE"),
    ("dos_integration.change_event_archive", "SELECT, INSERT"),
    ("dos_integration.mail_queue", "INSERT"),
    ("dos_integration.kept_history", "INSERT"),
];

/// Tables whose ids come from a sequence that dosi draws from.
const NUMBERED: [&str; 5] = [
    "servicedayopenings",
    "servicedayopeningtimes",
    "servicespecifiedopeningdates",
    "servicespecifiedopeningtimes",
    "servicesgsds",
];

/// Rights on single columns count too, as far as that can be said of a table.
const MISSING_RIGHTS: &str = "SELECT current_user::text, trim(p.privilege) || ' on ' || w.relation
    FROM unnest($1::text[], $2::text[]) AS w(relation, privileges),
        unnest(string_to_array(nullif(w.privileges, ''), ',')) AS p(privilege)
    WHERE NOT CASE WHEN trim(p.privilege) = 'DELETE' THEN has_table_privilege(w.relation, 'DELETE')
        ELSE has_any_column_privilege(w.relation, trim(p.privilege)) END";

/// The sequences are found by what the ids' defaults depend on, whoever owns them. `CASE` keeps other relations from being
/// asked about as sequences.
const MISSING_SEQUENCES: &str = "SELECT current_user::text, 'USAGE on sequence ' || s.oid::regclass::text
    FROM unnest($1::text[]) AS w(relation)
    JOIN pg_attrdef AS a ON a.adrelid = to_regclass(w.relation)
    JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class AS s ON s.oid = d.refobjid
    WHERE CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') ELSE false END";

/// Says whether dosi can work here; `schema` is the one of the DoS tables, which the session's search path names.
pub async fn check<C: GenericClient>(client: &C, schema: &str) -> std::result::Result<(), SetupFault> {
    encoding(client).await?;
    if let Some(table) = first_missing_table(client, schema).await? {
        return Err(SetupFault::NoDos { schema: schema.to_owned(), table });
    }
    match migrations::version(client).await? {
        None => return Err(SetupFault::NotMigrated),
        Some(found) if found < migrations::VERSION => {
            return Err(SetupFault::Outdated { found, needed: migrations::VERSION });
        }
        Some(_) => {}
    }
    rights(client).await
}

/// The archive refuses nothing (rule 1.5): an event with a character that the server cannot store would hold its partition for
/// ever.
async fn encoding<C: GenericClient>(client: &C) -> std::result::Result<(), SetupFault> {
    let encoding = "SELECT current_setting('server_encoding')";
    let row = client.query_one(encoding, &[]).await.map_err(Fault::from)?;
    let found: String = row.try_get(0).map_err(Fault::from)?;
    if found == "UTF8" { Ok(()) } else { Err(SetupFault::Encoding { found }) }
}

async fn first_missing_table<C: GenericClient>(client: &C, schema: &str) -> Result<Option<&'static str>> {
    let names: Vec<&str> = DOS_RIGHTS.iter().map(|(table, _)| *table).collect();
    let there = "SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p')";
    let rows = client.query(there, &[&schema, &names]).await?;
    let found = rows.iter().map(|row| row.try_get(0)).collect::<std::result::Result<Vec<String>, _>>()?;
    Ok(names.into_iter().find(|name| !found.iter().any(|found| found == name)))
}

async fn rights<C: GenericClient>(client: &C) -> std::result::Result<(), SetupFault> {
    let (relations, privileges): (Vec<&str>, Vec<&str>) = DOS_RIGHTS.iter().chain(&OWN_RIGHTS).copied().unzip();
    let mut rows = client.query(MISSING_RIGHTS, &[&relations, &privileges]).await.map_err(Fault::from)?;
    rows.extend(client.query(MISSING_SEQUENCES, &[&NUMBERED.as_slice()]).await.map_err(Fault::from)?);
    let Some(first) = rows.first() else { return Ok(()) };
    let role = first.try_get(0).map_err(Fault::from)?;
    let missing = rows.iter().map(|row| row.try_get(1)).collect::<std::result::Result<_, _>>().map_err(Fault::from)?;
    Err(SetupFault::RightsMissing { role, missing })
}
