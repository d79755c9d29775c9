//! DoS databases: each test gets one of its own, a copy of a template.

mod load;
mod read;
pub(crate) mod roles;

pub use read::After;

use anyhow::{Context, Result};
use tokio_postgres::{Client, NoTls};

use crate::golden_form::{Location, Service};
use crate::stack::Addresses;

/// The tables of DoS with its reference rows.
const SCHEMA: &str = include_str!("../../../schemas/dos.sql");

/// The database that `with-stack` makes first and all others are copied from: the tables and the reference rows.
pub const TEMPLATE: &str = "dos_template";

/// A DoS database and a session in it.
#[derive(Debug)]
pub struct Dos {
    client: Client,
    url: String,
}

impl Dos {
    /// A new database with DoS's tables and reference rows, and no service.
    pub async fn create(addresses: &Addresses) -> Result<Self> {
        Self::copy_of(addresses, TEMPLATE).await
    }

    /// A new database with everything that another one holds; nobody may be connected to that one.
    pub async fn copy_of(addresses: &Addresses, template: &str) -> Result<Self> {
        Self::create_named(addresses, &format!("dos_{:016x}", rand::random::<u64>()), template).await
    }

    /// As [`Self::copy_of`], under a given name.
    pub async fn create_named(addresses: &Addresses, name: &str, template: &str) -> Result<Self> {
        create_database(addresses, name, template).await?;
        Self::open(&addresses.database_url(name)).await
    }

    /// A named database with services and locations, to be copied from. The session in it is ended.
    pub async fn make_template(
        addresses: &Addresses,
        name: &str,
        services: &[Service],
        locations: &[Location],
    ) -> Result<()> {
        let mut dos = Self::create_named(addresses, name, TEMPLATE).await?;
        dos.load(services, locations).await?;
        dos.close(addresses, name).await
    }

    /// A session in a database that is there.
    pub async fn open(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        Ok(Self { client, url: url.to_owned() })
    }

    /// The tables with the reference rows, in a database that has none.
    pub async fn create_tables(&self) -> Result<()> {
        self.client.batch_execute(SCHEMA).await.context("failed to create the tables of DoS")
    }

    /// For `DOSI_DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The superuser's session, for whatever a test does to its database.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same, for transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Ends all sessions in it, so that it can be copied: the server ends one only a moment after its client does.
    pub async fn close(self, addresses: &Addresses, name: &str) -> Result<()> {
        drop(self.client);
        let admin = connect(&addresses.postgres_url).await?;
        let sessions = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = $1";
        admin.query_one(sessions, &[&name]).await?;
        Ok(())
    }

    /// Removes the database.
    pub async fn remove(self, addresses: &Addresses) -> Result<()> {
        let name = self.url.rsplit('/').next().unwrap_or_default().to_owned();
        drop(self.client);
        let admin = connect(&addresses.postgres_url).await?;
        Ok(admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await?)
    }
}

/// Makes the database [`TEMPLATE`].
pub async fn make_empty_template(addresses: &Addresses) -> Result<()> {
    create_database(addresses, TEMPLATE, "template0").await?;
    roles::set_passwords(&addresses.postgres_url)?;
    let dos = Dos::open(&addresses.database_url(TEMPLATE)).await?;
    dos.create_tables().await?;
    dos.close(addresses, TEMPLATE).await
}

async fn create_database(addresses: &Addresses, name: &str, template: &str) -> Result<()> {
    let admin = connect(&addresses.postgres_url).await?;
    let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
    admin.batch_execute(&create).await.with_context(|| format!("failed to copy database {template}"))?;
    roles::make(&addresses.database_url(name))
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("failed to connect to PostgreSQL")?;
    // An error of the connection shows in whatever the client asks next.
    tokio::spawn(connection);
    Ok(client)
}
