//! Halted partitions and their repair: nothing is reset silently, and a person's word is enough.

use std::time::{Duration, Instant};

use dosi::kafka::publisher;
use dosi::kafka::settings::{asker_config, producer_config};
use dosi::kafka::told::Told;
use dosi_tests::program::{Ended, Running};
use dosi_tests::stack::Addresses;
use dosi_tests::topics::{self, Record};
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::producer::Producer;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

use crate::support_faults::{
    PATIENCE, World, assert_one_line, good, readiness, until, wait_until_not_ready, wait_until_ready,
};

const CODES: [&str; 2] = ["FA001", "FA002"];

/// A good event for the code of the partition's number.
fn to(partition: i32, sequence: i64) -> Record {
    let code = CODES[usize::try_from(partition).unwrap()];
    Record { partition: Some(partition), ..good(code, sequence, &format!("0113 {sequence}")) }
}

impl World {
    /// As an operator's tool would: the group has no members.
    fn set_group_offset(&self, partition: i32, offset: i64) {
        let consumer: BaseConsumer<DefaultConsumerContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.addresses.kafka_bootstrap_servers)
            .set("group.id", self.dosi.setting("DOSI_GROUP_ID"))
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.dosi.input_topic(), partition, Offset::Offset(offset)).unwrap();
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
    }

    async fn delete_group(&self) {
        let group = self.dosi.setting("DOSI_GROUP_ID");
        // A member that has just left may still be remembered.
        until("the group is deleted", async || {
            let deleted = self.admin().delete_groups(&[group], &AdminOptions::new()).await.unwrap();
            deleted.iter().all(Result::is_ok)
        })
        .await;
    }

    /// Deletes the input topic and makes it again.
    async fn made_again(&self) {
        self.admin().delete_topics(&[self.dosi.input_topic()], &AdminOptions::new()).await.unwrap();
        until("the topic can be made again", async || {
            topics::create(&self.addresses, self.dosi.input_topic(), 2, &[]).await.is_ok()
        })
        .await;
    }

    fn position_set(&self, partition: i32, offset: i64) -> Ended {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let set = ["position", "set", "--partition", &partition, "--offset", &offset, "--reason", "seen to"];
        self.dosi.run(&set).unwrap()
    }

    async fn set_position(&self, partition: i32, position: i64) {
        let set = "UPDATE dos_integration.consumer_position SET position = $2 WHERE partition = $1";
        self.dos.client().execute(set, &[&partition, &position]).await.unwrap();
    }

    /// Starts dosi where partition 0 cannot go on, and sees that it is named and that partition 1 goes on.
    async fn halted(&self, naming: &str) -> Running {
        let mut running = self.dosi.start(&["run"]).unwrap();
        wait_until_not_ready(&running, naming).await;
        let told = readiness(&running).body;
        assert!(told.contains("dosi position set --partition 0"), "{told}");
        assert!(!told.contains("partition 1:"), "{told}");
        assert!(running.is_running().unwrap());
        running
    }

    /// Three events on each partition, applied and published, and dosi gone again.
    async fn three_each(&self) {
        let events: Vec<_> = (1..=3).flat_map(|sequence| [to(0, sequence), to(1, sequence)]).collect();
        self.produce(&events).await;
        let running = self.run();
        self.wait_until_settled().await;
        assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
    }

    /// Repairs partition 0 while dosi runs, and sees it go on.
    async fn repaired(&self, running: &Running, offset: i64) {
        let ended = self.position_set(0, offset);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        wait_until_ready(running).await;
        self.wait_for_phone("FA001", "01139").await;
    }
}

/// What is pending does not hold the answer back, and is none.
#[tokio::test]
async fn what_a_broker_told_is_held_against_what_is_committed() {
    let world = World::new(&CODES, 1).await;
    world.set_group_offset(0, 3);
    let mut base = ClientConfig::new();
    base.set("bootstrap.servers", &world.addresses.kafka_bootstrap_servers);
    let asker = asker_config(&base, world.dosi.setting("DOSI_GROUP_ID"), "read_uncommitted");
    let at = |offset| publisher::offsets(world.dosi.input_topic(), [(0, offset)]).unwrap();
    let config = producer_config(&base, world.dosi.input_topic(), 1 << 20, 1 << 20);
    let producer = publisher::open(&config, world.dosi.audit_topic()).unwrap();
    producer.begin_transaction().unwrap();
    let group = asker.create::<BaseConsumer>().unwrap().group_metadata().unwrap();
    producer.send_offsets_to_transaction(&at(5), &group, PATIENCE).unwrap();

    let is_right = |offset| Told::new(&asker, at(offset)).unwrap().is_right(Duration::from_secs(5)).unwrap();
    assert_eq!([2, 3, 5].map(is_right), [false, true, false]);
    producer.commit_transaction(PATIENCE).unwrap();
    until("the new one is told", async || is_right(5) && !is_right(3)).await;
}

#[tokio::test]
async fn a_lost_position_halts_its_partition_until_it_is_set() {
    let world = World::new(&CODES, 2).await;
    world.three_each().await;
    world.execute("DELETE FROM dos_integration.consumer_position WHERE partition = 0").await;
    world.produce(&[to(0, 9), to(1, 9)]).await;

    let running = world.halted("the group is at offset 3 but the database has no position").await;
    world.wait_for_phone("FA002", "01139").await;
    assert_eq!(world.phone("FA001").await.as_deref(), Some("01133"));
    until("the metric counts it", async || running.metric("dosi_halted_partitions").unwrap() == Some(1.0)).await;
    let healthy = world.position_set(1, 0);
    assert_one_line(&healthy, 1, &["partition 1 is owned by running instance"]);
    assert_one_line(&world.position_set(0, 5), 2, &["--offset 5: the log holds 0 to 4"]);
    assert_one_line(&world.position_set(7, 0), 2, &["--partition 7"]);
    let shown = world.dosi.done(&["position", "show"]).unwrap();
    assert!(shown.contains("0 is halted: the group is at offset 3"), "{shown}");
    world.repaired(&running, 3).await;
    // Once more is refused now: the partition is served again.
    assert_one_line(&world.position_set(0, 3), 1, &["is owned by running instance"]);

    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (8, 0));
    let set: Vec<_> = outcomes.audit.iter().filter(|record| record.field("report_key") == "POSITION_SET").collect();
    assert_eq!(set.len(), 1);
    assert_eq!((set[0].field("source_partition"), set[0].field("source_offset")), (&json!(0), &json!(3)));
    assert_eq!((set[0].field("reason"), set[0].field("ods_code")), (&json!("seen to"), &json!(null)));
    let detail = set[0].field("detail").as_str().unwrap();
    assert!(detail.contains("old group offset 3, outbox rows deleted 0"), "{detail}");
}

#[tokio::test]
async fn lost_group_offsets_halt_until_they_are_set() {
    let world = World::new(&CODES, 2).await;
    world.three_each().await;
    world.delete_group().await;
    // Partition 1 looks as if nothing had ever been applied: there the offset is simply committed again.
    world.execute("UPDATE dos_integration.consumer_position SET start = position WHERE partition = 1").await;
    world.delete_records_before(1, 3).await;

    let running = world.halted("the database is at position 3 but the group has no offset").await;
    // Not before: a broker that answers late would find it applied, as a takeover does not wait long for that answer.
    world.produce(&[to(0, 9), to(1, 9)]).await;
    world.wait_for_phone("FA002", "01139").await;
    until("the group's offset is back", async || world.group_offset(1) == Some(4)).await;
    assert_eq!(world.group_offset(0), None);
    world.repaired(&running, 3).await;
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (8, 0));
}

#[tokio::test]
async fn a_missing_outbox_row_halts_until_the_position_is_set() {
    let world = World::new(&CODES, 2).await;
    world.three_each().await;
    // As if a row had been deleted before it was published.
    world.set_group_offset(0, 2);

    let running = world.halted("offset 2 is to be published next and position 3 is beyond it").await;
    world.produce(&[to(0, 9), to(1, 9)]).await;
    world.wait_for_phone("FA002", "01139").await;
    assert_eq!(world.phone("FA001").await.as_deref(), Some("01133"), "nothing is applied meanwhile");
    world.repaired(&running, 3).await;
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (8, 0));
}

#[tokio::test]
async fn a_position_outside_of_the_log_halts_until_it_is_set() {
    let world = World::new(&CODES, 2).await;
    world.three_each().await;
    world.set_position(0, 50).await;
    world.set_group_offset(0, 50);
    let running = world.halted("position 50 is beyond the log's end 3").await;
    let ended = world.position_set(0, 3);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    wait_until_ready(&running).await;
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));

    // Records that nobody had read are gone.
    world.produce(&[to(0, 4), to(0, 5), to(0, 9), to(1, 9)]).await;
    world.delete_records_before(0, 5).await;
    let running = world.halted("position 3 is before the log's first offset 5").await;
    world.wait_for_phone("FA002", "01139").await;
    world.repaired(&running, 5).await;
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (8, 0));
}

#[tokio::test]
async fn what_could_still_be_published_is_not_thrown_away() {
    let world = World::new(&CODES, 2).await;
    world.three_each().await;
    // An outbox row that goes on from the group's offset, as a crash between the two commits leaves it.
    world
        .execute(
            "INSERT INTO dos_integration.outbox (topic, partition, start_position, end_position, events, payload)
             SELECT topic, partition, 3, 4, 1, '\\x010000' FROM dos_integration.consumer_position WHERE partition = 0",
        )
        .await;
    until("the group has no members", async || {
        let refused = world.position_set(0, 3);
        if refused.stderr.contains("owned by running instance") {
            return false;
        }
        assert_one_line(&refused, 1, &["outbox rows that can still be published"]);
        true
    })
    .await;
    assert_eq!((world.position(0).await, world.group_offset(0)), (Some(3), Some(3)));

    // One that nothing leads to never can be: it goes, and the audit record counts it.
    world.execute("UPDATE dos_integration.outbox SET start_position = 7, end_position = 8").await;
    for _ in 0..2 {
        let ended = world.position_set(0, 2);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }
    assert_eq!((world.position(0).await, world.group_offset(0)), (Some(2), Some(2)));
    assert_eq!(world.value::<i64>("SELECT count(*) FROM dos_integration.outbox").await, 0);
    let read = dosi_tests::audit::read(&world.addresses, &[world.dosi.audit_topic()]).unwrap();
    // Each went to a partition of its own choice.
    let mut details: Vec<_> = read
        .iter()
        .filter(|record| record.field("report_key") == "POSITION_SET")
        .map(|record| record.field("detail").as_str().unwrap().to_owned())
        .collect();
    details.sort();
    assert_eq!(
        details,
        [
            "old position 2, old group offset 2, outbox rows deleted 0",
            "old position 3, old group offset 3, outbox rows deleted 1"
        ]
    );
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_the_process() {
    let world = World::new(&CODES, 2).await;
    world.produce(&[to(0, 1), to(1, 1)]).await;
    let running = world.run();
    world.wait_until_settled().await;
    let began = Instant::now();
    world.admin().delete_topics(&[world.dosi.input_topic()], &AdminOptions::new()).await.unwrap();
    let ended = running.wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_one_line(&ended, 1, &[world.dosi.input_topic()]);

    // Made again, it is another log: nothing of it is taken for the old one.
    until("the topic can be made again", async || {
        topics::create(&world.addresses, world.dosi.input_topic(), 2, &[]).await.is_ok()
    })
    .await;
    world.produce(&[to(0, 9), to(1, 9)]).await;
    let running = world.dosi.start(&["run"]).unwrap();
    wait_until_not_ready(&running, "partition 0:").await;
    wait_until_not_ready(&running, "partition 1:").await;
    assert_eq!(world.phone("FA001").await.as_deref(), Some("01131"));
}

/// Nobody was there to see it: the new log is even longer than the old one, and its records are no continuation of that.
#[tokio::test]
async fn a_topic_that_is_made_again_while_nobody_looks_halts_until_positions_are_set() {
    let world = World::new(&CODES, 2).await;
    world.three_each().await;
    world.made_again().await;
    let events: Vec<_> = (4..=8).chain([9]).flat_map(|sequence| [to(0, sequence), to(1, sequence)]).collect();
    world.produce(&events).await;

    let running = world.dosi.start(&["run"]).unwrap();
    for partition in 0..2 {
        let naming = format!("{partition} is halted: the database is at position 3 but the group has no offset");
        wait_until_not_ready(&running, &naming).await;
        let told = readiness(&running).body;
        assert!(told.contains("see `dosi position show`"), "{told}");
        assert!(told.contains(&format!("`dosi position set --partition {partition}")), "{told}");
        let halted = running.log().lines().filter(|line| line.contains("ERROR") && line.contains(&naming)).count();
        assert_eq!(halted, 1, "{}", running.log());
    }
    assert_eq!(
        (world.phone("FA001").await.as_deref(), world.phone("FA002").await.as_deref()),
        (Some("01133"), Some("01133"))
    );
    for partition in 0..2 {
        let ended = world.position_set(partition, 0);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }
    wait_until_ready(&running).await;
    world.wait_until_settled().await;
    assert_eq!(
        (world.phone("FA001").await.as_deref(), world.phone("FA002").await.as_deref()),
        (Some("01139"), Some("01139"))
    );
    // The offsets of the old log come again.
    let read = dosi_tests::audit::read(&world.addresses, &[world.dosi.audit_topic()]).unwrap();
    assert_eq!(read.iter().filter(|record| record.field("outcome") == "UPDATED").count(), 2 * (3 + 6));
}

/// Where nothing was ever applied and a person had set the position, a group without an offset is another log, too.
#[tokio::test]
async fn a_topic_that_is_made_again_after_a_repair_is_not_begun_in_its_middle() {
    let world = World::new(&CODES, 2).await;
    world.three_each().await;
    until("the group has no members", async || world.position_set(0, 2).status.code() == Some(0)).await;
    world.made_again().await;
    world.produce(&(4..=8).map(|sequence| to(0, sequence)).collect::<Vec<_>>()).await;
    let running = world.dosi.start(&["run"]).unwrap();
    wait_until_not_ready(&running, "0 is halted: the database is at position 2 but the group has no offset").await;
    assert_eq!(world.phone("FA001").await.as_deref(), Some("01133"));
}

/// The position in the database decides, whatever the lane believes: behind, commits were lost; ahead, another one was here.
#[tokio::test]
async fn a_position_that_was_moved_is_gone_on_from() {
    let world = World::new(&CODES, 1).await;
    let event = |code, sequence: i64| good(code, sequence, &format!("0113 {sequence}"));
    world.produce(&[event("FA001", 1), event("FA002", 1)]).await;
    let running = world.run();
    world.wait_until_settled().await;
    world
        .execute(
            "UPDATE pathwaysdos.services SET publicphone = NULL WHERE odscode = 'FA002';
             DELETE FROM dos_integration.accepted_sequence WHERE ods_code = 'FA002';
             UPDATE dos_integration.consumer_position SET position = 1",
        )
        .await;
    world.produce(&[event("FA001", 2)]).await;
    world.wait_until_settled().await;
    assert_eq!(world.phone("FA002").await.as_deref(), Some("01131"), "applied again");

    // Applied by another one, which had nothing to say of it.
    world
        .execute(
            "UPDATE dos_integration.consumer_position SET position = 4;
             INSERT INTO dos_integration.outbox (topic, partition, start_position, end_position, events, payload)
             SELECT topic, partition, 3, 4, 1, '\\x010000' FROM dos_integration.consumer_position",
        )
        .await;
    world.produce(&[event("FA002", 2), event("FA001", 3)]).await;
    world.wait_until_settled().await;
    assert_eq!(world.phone("FA001").await.as_deref(), Some("01133"));
    assert_eq!(world.phone("FA002").await.as_deref(), Some("01131"), "not applied once more");
    assert!(running.metric("dosi_fenced_batches_total").unwrap() >= Some(2.0));
    let read = dosi_tests::audit::read(&world.addresses, &[world.dosi.audit_topic()]).unwrap();
    let outcomes = read.iter().filter(|record| record.field("report_key") == "CHANGE_EVENT_OUTCOME");
    let mut told: Vec<_> = outcomes.map(|record| record.field("source_offset").as_i64().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, [0, 1, 2, 4], "each once");
}

/// Between the first commit in the database and the first one in Kafka nothing was applied yet.
#[tokio::test]
async fn a_beginning_that_broke_off_is_made_again() {
    let addresses = Addresses::from_env().unwrap();
    let world = World::bare(addresses, &CODES, 2).await;
    world.dosi.set_up().unwrap();
    let insert = "INSERT INTO dos_integration.consumer_position (topic, partition, position, start)
        VALUES ($1, 0, 0, 0), ($1, 1, 0, 0)";
    world.dos.client().execute(insert, &[&world.dosi.input_topic()]).await.unwrap();
    world.produce(&[to(0, 1), to(1, 1)]).await;
    let _running = world.run();
    assert_eq!(world.outcomes().await.count("UPDATED"), 2);
}
