//! Another program that writes to the same rows, as the DoS web application does.
//!
//! It changes only what dosi does not compare, and puts an entry of its own in front of the history; it logs each commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::Utc;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::{Mutex as Gate, MutexGuard};
use tokio::time::sleep;
use tokio_postgres::{Client, Transaction};

use crate::dos::Dos;
use crate::golden_form::members;

/// User id of its history entries.
pub const USER_ID: &str = "web.application";
/// The key of DoS under which its entries stand.
pub const HISTORY_KEY: &str = "cmspublicname";
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// One write: `fax`, `email` and `publicname` are made of its number, and so is its history entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub number: u64,
    pub service: i32,
    pub certainty: Certainty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    Committed,
    /// The answer to its commit was lost.
    Unknown,
    /// A backup from before it was put back.
    Removed,
}

impl Write {
    pub fn public_name(&self) -> String {
        public_name(self.number)
    }

    pub fn fax(&self) -> String {
        format!("01632 961{:03}", self.number % 1000)
    }

    pub fn email(&self) -> String {
        format!("write-{}@example.invalid", self.number)
    }
}

fn public_name(number: u64) -> String {
    format!("Written {number}")
}

/// What it has written, and the gate that each of its transactions passes.
#[derive(Debug, Default)]
pub struct OtherWriter {
    writes: Mutex<Vec<Write>>,
    gate: Gate<()>,
}

impl OtherWriter {
    /// No transaction of it is under way while the guard lives.
    pub async fn hold(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    pub fn writes(&self) -> Vec<Write> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many writes a backup has that is taken while [`Self::hold`] is held.
    pub fn count(&self) -> usize {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A backup with so many writes was put back.
    pub fn put_back(&self, count: usize) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.iter_mut().skip(count).for_each(|write| write.certainty = Certainty::Removed);
    }

    fn log(&self, write: Write) {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).push(write);
    }
}

/// Writes until told to stop, through whatever becomes of the database.
pub async fn write(seed: u64, url: String, services: Vec<i32>, writer: Arc<OtherWriter>, stop: Arc<AtomicBool>) {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_add(2));
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        if let Ok(mut dos) = Dos::open(&url).await {
            // An error ends the session; what it was does not matter here.
            let _ = write_while_connected(&mut dos, &mut rng, &mut number, &services, &writer, &stop).await;
        }
        sleep(TRY_AGAIN).await;
    }
}

async fn write_while_connected(
    dos: &mut Dos,
    rng: &mut StdRng,
    number: &mut u64,
    services: &[i32],
    writer: &OtherWriter,
    stop: &AtomicBool,
) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(rng.random_range(50..300))).await;
        let gate = writer.hold().await;
        *number += 1;
        let service = *services.choose(rng).context("there are no services")?;
        let write = Write { number: *number, service, certainty: Certainty::Committed };
        let transaction = dos.client_mut().transaction().await?;
        change(&transaction, &write).await?;
        let certainty = match transaction.commit().await {
            Ok(()) => Certainty::Committed,
            Err(_) => Certainty::Unknown,
        };
        writer.log(Write { certainty, ..write });
        drop(gate);
    }
    Ok(())
}

/// The service's row first, as whoever changes a service does.
async fn change(transaction: &Transaction<'_>, write: &Write) -> Result<()> {
    transaction.batch_execute("SET LOCAL search_path = pathwaysdos; SET LOCAL lock_timeout = '2s'").await?;
    let id = write.service;
    transaction.query_one("SELECT FROM services WHERE id = $1 FOR UPDATE", &[&id]).await?;
    let update = "UPDATE services SET fax = $2, email = $3, publicname = $4 WHERE id = $1";
    transaction.execute(update, &[&id, &write.fax(), &write.email(), &write.public_name()]).await?;
    let read = "SELECT history FROM servicehistories WHERE serviceid = $1 FOR UPDATE";
    let history: Option<String> = transaction.query_opt(read, &[&id]).await?.map(|row| row.get(0));
    let upsert = "INSERT INTO servicehistories (serviceid, history) VALUES ($1, $2)
        ON CONFLICT (serviceid) DO UPDATE SET history = excluded.history";
    transaction.execute(upsert, &[&id, &with_entry(history.as_deref(), write)?]).await?;
    Ok(())
}

fn with_entry(history: Option<&str>, write: &Write) -> Result<String> {
    let old = history.unwrap_or("{}");
    let entries = members(old)?;
    let newest = entries.first().and_then(|(key, _)| key.parse::<i64>().ok());
    let now = Utc::now();
    let key = newest.map_or(now.timestamp(), |newest| now.timestamp().max(newest + 1));
    let by = json!({"userid": USER_ID, "timestamp": now.format("%Y-%m-%d %H:%M:%S").to_string()});
    let change = json!({"changetype": "add", "data": write.public_name(), "area": "demographic"});
    let entry = json!({"new": {HISTORY_KEY: change}, "initiator": by, "approver": by});
    let behind = old.trim_start().strip_prefix('{').context("a history is no object")?;
    let comma = if entries.is_empty() { "" } else { "," };
    Ok(format!("{{\"{key}\": {entry}{comma}{behind}"))
}

/// Holds the rows of some services until told to let go.
pub async fn hold_rows(url: String, code: String, release: Arc<AtomicBool>) -> Result<()> {
    let mut dos = Dos::open(&url).await?;
    let transaction = dos.client_mut().transaction().await?;
    let lock = "SELECT FROM pathwaysdos.services WHERE odscode LIKE $1 || '%' ORDER BY id FOR UPDATE";
    transaction.query(lock, &[&code]).await?;
    while !release.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(transaction.rollback().await?)
}

/// Locks what dosi locks, the other way round and one after the other, until told to let go.
pub async fn lock_in_opposite_order(url: String, codes: Vec<String>, release: Arc<AtomicBool>) -> Result<()> {
    let mut dos = Dos::open(&url).await?;
    let ids = "SELECT id FROM pathwaysdos.services WHERE left(odscode, 5) = ANY($1) ORDER BY id DESC";
    let rows = dos.client().query(ids, &[&codes]).await?;
    let ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    while !release.load(Ordering::SeqCst) {
        // A deadlock that ends this side is what one waits for.
        let _ = lock_one_by_one(dos.client_mut(), &ids).await;
    }
    Ok(())
}

async fn lock_one_by_one(client: &mut Client, ids: &[i32]) -> Result<()> {
    let transaction = client.transaction().await?;
    for id in ids {
        let history = "SELECT FROM pathwaysdos.servicehistories WHERE serviceid = $1 FOR UPDATE";
        transaction.query(history, &[id]).await?;
        transaction.query("SELECT FROM pathwaysdos.services WHERE id = $1 FOR UPDATE", &[id]).await?;
        sleep(Duration::from_millis(10)).await;
    }
    Ok(transaction.rollback().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_in_front_and_the_rest_stays_as_it_was() {
        let write = Write { number: 7, service: 1, certainty: Certainty::Committed };
        let old = r#"{"99999999999": {"b": 1.0}, "5": {}}"#;
        let history = with_entry(Some(old), &write).unwrap();
        let keys: Vec<_> = members(&history).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["100000000000", "99999999999", "5"]);
        assert!(history.ends_with(&old[1..]));
        assert_eq!(members(&with_entry(None, &write).unwrap()).unwrap().len(), 1);
    }
}
