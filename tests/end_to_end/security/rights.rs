//! The role of `deploy/postgres`: it can do what dosi needs, which every other test here relies on, and nothing else.

use std::collections::BTreeSet;

use tokio_postgres::NoTls;

use dosi_tests::planted;

use super::assert_refused;
use crate::support_faults::World;

/// Everything that the role may do to a table, on columns or the whole: what dosi itself asks for at its start.
const NEEDED: [(&str, &str); 41] = [
    ("pathwaysdos.changes", "SELECT"),
    ("pathwaysdos.changes", "UPDATE"),
    ("pathwaysdos.locations", "SELECT"),
    ("pathwaysdos.servicedayopenings", "DELETE"),
    ("pathwaysdos.servicedayopenings", "INSERT"),
    ("pathwaysdos.servicedayopenings", "SELECT"),
    ("pathwaysdos.servicedayopeningtimes", "INSERT"),
    ("pathwaysdos.servicedayopeningtimes", "SELECT"),
    ("pathwaysdos.servicehistories", "INSERT"),
    ("pathwaysdos.servicehistories", "SELECT"),
    ("pathwaysdos.servicehistories", "UPDATE"),
    ("pathwaysdos.services", "SELECT"),
    ("pathwaysdos.services", "UPDATE"),
    ("pathwaysdos.servicesgsds", "DELETE"),
    ("pathwaysdos.servicesgsds", "INSERT"),
    ("pathwaysdos.servicesgsds", "SELECT"),
    ("pathwaysdos.servicespecifiedopeningdates", "DELETE"),
    ("pathwaysdos.servicespecifiedopeningdates", "INSERT"),
    ("pathwaysdos.servicespecifiedopeningdates", "SELECT"),
    ("pathwaysdos.servicespecifiedopeningdates", "UPDATE"),
    ("pathwaysdos.servicespecifiedopeningtimes", "INSERT"),
    ("pathwaysdos.servicespecifiedopeningtimes", "SELECT"),
    ("pathwaysdos.servicespecifiedopeningtimes", "UPDATE"),
    ("pathwaysdos.servicestatuses", "SELECT"),
    ("pathwaysdos.servicetypes", "SELECT"),
    ("pathwaysdos.symptomgroupsymptomdiscriminators", "SELECT"),
    ("pathwaysdos.users", "SELECT"),
    ("dos_integration.accepted_sequence", "INSERT"),
    ("dos_integration.accepted_sequence", "SELECT"),
    ("dos_integration.accepted_sequence", "UPDATE"),
    ("dos_integration.change_event_archive", "INSERT"),
    ("dos_integration.change_event_archive", "SELECT"),
    ("dos_integration.kept_history", "INSERT"),
    ("dos_integration.mail_queue", "INSERT"),
    ("dos_integration.migrations", "SELECT"),
    ("dos_integration.outbox", "DELETE"),
    ("dos_integration.outbox", "INSERT"),
    ("dos_integration.outbox", "SELECT"),
    ("dos_integration.consumer_position", "INSERT"),
    ("dos_integration.consumer_position", "SELECT"),
    ("dos_integration.consumer_position", "UPDATE"),
];

/// What the role may do to any table of the database that is not the server's own.
const GRANTED: &str = "SELECT c.oid::regclass::text, p.privilege
    FROM pg_class AS c
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p(privilege)
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace <> ALL (ARRAY['pg_catalog', 'information_schema']::regnamespace[])
        AND c.relnamespace::regnamespace::text NOT LIKE 'pg\\_t%'
        AND (has_table_privilege('dosi', c.oid, p.privilege)
            OR p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege('dosi', c.oid, p.privilege))";

/// What a program under the role of dosi must not be able to do.
const FORBIDDEN: [&str; 18] = [
    "SELECT phone FROM pathwaysdos.users",
    "SELECT * FROM pathwaysdos.users",
    "SELECT * FROM pathwaysdos.changes",
    "SELECT email FROM pathwaysdos.services",
    "SELECT FROM pathwaysdos.symptomgroups",
    "SELECT FROM pathwaysdos.openingtimedays",
    "UPDATE pathwaysdos.services SET name = 'x'",
    "UPDATE pathwaysdos.services SET odscode = 'x'",
    "INSERT INTO pathwaysdos.services (name) VALUES ('x')",
    "DELETE FROM pathwaysdos.services",
    "DELETE FROM pathwaysdos.servicehistories",
    "UPDATE pathwaysdos.servicespecifiedopeningdates SET serviceid = 1",
    "UPDATE pathwaysdos.changes SET value = 'x'",
    "SELECT FROM dos_integration.mail_queue",
    "DELETE FROM dos_integration.change_event_archive",
    "UPDATE dos_integration.migrations SET version = 0",
    "CREATE TABLE pathwaysdos.mine (id int)",
    "CREATE SCHEMA mine",
];

#[tokio::test]
async fn the_role_of_dosi_can_do_no_more_than_it_needs() {
    let world = World::new(&["FA001"], 1).await;
    let rows = world.dos.client().query(GRANTED, &[]).await.unwrap();
    let granted: BTreeSet<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let needed = NEEDED.iter().map(|(table, privilege)| ((*table).to_owned(), (*privilege).to_owned()));
    assert_eq!(granted, needed.collect());

    let url = world.dos.url().replacen("//postgres:local@", &format!("//dosi:{}@", planted::DATABASE_PASSWORD), 1);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for statement in FORBIDDEN {
        let error = client.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{statement}");
    }
}

/// Each right is needed: dosi itself misses it at its start.
#[tokio::test]
async fn rights_that_are_missing_are_named_at_start() {
    let world = World::new(&["FA001"], 1).await;
    let revoke = "REVOKE ALL ON ALL TABLES IN SCHEMA pathwaysdos, dos_integration FROM dosi;
        REVOKE ALL ON ALL SEQUENCES IN SCHEMA pathwaysdos, dos_integration FROM dosi";
    world.execute(revoke).await;
    assert_refused(&world.dosi, &["run"], &["migrations"]);
    world.execute("GRANT SELECT ON dos_integration.migrations TO dosi").await;
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(table, _)| !table.ends_with(".migrations"))
        .map(|(table, privilege)| format!("{privilege} on {}", table.trim_start_matches("pathwaysdos.")))
        .collect();
    let missing: Vec<_> = missing.iter().map(String::as_str).chain(["sequence"]).collect();
    assert_refused(&world.dosi, &["run"], &missing);
}
