//! What stands in the log and is no record: markers of transactions, records of aborted ones.

use dosi_tests::topics;

use crate::support_faults::{World, good, until, wait_until_ready};

const CODE: &str = "FA001";

/// An idle topic's position lies past the marker, so that retention which passes it is no loss.
#[tokio::test]
async fn leaving_moves_the_position_past_a_marker() {
    let world = World::new(&[CODE], 1).await;
    let running = world.run();
    topics::produce_in_transaction(&world.addresses, world.dosi.input_topic(), &[good(CODE, 1, "01131")], true)
        .await
        .unwrap();
    until("the record is applied", async || world.position(0).await == Some(1)).await;
    assert_eq!(running.stop("TERM").unwrap().status.code(), Some(0));
    let (_, end) = world.log_ends(0);
    assert_eq!((end, world.position(0).await, world.group_offset(0)), (2, Some(2), Some(2)));
}

/// Input written by transactions: what was aborted is not applied, what was committed is, once and in order.
#[tokio::test]
async fn aborted_records_are_no_events() {
    let world = World::new(&[CODE], 1).await;
    let running = world.run();
    let topic = world.dosi.input_topic();
    let mut committed = Vec::new();
    for (sequence, commit) in [(1, true), (2, false), (3, true), (4, false)] {
        let record = good(CODE, sequence, &format!("0113{sequence}"));
        let offsets = topics::produce_in_transaction(&world.addresses, topic, &[record], commit).await.unwrap();
        if commit {
            committed.extend(offsets);
        }
    }
    world.wait_for_phone(CODE, "01133").await;
    // Four records and four markers.
    until("the position is past the last marker", async || world.position(0).await == Some(8)).await;
    until("so is the group", async || world.group_offset(0) == Some(8)).await;
    wait_until_ready(&running).await;
    let outcomes = dosi_tests::audit::read(&world.addresses, &[world.dosi.audit_topic()]).unwrap();
    let offsets: Vec<_> = outcomes
        .iter()
        .filter(|record| record.field("report_key") == "CHANGE_EVENT_OUTCOME")
        .map(|record| (record.field("source_offset").as_i64(), record.field("outcome").as_str()))
        .collect();
    let updated: Vec<_> = committed.into_iter().map(|offset| (Some(offset), Some("UPDATED"))).collect();
    assert_eq!(offsets, updated);
}
