//! The database as the rest of the program sees it: connections that are lent out, and never lent again in an unknown state.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use deadpool_postgres::{Client, Pool};
use tokio::time::{Instant, sleep, timeout};

use super::{Fault, Result, pool};
use crate::{config::DatabaseSettings, error::Failure, telemetry::metrics::Metrics};

/// A question to the database waits this long, for its connection too; batches have a time-out of their own. The server's own are
/// shorter, but what stands in between may keep a connection open whose other end is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts of a command to reach the database.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A pool of connections.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Database")
    }
}

impl Database {
    /// Checks the settings; connects to nothing yet.
    pub fn new(settings: &DatabaseSettings) -> std::result::Result<Self, Failure> {
        let settings = pool::PoolSettings {
            url: settings.url.expose().to_owned(),
            password: settings.password.as_ref().map(|password| password.expose().to_owned()),
            schema: settings.schema.as_str().to_owned(),
            size: settings.pool_size,
        };
        let pool = pool::build(&settings).map_err(|fault| Failure::Usage(fault.to_string()))?;
        Ok(Self { pool })
    }

    /// Lends a connection.
    pub async fn lease(&self) -> Result<Lease> {
        Ok(Lease(Some(self.pool.get().await?)))
    }

    /// Does something short on a connection, which is given back if that ends well.
    pub async fn ask<T>(&self, question: impl AsyncFnOnce(&mut Lease) -> Result<T>) -> Result<T> {
        let asked = async {
            let mut lease = self.lease().await?;
            let answer = question(&mut lease).await?;
            lease.give_back();
            Ok(answer)
        };
        timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| Err(Fault::no_answer()))
    }

    /// Lends a connection to a command, which asks again while the database cannot be reached.
    pub async fn lease_within(&self, within: Duration) -> Result<Lease> {
        let until = Instant::now() + within;
        loop {
            match self.lease().await {
                Err(fault) if !fault.needs_person() && Instant::now() < until => sleep(ASK_AGAIN).await,
                ended => return ended,
            }
        }
    }

    /// Sets the pool's gauges.
    pub fn measure(&self, metrics: &Metrics) {
        let status = self.pool.status();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let connections = &metrics.pool_connections;
        connections.with_label_values(&["max"]).set(count(status.max_size));
        connections.with_label_values(&["idle"]).set(count(status.available));
        connections.with_label_values(&["in_use"]).set(count(status.size.saturating_sub(status.available)));
        metrics.pool_waiting.set(count(status.waiting));
    }
}

/// A connection on loan. Unless it is given back it is closed when dropped: what was dropped in the middle of a
/// transaction (a time-out, a revocation) ends on the server with its connection.
pub struct Lease(Option<Client>);

impl Lease {
    /// The work on it ended well.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

impl Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.as_ref().expect("a lease holds its connection until it is given back or dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Client {
        self.0.as_mut().expect("a lease holds its connection until it is given back or dropped")
    }
}
