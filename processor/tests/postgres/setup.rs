//! `migrate` and `check`, and a server that is not as it should be.

use std::{process::Command, time::Duration};

use dosi::postgres::{
    Fault,
    migrations::{self, Migrated, migrate},
    pool::{PoolSettings, build},
    setup::{SetupFault, check},
};
use tokio::time::Instant;

use crate::database::{Database, soon};

#[tokio::test]
async fn what_is_missing_is_told_in_one_line() {
    let Some(database) = Database::bare().await else { return };
    let mut client = database.client().await;
    let elsewhere = check(&client, "elsewhere").await;
    assert!(matches!(elsewhere, Err(SetupFault::NoDos { table: "services", .. })), "{elsewhere:?}");
    assert_eq!(check(&client, "pathwaysdos").await, Err(SetupFault::NotMigrated));
    let version = migrations::VERSION;
    assert_eq!(migrate(&mut client, soon()).await, Ok(Migrated { version, applied: version }));
    assert_eq!(migrate(&mut client, soon()).await, Ok(Migrated { version, applied: 0 }));
    assert_eq!(check(&client, "pathwaysdos").await, Ok(()));
    let newer = version + 1;
    client.batch_execute(&format!("INSERT INTO dos_integration.migrations VALUES ({newer}, 'newer')")).await.unwrap();
    assert_eq!(migrate(&mut client, soon()).await, Ok(Migrated { version: newer, applied: 0 }), "the schema's");
    assert_eq!(check(&client, "pathwaysdos").await, Ok(()));
    client.batch_execute("DELETE FROM dos_integration.migrations").await.unwrap();
    assert!(matches!(check(&client, "pathwaysdos").await, Err(SetupFault::Outdated { found: 0, .. })));
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_event_is_refused() {
    let latin1 = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    let Some(database) = Database::bare_with(latin1).await else { return };
    let mut client = database.client().await;
    migrate(&mut client, soon()).await.unwrap();
    let refused = check(&client, "pathwaysdos").await.unwrap_err();
    assert_eq!(refused, SetupFault::Encoding { found: "LATIN1".to_owned() });
    assert!(refused.to_string().starts_with("DOSI_DATABASE_URL: "), "{refused}");
    // What it would come to.
    let stored = client
        .execute("INSERT INTO users (username, firstname, lastname, createdtime) VALUES ('u', $1, '', now())", &[&"ł"]);
    let fault = Fault::from(stored.await.unwrap_err());
    assert!(matches!(&fault, Fault::Content { sqlstate, .. } if sqlstate == "22P05"), "{fault}");
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn a_schema_of_the_first_version_is_brought_up_to_date() {
    let Some(database) = Database::new().await else { return };
    let first = "DROP INDEX dos_integration.change_event_archive_ods_code;
        CREATE INDEX change_event_archive_ods_code ON dos_integration.change_event_archive (ods_code, sequence_number);
        DELETE FROM dos_integration.migrations WHERE version > 1;
        INSERT INTO dos_integration.change_event_archive SELECT 'F0001', g, now(), '', '', 'events', 0, g
            FROM generate_series(1, 100) AS g";
    database.execute(first).await;
    let mut client = database.client().await;
    assert!(matches!(check(&client, "pathwaysdos").await, Err(SetupFault::Outdated { found: 1, .. })));
    assert_eq!(migrate(&mut client, soon()).await.map(|done| done.applied), Ok(migrations::VERSION - 1));
    assert_eq!(check(&client, "pathwaysdos").await, Ok(()));
    let columns = "SELECT string_agg(attname, ' ') FROM pg_attribute
        WHERE attrelid = 'dos_integration.change_event_archive_ods_code'::regclass";
    assert_eq!(database.text(columns).await, "ods_code");
    assert_eq!(database.text("SELECT count(*)::text FROM dos_integration.change_event_archive").await, "100");
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn two_migrations_at_once_are_one() {
    let Some(database) = Database::bare().await else { return };
    let (mut first, mut second) = (database.client().await, database.client().await);
    let (one, other) = tokio::join!(migrate(&mut first, soon()), migrate(&mut second, soon()));
    assert_eq!(one.unwrap().applied + other.unwrap().applied, migrations::VERSION);
    drop((first, second));
    database.drop().await;
}

/// Longer than the session's lock time-out, which a table has: an index may take minutes.
#[tokio::test]
async fn a_migration_that_is_at_work_is_waited_for_until_the_deadline() {
    let Some(database) = Database::bare().await else { return };
    let (holder, mut client) = (database.client().await, database.client().await);
    holder.batch_execute("SELECT pg_advisory_lock(1685025641)").await.unwrap();
    let fault = migrate(&mut client, Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert!(fault.is_contention() && fault.to_string().contains("dosi migrate"), "{fault}");
    let (done, ()) = tokio::join!(migrate(&mut client, soon()), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        holder.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    });
    assert_eq!(done.unwrap().applied, migrations::VERSION);
    drop((holder, client));
    database.drop().await;
}

/// The kernel goes on acknowledging for a process that is stopped: neither keep-alives nor a time-out of the server tell.
#[tokio::test]
async fn a_server_that_is_frozen_does_not_hold_a_migration() {
    let Some(database) = Database::bare().await else { return };
    let mut client = database.client().await;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let signal = |name: &str| Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success();
    assert!(signal("-STOP"));
    let ended = migrate(&mut client, Instant::now() + Duration::from_secs(1)).await;
    assert!(signal("-CONT"));
    assert!(matches!(ended, Err(Fault::ConnectionLost { .. })), "{ended:?}");
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn missing_rights_are_named() {
    let Some(database) = Database::new().await else { return };
    let role = format!("dosi_role_{}", uuid::Uuid::now_v7().simple());
    let grants = "GRANT USAGE ON SCHEMA pathwaysdos, dos_integration TO r;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pathwaysdos, dos_integration TO r;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA pathwaysdos TO r; REVOKE UPDATE ON pathwaysdos.changes FROM r;
        REVOKE USAGE ON SEQUENCE pathwaysdos.servicesgsds_id_seq FROM r;";
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{}'; {}",
            database.password(),
            grants.replace(" r;", &format!(" {role};"))
        ))
        .await;
    let pool = database.pool_as(&role);
    let line = check(&pool.get().await.unwrap(), "pathwaysdos").await.unwrap_err().to_string();
    assert!(line.starts_with(&format!("role {role} lacks rights: UPDATE on changes")), "{line}");
    pool.close();
    database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    database.drop().await;
}

#[tokio::test]
async fn nobody_at_home_is_a_lost_connection() {
    let url = "host=127.0.0.1 port=1 user=u dbname=d connect_timeout=2".to_owned();
    let settings = PoolSettings { url, password: None, schema: "pathwaysdos".to_owned(), size: 1 };
    let fault = Fault::from(build(&settings).unwrap().get().await.unwrap_err());
    assert!(matches!(fault, Fault::ConnectionLost { .. }), "{fault}");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_lost() {
    let Some(database) = Database::new().await else { return };
    let client = database.client().await;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    database.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
    // The server's last words may arrive before the end of the connection is noticed, or be lost with it.
    let fault = Fault::from(client.batch_execute("SELECT 1").await.unwrap_err());
    assert!(fault.is_dependency() || fault.is_connection_lost(), "{fault}");
    let fault = Fault::from(client.batch_execute("SELECT 1").await.unwrap_err());
    assert!(matches!(fault, Fault::ConnectionLost { .. }), "{fault}");
    drop(client);
    let missing = database.pool_as("nobody_by_this_name").get().await.unwrap_err();
    assert!(matches!(Fault::from(missing), Fault::Dependency { needs_person: true, .. }));
    database.drop().await;
}
