//! Rows of the outbox that are published go: in bulk, and beside everything else, so that a deletion that takes long holds up nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fail::fail_point;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Shared, lane::stopped};
use crate::postgres::{Fault, outbox};

const INTERVAL: Duration = Duration::from_millis(500);
/// It may be on the one connection that is kept from batches.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Clears until stopped, and once more then.
pub async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    // Offsets known to be committed, up to which rows may go.
    let mut published = BTreeMap::new();
    loop {
        let is_last = tokio::select! {
            () = sleep(INTERVAL) => false,
            () = stopped(&mut stop) => true,
        };
        published.extend(shared.serving.lock().protocol.take_clearable());
        if !published.is_empty() {
            match timeout(TIMEOUT, delete(&shared, &published)).await.unwrap_or_else(|_| Err(Fault::no_answer())) {
                Ok(()) => published.clear(),
                // Kept for the next time: each deletion reaches down to the first row.
                Err(fault) => tracing::debug!(%fault, "outbox not cleared"),
            }
        }
        if is_last {
            return;
        }
    }
}

async fn delete(shared: &Shared, published: &BTreeMap<i32, i64>) -> Result<(), Fault> {
    let (topic, published) = (&shared.topics.change_events, published.iter().map(|(&partition, &to)| (partition, to)));
    let published: Vec<_> = published.collect();
    fail_point!("outbox-delete-before");
    shared.database.ask(async |lease| outbox::delete_up_to(&**lease, topic, &published).await).await?;
    fail_point!("outbox-delete-after");
    Ok(())
}
