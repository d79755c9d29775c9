//! Edges of the log and the group: partitions that are added, gaps, compressed records, records larger than a fetch, two instances
//! with one name.

use std::collections::BTreeSet;
use std::fs;

use dosi_tests::stack::{Addresses, Scratch};
use dosi_tests::topics::{self, Record};
use serde_json::json;

use crate::bad_records::with;
use crate::support_faults::{World, assert_one_line, good, readiness, record, until, wait_until_ready};

const CODES: [&str; 4] = ["FA001", "FA002", "FA003", "FA004"];

/// An event for the code of the partition's number.
fn to(partition: i32, sequence: i64) -> Record {
    let code = CODES[usize::try_from(partition).unwrap()];
    Record { partition: Some(partition), ..good(code, sequence, &format!("0113 {sequence}")) }
}

/// What stands in them before anybody noticed them is applied from its first record on.
#[tokio::test]
async fn partitions_that_are_added_are_served_from_their_start() {
    let mut world = World::new(&CODES, 2).await;
    let scratch = Scratch::new("edges").unwrap();
    let properties = scratch.path().join("kafka.properties");
    fs::write(&properties, "topic.metadata.refresh.interval.ms=1000\n").unwrap();
    world.dosi = world.dosi.with("DOSI_KAFKA_CONFIG", &properties.display().to_string());
    world.produce(&[to(0, 1), to(1, 1)]).await;
    let running = world.run();
    world.wait_until_settled().await;

    topics::add_partitions(&world.addresses, world.dosi.input_topic(), 4).await.unwrap();
    world.count_partitions(4);
    world.produce(&(2..=3).flat_map(|n| (0..4).map(move |partition| to(partition, n))).collect::<Vec<_>>()).await;
    until("the new partitions are served", async || world.position(2).await.is_some()).await;
    // One who comes now shares all of them.
    let second = world.dosi.clone().with("DOSI_INSTANCE_ID", "second").start(&["run"]).unwrap();
    world.produce(&(0..4).map(|partition| to(partition, 4)).collect::<Vec<_>>()).await;
    let outcomes = world.outcomes().await;

    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (2 + 8 + 4, 0));
    wait_until_ready(&second).await;
    assert_eq!(readiness(&running).status, 200);
}

/// A codec that the client is built without would stop the partition.
#[tokio::test]
async fn records_of_every_compression_are_read() {
    let world = World::new(&CODES, 1).await;
    let running = world.run();
    for (code, codec) in CODES.into_iter().zip(["gzip", "snappy", "lz4", "zstd"]) {
        // Large enough to become smaller.
        let event = with(&json!({"ODSCode": code, "Padding": "x".repeat(10_000)}));
        topics::produce_compressed(&world.addresses, world.dosi.input_topic(), codec, &[record(code, 1, event)])
            .await
            .unwrap();
        world.wait_for_phone(code, "01131").await;
    }
    wait_until_ready(&running).await;
    assert_eq!(world.outcomes().await.count("UPDATED"), CODES.len());
}

/// A log whose offsets have gaps, one of them where the position stands.
#[tokio::test]
async fn what_compaction_took_away_is_passed_over() {
    let world = World::bare(Addresses::from_env().unwrap(), &CODES, 1).await;
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
    ];
    topics::create(&world.addresses, world.dosi.input_topic(), 1, &compacted).await.unwrap();
    world.dosi.set_up().unwrap();
    let events = |code: &'static str, sequences: std::ops::RangeInclusive<i64>| {
        sequences.map(|n| good(code, n, &format!("0113 {n}"))).collect::<Vec<_>>()
    };
    world.produce(&events(CODES[0], 1..=5)).await;
    let running = world.run();
    until("all is applied", async || world.position(0).await == Some(5) && world.group_offset(0) == Some(5)).await;
    running.stop("TERM").unwrap();

    world.produce(&events(CODES[0], 6..=9)).await;
    world.produce(&events(CODES[1], 1..=4)).await;
    let mut rolls = 0;
    until("the record at the position is gone", async || {
        rolls += 1;
        // Only what is not in the newest segment is compacted; a new one begins with a record that comes late enough.
        world.produce(&[good(CODES[2], rolls, &format!("0113 {rolls}"))]).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        !offsets(&world).contains(&5)
    })
    .await;
    let running = world.run();
    world.produce(&[good(CODES[3], 1, "0113 1")]).await;
    world.wait_until_settled().await;

    let phones = [(CODES[0], "01139".to_owned()), (CODES[1], "01134".into()), (CODES[2], format!("0113{rolls}"))];
    for (code, phone) in phones {
        assert_eq!(world.phone(code).await, Some(phone), "{code}");
    }
    let read = dosi_tests::audit::read(&world.addresses, &[world.dosi.audit_topic(), world.dosi.dead_letter_topic()]);
    let outcomes: Vec<i64> = read
        .unwrap()
        .iter()
        .filter(|record| record.field("report_key") == "CHANGE_EVENT_OUTCOME")
        .map(|record| record.field("source_offset").as_i64().unwrap())
        .collect();
    let told: BTreeSet<i64> = outcomes.iter().copied().collect();
    assert_eq!(told.len(), outcomes.len(), "each once: {outcomes:?}");
    assert!(offsets(&world).iter().all(|offset| told.contains(offset)), "{told:?}");
    assert!(!told.contains(&5), "what was taken away has no outcome");
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

fn offsets(world: &World) -> Vec<i64> {
    topics::offsets(&world.addresses, world.dosi.input_topic(), 0).unwrap()
}

/// Larger than one fetch of a partition (512 KiB), than a whole fetch (2 MiB), and than an inbox (1.5 MiB).
#[tokio::test]
async fn records_larger_than_a_fetch_are_applied_in_their_turn() {
    const LARGE: usize = 5 << 20;
    let world = World::bare(Addresses::from_env().unwrap(), &CODES, 1).await;
    let limit = [("max.message.bytes", "8388608")];
    topics::create(&world.addresses, world.dosi.input_topic(), 1, &limit).await.unwrap();
    world.dosi.set_up().unwrap();
    // Random, as compression would make it small.
    let padding: String = (0..LARGE).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    let large = |sequence: i64, more| {
        let mut changes =
            json!({"ODSCode": CODES[0], "OrganisationName": format!("Pharmacy {}", CODES[0]), "Padding": padding});
        changes.as_object_mut().unwrap().append(&mut json!(more).as_object().unwrap().clone());
        record(CODES[0], sequence, with(&changes))
    };
    let rejected = large(2, json!({"OrganisationTypeId": "GPB"}));
    world.produce(&[good(CODES[1], 1, "0113 1"), large(1, json!({})), rejected, good(CODES[1], 2, "0113 2")]).await;
    let running = world.run();
    let outcomes = world.outcomes().await;

    let told: Vec<_> = (0..4).map(|offset| outcomes.outcome(0, offset).field("outcome").as_str().unwrap()).collect();
    assert_eq!(told, ["UPDATED", "UPDATED", "REJECTED", "UPDATED"]);
    assert_eq!(outcomes.dead_letter(0, 2).unwrap().text.as_ref().map(|text| text.len() > LARGE), Some(true));
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
}

/// Only markers lie before it: retention may take them, and whatever came before, at any time.
#[tokio::test]
async fn retention_that_passes_an_idle_partition_loses_nothing() {
    let world = World::new(&CODES, 1).await;
    let running = world.run();
    let topic = world.dosi.input_topic();
    topics::produce_in_transaction(&world.addresses, topic, &[good(CODES[0], 1, "0113 1")], true).await.unwrap();
    topics::produce_in_transaction(&world.addresses, topic, &[good(CODES[0], 2, "0113 2")], false).await.unwrap();
    // The record, its marker, an aborted record and its marker.
    until("the position is past the markers", async || world.position(0).await == Some(4)).await;
    until("so is the group", async || world.group_offset(0) == Some(4)).await;
    world.delete_records_before(0, 4).await;
    assert_eq!(world.log_ends(0), (4, 4));
    world.produce(&[good(CODES[0], 3, "0113 3")]).await;
    world.wait_for_phone(CODES[0], "01133").await;
    world.wait_until_settled().await;
    world.delete_records_before(0, 5).await;
    drop(running);

    let running = world.run();
    world.produce(&[good(CODES[0], 4, "0113 4")]).await;
    world.wait_for_phone(CODES[0], "01134").await;
    assert_eq!(readiness(&running).status, 200);
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (3, 0));
}

/// The newer one takes the name over; the older one says so and ends.
#[tokio::test]
async fn of_two_instances_with_one_name_the_older_ends() {
    let world = World::new(&CODES, 2).await;
    let older = world.run();
    world.produce(&[to(0, 1), to(1, 1)]).await;
    world.wait_until_settled().await;
    let newer = world.dosi.start(&["run"]).unwrap();
    for sequence in 2..=5 {
        world.produce(&[to(0, sequence), to(1, sequence)]).await;
    }
    let ended = older.wait().unwrap();
    assert_one_line(&ended, 1, &["another live process uses the same instance id", "DOSI_INSTANCE_ID"]);
    world.produce(&[to(0, 6), to(1, 6)]).await;
    wait_until_ready(&newer).await;
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (12, 0));
    assert_eq!(newer.stop("TERM").unwrap().status.code(), Some(0));
}
