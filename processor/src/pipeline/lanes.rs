//! Partitions come and go: the consumer thread's side of the pipeline (design: rebalancing).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use fail::fail_point;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use super::{
    Shared,
    lane::Lane,
    partition::{Delivery, Partition},
    rights::Rights,
};
use crate::{
    kafka::partitions::{Partitions, Room},
    telemetry::metrics::Dependency,
    wire::record::InputRecord,
};

/// How long an assignment waits for the database to say where to begin.
const POSITIONS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a lane that is revoked may take to finish the batch in hand.
const FINISH_TIMEOUT: Duration = Duration::from_millis(3_500);
/// How long, after that, a Kafka transaction that carries the partition may take to end.
const TRANSACTION_END_TIMEOUT: Duration = Duration::from_secs(1);

/// The lanes of the partitions that are assigned.
pub struct Lanes {
    shared: Arc<Shared>,
    runtime: Handle,
    running: Mutex<HashMap<i32, Running>>,
    rights: Arc<Rights>,
}

struct Running {
    partition: Arc<Partition>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Lanes")
    }
}

impl Lanes {
    pub fn new(shared: Arc<Shared>, runtime: Handle) -> Self {
        let rights = Arc::new(Rights::new(Arc::clone(&shared)));
        Self { shared, runtime, running: Mutex::default(), rights }
    }

    /// Lets every lane finish the batch in hand, and ends it where that takes too long.
    pub async fn stop_all(&self, within: Duration) {
        let running = std::mem::take(&mut *self.running.lock().expect("no holder of this lock panics"));
        end(running.into_values().collect(), within).await;
    }

    fn partition(&self, number: i32) -> Option<Arc<Partition>> {
        let running = self.running.lock().expect("no holder of this lock panics");
        running.get(&number).map(|lane| Arc::clone(&lane.partition))
    }

    fn deliver(&self, number: i32, delivery: Delivery) {
        if let Some(partition) = self.partition(number) {
            partition.deliver(delivery);
        }
    }
}

/// Stops lanes together; one that does not end in time is aborted, its connection closed with it.
async fn end(lanes: Vec<Running>, within: Duration) {
    for lane in &lanes {
        lane.stop.send_replace(true);
    }
    let deadline = Instant::now() + within;
    for mut lane in lanes {
        if timeout_at(deadline, &mut lane.task).await.is_err() {
            tracing::warn!(partition = lane.partition.number, "batch in hand abandoned");
            lane.task.abort();
        }
    }
}

impl Partitions for Lanes {
    fn positions(&self, partitions: &[i32]) -> HashMap<i32, i64> {
        match self.runtime.block_on(async { timeout(POSITIONS_TIMEOUT, self.shared.read_positions(partitions)).await })
        {
            Ok(Ok(rows)) => rows.into_iter().map(|(partition, row)| (partition, row.position)).collect(),
            Ok(Err(fault)) => {
                self.shared.down(Dependency::Database, &fault);
                HashMap::new()
            }
            Err(_) => HashMap::new(),
        }
    }

    fn assigned(&self, partitions: &[i32]) {
        fail_point!("assignment-before");
        self.shared.metrics.rebalances.inc();
        let mut running = self.running.lock().expect("no holder of this lock panics");
        for &number in partitions {
            let (partition, deliveries) = self.shared.serving.add(number);
            let (stop, stopped) = watch::channel(false);
            let lane =
                Lane { shared: Arc::clone(&self.shared), partition: Arc::clone(&partition), deliveries, stop: stopped };
            let task = self.runtime.spawn(lane.run());
            running.insert(number, Running { partition, stop, task });
        }
        self.shared.readiness.clear("group");
        self.shared.publish_now.notify_one();
        fail_point!("assignment-after");
    }

    fn revoked(&self, partitions: &[i32]) {
        fail_point!("revocation-before");
        self.shared.serving.remove(partitions);
        let lanes: Vec<Running> = {
            let mut running = self.running.lock().expect("no holder of this lock panics");
            partitions.iter().filter_map(|number| running.remove(number)).collect()
        };
        self.runtime.block_on(end(lanes, FINISH_TIMEOUT));
        if !self.shared.serving.wait_ended(partitions, TRANSACTION_END_TIMEOUT) {
            // The group's generation and the pending offset settle it: a late offset is refused, a successor waits for it.
            tracing::warn!(?partitions, "Kafka transaction abandoned");
        }
        for number in partitions {
            self.shared.forget_partition(*number);
        }
        fail_point!("revocation-after");
    }

    fn begun(&self, partition: i32, life: u64) {
        self.deliver(partition, Delivery::Begun(life));
    }

    fn record(&self, record: InputRecord) -> Room {
        self.partition(record.partition).map_or(Room::Plenty, |partition| partition.deliver(Delivery::Record(record)))
    }

    fn has_room(&self, partition: i32) -> bool {
        self.partition(partition).is_none_or(|partition| partition.has_room())
    }

    fn quiet_end(&self, partition: i32, offset: i64) {
        self.deliver(partition, Delivery::QuietEnd(offset));
    }

    fn offset_out_of_range(&self) {
        let running = self.running.lock().expect("no holder of this lock panics");
        for lane in running.values() {
            lane.partition.deliver(Delivery::CheckLog);
        }
    }

    fn lag(&self, partition: i32, end: i64) {
        if let Some(lane) = self.partition(partition).filter(|lane| lane.position() >= 0) {
            let behind = end.saturating_sub(lane.position()).max(0);
            self.shared.metrics.consumer_lag.with_label_values(&[&partition.to_string()]).set(behind);
        }
    }

    fn brokers_reachable(&self, reachable: bool) {
        if reachable {
            self.shared.up(Dependency::Kafka);
        } else {
            self.shared.down(Dependency::Kafka, &"no broker answers");
        }
    }

    fn refused(&self, line: String) {
        Rights::refused(&self.rights, &self.runtime, &line);
    }

    fn unreadable(&self, line: Option<String>) {
        if let Some(line) = &line {
            tracing::error!("{line}");
        } else {
            tracing::info!("records can be read again");
        }
        if !self.shared.ends.is_empty()
            && let Some(line) = &line
        {
            // Nobody would wait for what never comes.
            self.shared.fatal(line.clone());
        }
        self.shared.readiness.set("input", line);
    }

    fn topic_gone(&self, line: String) {
        self.shared.topic_gone.store(true, Ordering::Relaxed);
        self.shared.fatal(line);
    }

    fn fatal(&self, line: String) {
        self.shared.fatal(line);
    }
}
