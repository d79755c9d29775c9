//! A DoS database of its own for each test, on the server of `DOSI_TEST_POSTGRES_URL` (a superuser's URL).

use std::{collections::HashMap, path::Path, time::Duration};

use chrono::{DateTime, TimeZone as _, Utc};
use dosi::{
    domain::{matching::Offered, ods_code::OdsCode, service::Service},
    postgres::{
        Client, Fault, Pool, Transaction, migrations,
        pool::{PoolSettings, build},
        services::{Complete, candidates, complete},
    },
};
use tokio::time::Instant;
use tokio_postgres::{Config, NoTls, config::Host};

/// A database with the DoS tables and `dos_integration`, and a pool on it.
pub(crate) struct Database {
    server: Config,
    name: String,
    pub(crate) pool: Pool,
}

/// Where the tests may work; without it they say so and are left out.
fn server() -> Option<Config> {
    let Ok(url) = std::env::var("DOSI_TEST_POSTGRES_URL") else {
        eprintln!("left out: DOSI_TEST_POSTGRES_URL is not set");
        return None;
    };
    Some(url.parse().expect("DOSI_TEST_POSTGRES_URL is a connection text"))
}

/// Runs SQL on a connection outside the pool.
pub(crate) async fn run(config: &Config, sql: &str) {
    let (client, connection) = config.connect(NoTls).await.expect("the server answers");
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error}: {:?}", error.as_db_error()));
    drop(client);
    connection.await.expect("the connection ends").expect("the connection ends well");
}

/// The services of these codes, locked and read as a batch does.
pub(crate) async fn services(tx: &Transaction<'_>, codes: &[OdsCode]) -> Result<HashMap<OdsCode, Vec<Service>>, Fault> {
    loaded(tx, codes).await.map(|loaded| loaded.services)
}

/// The same with what is read besides.
pub(crate) async fn loaded(tx: &Transaction<'_>, codes: &[OdsCode]) -> Result<Complete, Fault> {
    let all = Offered { blood_pressure: true, contraception: true };
    let candidates = candidates(tx, &codes.iter().map(|code| (*code, all)).collect()).await?;
    complete(tx, candidates).await
}

impl Database {
    /// A database with the DoS tables, not yet migrated.
    pub(crate) async fn bare() -> Option<Self> {
        Self::bare_with("").await
    }

    /// The same with options of CREATE DATABASE.
    pub(crate) async fn bare_with(options: &str) -> Option<Self> {
        let server = server()?;
        let name = format!("dosi_{}", uuid::Uuid::now_v7().simple());
        run(&server, &format!("CREATE DATABASE {name} {options}")).await;
        let pool = pool(&server, &name, None);
        let database = Self { server, name, pool };
        let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/dos.sql");
        run(&database.config(), &std::fs::read_to_string(tables).expect("schemas/dos.sql is there")).await;
        Some(database)
    }

    /// A database to work on.
    pub(crate) async fn new() -> Option<Self> {
        let database = Self::bare().await?;
        migrations::migrate(&mut database.client().await, soon()).await.expect("it migrates");
        Some(database)
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = self.server.clone();
        config.dbname(&self.name);
        config
    }

    /// The superuser's, for roles that are to connect as [`Self::pool_as`] does.
    pub(crate) fn password(&self) -> String {
        String::from_utf8_lossy(self.server.get_password().unwrap_or_default()).into_owned()
    }

    /// A pool for another role.
    pub(crate) fn pool_as(&self, role: &str) -> Pool {
        pool(&self.server, &self.name, Some(role))
    }

    pub(crate) async fn client(&self) -> Client {
        self.pool.get().await.expect("a connection")
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// One text from one row.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let row = self.client().await.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        row.get::<_, Option<String>>(0).unwrap_or_else(|| "null".to_owned())
    }

    pub(crate) async fn drop(self) {
        self.pool.close();
        run(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

fn pool(server: &Config, name: &str, role: Option<&str>) -> Pool {
    let host = match server.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "127.0.0.1".to_owned(),
    };
    let port = server.get_ports().first().copied().unwrap_or(5432);
    let user = role.or(server.get_user()).unwrap_or("postgres");
    let url = format!("host='{host}' port={port} user='{user}' dbname={name} sslmode=disable");
    let password = server.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    build(&PoolSettings { url, password, schema: "pathwaysdos".to_owned(), size: 4 }).expect("the settings are right")
}

/// When what should not take long is given up.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub(crate) async fn begin(client: &mut Client) -> Transaction<'_> {
    client.transaction().await.expect("a transaction begins")
}

pub(crate) fn code(text: &str) -> OdsCode {
    OdsCode::parse(text).expect("five letters or digits")
}

pub(crate) fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 6, 1, 10, 30, 0).single().expect("a moment")
}
