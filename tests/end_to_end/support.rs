//! Runs of dosi on the same events: each in a copy of the same DoS, with a group and output topics of its own.
//!
//! Because they share the input topic, their audit records carry the same ids.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dosi_tests::dos::Dos;
use dosi_tests::golden_form::{Event, Location, Service};
use dosi_tests::planted;
use dosi_tests::program::{Dosi, Running};
use dosi_tests::stack::Addresses;
use dosi_tests::topics::{self, Record};
use serde_json::Value;

use crate::group::Group;

pub(crate) const PARTITIONS: i32 = 12;
const WITHIN: Duration = Duration::from_secs(120);

/// DoS before, and the events in their topic.
pub(crate) struct Scene {
    pub(crate) addresses: Addresses,
    pub(crate) topic: String,
    template: String,
    today: String,
}

impl Scene {
    /// Loads DoS and produces the events, each of which must have a correlation id.
    pub(crate) async fn set(services: &[Service], locations: &[Location], events: &[Event], today: &str) -> Self {
        let addresses = Addresses::from_env().unwrap();
        let template = format!("dos_template_{:016x}", rand::random::<u64>());
        Dos::make_template(&addresses, &template, services, locations).await.unwrap();
        let topic = topics::unique("change-events");
        topics::create(&addresses, &topic, PARTITIONS, &[]).await.unwrap();
        let planted = |event: &Event| Event { event: planted::with_staff(&event.event), ..event.clone() };
        let records: Vec<_> = events.iter().map(|event| Record::of_event(&code_of(event), &planted(event))).collect();
        topics::produce(&addresses, &topic, &records).await.unwrap();
        Self { addresses, topic, template, today: today.to_owned() }
    }

    /// All that a run needs, nothing of it started.
    pub(crate) async fn new_run(&self) -> Run {
        let dos = Dos::copy_of(&self.addresses, &self.template).await.unwrap();
        let dosi = Dosi::new(&self.addresses, dos.url())
            .with("DOSI_CHANGE_EVENTS_TOPIC", &self.topic)
            .with("DOSI_TODAY", &self.today);
        dosi.set_up().unwrap();
        let group = Group::new(&self.addresses, dosi.setting("DOSI_GROUP_ID"), &self.topic);
        Run { dosi, dos, group }
    }
}

/// One group's way through the events of a scene.
pub(crate) struct Run {
    pub(crate) dosi: Dosi,
    pub(crate) dos: Dos,
    pub(crate) group: Group,
}

impl Run {
    /// One instance from start to end.
    pub(crate) fn to_end(&self, within: Duration) {
        let running = self.dosi.start(&["run", "--exit-at-end"]).unwrap();
        let ended = wait(running, within);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }

    /// The sum of what the positions have moved so far.
    pub(crate) async fn applied(&self) -> i64 {
        let sum = "SELECT coalesce(sum(position - start), 0)::bigint FROM dos_integration.consumer_position";
        self.dos.client().query_one(sum, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn outbox_rows(&self) -> i64 {
        let count = "SELECT count(*) FROM dos_integration.outbox";
        self.dos.client().query_one(count, &[]).await.unwrap().get(0)
    }

    /// Returns when everything is published; `instance` must live until then. All the while an outbox row stands for
    /// whatever is applied and not published.
    pub(crate) async fn wait_until_published(&self, instance: &mut Running) {
        let ends = self.group.ends();
        let deadline = Instant::now() + WITHIN;
        loop {
            // The database first: what is published meanwhile may be cleared meanwhile.
            let applied = self.outbox().await;
            let committed = self.group.committed();
            for (partition, (position, rows)) in applied {
                let covers = |next: i64, row: &(i64, i64)| if row.0 <= next { next.max(row.1) } else { next };
                let is_covered = |published: Option<i64>| {
                    published.is_none_or(|published| rows.iter().fold(published, covers) >= position)
                };
                if !is_covered(committed.get(&partition).copied()) {
                    let published = self.group.committed_for_good(partition);
                    assert!(is_covered(published), "partition {partition}: {published:?} to {position}, rows {rows:?}");
                }
            }
            if committed == ends {
                return;
            }
            assert!(instance.is_running().unwrap(), "{}", instance.log());
            assert!(Instant::now() < deadline, "not published in {WITHIN:?}:\n{}", instance.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Position and outbox rows, in order, of each partition at one moment.
    async fn outbox(&self) -> BTreeMap<i32, (i64, Vec<(i64, i64)>)> {
        let read = "SELECT p.partition, p.position, o.start_position, o.end_position
            FROM dos_integration.consumer_position AS p LEFT JOIN dos_integration.outbox AS o USING (topic, partition)
            ORDER BY p.partition, o.start_position";
        let mut partitions: BTreeMap<i32, (i64, Vec<(i64, i64)>)> = BTreeMap::new();
        for row in self.dos.client().query(read, &[]).await.unwrap() {
            let (_, rows) = partitions.entry(row.get(0)).or_insert_with(|| (row.get(1), Vec::new()));
            rows.extend(row.get::<_, Option<i64>>(2).map(|start| (start, row.get(3))));
        }
        partitions
    }
}

fn wait(mut running: Running, within: Duration) -> dosi_tests::program::Ended {
    let deadline = Instant::now() + within;
    while running.is_running().unwrap() {
        assert!(Instant::now() < deadline, "dosi has not ended in {within:?}:\n{}", running.log());
        std::thread::sleep(Duration::from_millis(25));
    }
    running.wait().unwrap()
}

/// Asks until the answer is yes.
pub(crate) async fn until(what: &str, mut ready: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !ready().await {
        assert!(Instant::now() < deadline, "not within {WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The code that an event names, whatever its length: its publisher's key.
pub(crate) fn code_of(event: &Event) -> String {
    let event: Value = serde_json::from_str(&event.event).unwrap();
    event["ODSCode"].as_str().unwrap().to_owned()
}
