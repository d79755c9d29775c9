//! One made-up world a test: a small DoS, topics and a group of its own, and what must hold of them at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dosi_tests::audit::{self, Record};
use dosi_tests::chaos::proxy::{Proxy, Wire};
use dosi_tests::dos::Dos;
use dosi_tests::golden_form::Service;
use dosi_tests::group::Group;
use dosi_tests::program::{Dosi, Running};
use dosi_tests::stack::Addresses;
use dosi_tests::topics::{self, Record as Input};
use dosi_tests::{http, planted, program};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

/// Generous: two cores may be shared with a compiler and other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_SERVICE: i32 = 1000;

/// A DoS with one pharmacy for each code, and the dosi that keeps it.
pub(crate) struct World {
    pub(crate) addresses: Addresses,
    pub(crate) dos: Dos,
    pub(crate) dosi: Dosi,
    partitions: i32,
}

impl World {
    /// On the shared stack, with everything set up.
    pub(crate) async fn new(codes: &[&str], partitions: i32) -> Self {
        let world = Self::bare(Addresses::from_env().unwrap(), codes, partitions).await;
        world.dosi.set_up().unwrap();
        world
    }

    /// On parts of the caller's choice; `migrate` and `topics` have not run.
    pub(crate) async fn bare(addresses: Addresses, codes: &[&str], partitions: i32) -> Self {
        let mut dos = Dos::create(&addresses).await.unwrap();
        let services: Vec<_> = (FIRST_SERVICE..).zip(codes).map(|(id, code)| pharmacy(id, code)).collect();
        dos.load(&services, &[]).await.unwrap();
        let dosi = Dosi::new(&addresses, dos.url()).with("DOSI_TOPIC_PARTITIONS", &partitions.to_string());
        Self { addresses, dos, dosi, partitions }
    }

    /// Events applied in all partitions.
    pub(crate) async fn applied_events(&self) -> i64 {
        self.value("SELECT coalesce(sum(position), 0)::bigint FROM dos_integration.consumer_position").await
    }

    /// As if the input topic had had so many partitions from the start.
    pub(crate) fn count_partitions(&mut self, partitions: i32) {
        self.partitions = partitions;
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.addresses.kafka_bootstrap_servers).create().unwrap()
    }

    /// As retention does.
    pub(crate) async fn delete_records_before(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.dosi.input_topic(), partition, Offset::Offset(offset)).unwrap();
        self.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    }

    /// `dosi run`, ready.
    pub(crate) fn run(&self) -> Running {
        let mut running = self.dosi.start(&["run"]).unwrap();
        running.wait_until_ready().unwrap();
        running
    }

    pub(crate) async fn produce(&self, records: &[Input]) {
        topics::produce(&self.addresses, self.dosi.input_topic(), records).await.unwrap();
    }

    /// The one value of a query, as the superuser sees it.
    pub(crate) async fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, query: &str) -> T {
        self.dos.client().query_one(query, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn execute(&self, statements: &str) {
        self.dos.client().batch_execute(statements).await.unwrap();
    }

    /// What DoS holds as the phone number of the code's first service.
    pub(crate) async fn phone(&self, code: &str) -> Option<String> {
        let query = "SELECT publicphone FROM pathwaysdos.services WHERE odscode = $1 ORDER BY id LIMIT 1";
        self.dos.client().query_one(query, &[&code]).await.unwrap().get(0)
    }

    pub(crate) async fn wait_for_phone(&self, code: &str, phone: &str) {
        until(&format!("{code} has phone {phone}"), async || self.phone(code).await.as_deref() == Some(phone)).await;
    }

    /// Offset of the next record to apply, where the partition has one.
    pub(crate) async fn position(&self, partition: i32) -> Option<i64> {
        let query = "SELECT position FROM dos_integration.consumer_position WHERE partition = $1";
        self.dos.client().query_opt(query, &[&partition]).await.unwrap().map(|row| row.get(0))
    }

    /// The group's committed offset.
    pub(crate) fn group_offset(&self, partition: i32) -> Option<i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition(self.dosi.input_topic(), partition);
        let committed = self.consumer().committed_offsets(list, BROKER_TIMEOUT).unwrap();
        match committed.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset) {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        }
    }

    /// First offset of the log, and the one after its last.
    pub(crate) fn log_ends(&self, partition: i32) -> (i64, i64) {
        self.consumer().fetch_watermarks(self.dosi.input_topic(), partition, BROKER_TIMEOUT).unwrap()
    }

    /// Of the group, without ever joining it.
    fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.addresses.kafka_bootstrap_servers)
            .set("group.id", self.dosi.setting("DOSI_GROUP_ID"))
            .create()
            .unwrap()
    }

    /// Everything in the topic is applied and published: position, group offset and end of each log are one, the outbox is empty.
    pub(crate) async fn wait_until_settled(&self) {
        for partition in 0..self.partitions {
            let (_, end) = self.log_ends(partition);
            until(&format!("partition {partition} is applied up to {end}"), async || {
                self.position(partition).await == Some(end)
            })
            .await;
            until(&format!("partition {partition} is published up to {end}"), async || {
                self.group_offset(partition) == Some(end)
            })
            .await;
        }
        until("the outbox is empty", async || {
            self.value::<i64>("SELECT count(*) FROM dos_integration.outbox").await == 0
        })
        .await;
    }

    /// The committed audit and dead-letter records, after everything is settled and it was checked that each input record has
    /// exactly one outcome, the last of its records, and no event id twice.
    pub(crate) async fn outcomes(&self) -> Outcomes {
        self.wait_until_settled().await;
        let topics = [self.dosi.audit_topic(), self.dosi.dead_letter_topic()];
        // One that a killed process left open hides what others published after it, until the broker ends it.
        let group = Group::new(&self.addresses, self.dosi.setting("DOSI_GROUP_ID"), self.dosi.input_topic()).unwrap();
        let is_readable = async || topics.iter().all(|topic| group.is_readable(topic).unwrap_or(false));
        until("no transaction is open on the output topics", is_readable).await;
        let read = audit::read(&self.addresses, &topics).unwrap();
        let (audit, dead_letters): (Vec<_>, Vec<_>) =
            read.into_iter().partition(|record| record.topic == self.dosi.audit_topic());
        // Those of a test's own parts are gone when all tests are searched.
        let told = format!("{audit:?} {dead_letters:?}");
        assert!(!planted::MARKERS.iter().any(|marker| told.contains(marker)), "planted data in {told}");
        let outcomes = Outcomes { audit, dead_letters };
        outcomes.check(self);
        outcomes
    }
}

/// What the two output topics hold.
pub(crate) struct Outcomes {
    pub(crate) audit: Vec<Record>,
    pub(crate) dead_letters: Vec<Record>,
}

impl Outcomes {
    fn check(&self, world: &World) {
        let mut ids = BTreeSet::new();
        let mut by_input: BTreeMap<(i64, i64), Vec<&Value>> = BTreeMap::new();
        for record in &self.audit {
            assert!(ids.insert(record.field("event_id").to_string()), "an event id twice: {record:?}");
            if record.field("report_key") == "POSITION_SET" {
                continue;
            }
            let input = (record.field("source_partition").as_i64(), record.field("source_offset").as_i64());
            by_input.entry((input.0.unwrap(), input.1.unwrap())).or_default().push(record.field("report_key"));
        }
        for (input, reports) in &by_input {
            let outcomes = reports.iter().filter(|key| **key == "CHANGE_EVENT_OUTCOME").count();
            assert_eq!(outcomes, 1, "{input:?}: {reports:?}");
            assert_eq!(**reports.last().unwrap(), json!("CHANGE_EVENT_OUTCOME"), "{input:?}: {reports:?}");
        }
        for partition in 0..world.partitions {
            let (low, end) = world.log_ends(partition);
            for offset in low..end {
                assert!(by_input.contains_key(&(partition.into(), offset)), "{partition}/{offset} left no outcome");
            }
        }
    }

    /// Records of one report key about one input record.
    pub(crate) fn reports(&self, partition: i32, offset: i64, key: &str) -> Vec<&Record> {
        let about = |record: &&Record| {
            record.field("source_partition") == partition
                && record.field("source_offset") == offset
                && record.field("report_key") == key
        };
        self.audit.iter().filter(about).collect()
    }

    /// The outcome of one input record.
    pub(crate) fn outcome(&self, partition: i32, offset: i64) -> &Record {
        let reports = self.reports(partition, offset, "CHANGE_EVENT_OUTCOME");
        reports.first().unwrap_or_else(|| panic!("{partition}/{offset} left no outcome"))
    }

    pub(crate) fn dead_letter(&self, partition: i32, offset: i64) -> Option<&Record> {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let mut found = self.dead_letters.iter().filter(|record| {
            record.header("__connect.errors.partition") == Some(&partition)
                && record.header("__connect.errors.offset") == Some(&offset)
        });
        let first = found.next();
        assert!(found.next().is_none(), "{partition}/{offset} has two dead letters");
        first
    }

    /// How many events ended in this way.
    pub(crate) fn count(&self, outcome: &str) -> usize {
        self.audit.iter().filter(|record| record.field("outcome") == outcome).count()
    }
}

/// Polls until the answer is yes.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, &mut holds).await;
}

pub(crate) async fn until_within(within: Duration, what: &str, holds: impl AsyncFnMut() -> bool) {
    until_telling(within, || what.to_owned(), holds).await;
}

/// `what` is asked when it was in vain.
async fn until_telling(within: Duration, what: impl Fn() -> String, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {}", what());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What `/readyz` says now; empty where nothing listens.
pub(crate) fn readiness(running: &Running) -> http::Answer {
    http::get(&running.url("/readyz")).unwrap_or(http::Answer { status: 0, body: String::new() })
}

/// Waits until `/readyz` refuses and names this.
pub(crate) async fn wait_until_not_ready(running: &Running, naming: &str) {
    let what = || {
        let newest = running.log().lines().rev().take(40).collect::<Vec<_>>().join("\n");
        format!("/readyz names {naming}; it says {:?}; newest lines first:\n{newest}", readiness(running))
    };
    until_telling(PATIENCE, what, async || {
        let answer = readiness(running);
        answer.status == 503 && answer.body.contains(naming)
    })
    .await;
}

pub(crate) async fn wait_until_ready(running: &Running) {
    until("ready", async || readiness(running).status == 200).await;
}

/// Ended with this code and, on stderr, one line of dosi's own that holds each of these.
pub(crate) fn assert_one_line(ended: &program::Ended, code: i32, holding: &[&str]) {
    let told: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("dosi: ")).collect();
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    assert_eq!(told.len(), 1, "{}", ended.stderr);
    for part in holding {
        assert!(told[0].contains(part), "{part:?} is not in {}", told[0]);
    }
}

/// An active pharmacy that differs from its [`profile`] in nothing but the phone.
pub(crate) fn pharmacy(id: i32, code: &str) -> Service {
    let form = json!({
        "id": id, "uid": (2_000_000_000 + i64::from(id)).to_string(), "name": format!("Pharmacy {code}"),
        "publicname": null, "odscode": code, "address": "1 High Street$Leeds", "town": "Leeds", "postcode": "LS1 1AA",
        "publicphone": null, "web": null, "typeid": 13, "statusid": 1, "region": null, "easting": null,
        "northing": null, "latitude": null, "longitude": null, "opening": {}, "specified": [], "zcodes": [],
        "history": null, "changes": [],
    });
    serde_json::from_str(&form.to_string()).unwrap()
}

/// The change event of [`pharmacy`] with this phone.
pub(crate) fn profile(code: &str, phone: &str) -> Value {
    json!({
        "ODSCode": code, "OrganisationName": format!("Pharmacy {code}"), "OrganisationTypeId": "PHA",
        "OrganisationType": "Pharmacy", "OrganisationSubType": "Community", "OrganisationStatus": "Visible",
        "Address1": "1 High Street", "City": "Leeds", "Postcode": "LS1 1AA",
        "Contacts": [{"ContactType": "Primary", "ContactAvailabilityType": "Office hours",
            "ContactMethodType": "Telephone", "ContactValue": phone}],
        "OpeningTimes": [], "UecServices": null, "Services": null,
    })
}

/// A record with this value, keyed by `code`.
pub(crate) fn record(code: &str, sequence: i64, value: impl Into<Vec<u8>>) -> Input {
    Input {
        partition: None,
        key: Some(code.as_bytes().to_vec()),
        value: Some(value.into()),
        headers: vec![("sequence-number".to_owned(), sequence.to_string().into_bytes())],
    }
}

/// A good event that sets the phone, with a `Staff` that must show nowhere.
pub(crate) fn good(code: &str, sequence: i64, phone: &str) -> Input {
    record(code, sequence, planted::with_staff(&profile(code, phone).to_string()))
}

/// A proxy in front of the world's database, and the dosi that comes through it.
pub(crate) async fn behind_proxy(world: &World) -> (Proxy, Dosi) {
    let url = world.dos.url();
    let authority = url.rsplit_once('/').unwrap().0;
    let port = authority.rsplit_once(':').unwrap().1;
    let proxy = Proxy::start(port.parse().unwrap(), Wire::Postgres).await.unwrap();
    let through = url.replacen(&format!(":{port}/"), &format!(":{}/", proxy.port()), 1);
    (proxy, world.dosi.clone().with("DOSI_DATABASE_URL", &through))
}

/// Passes connections on to another address; no more of them, and none that is open, once the task is aborted.
pub(crate) async fn pass_on(port: u16, to: String) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut near, _)) = listener.accept().await {
            let to = to.clone();
            connections.spawn(async move {
                let mut far = tokio::net::TcpStream::connect(&to).await.unwrap();
                // Either side may end it.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    })
}
