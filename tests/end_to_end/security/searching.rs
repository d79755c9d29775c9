//! The search for what was planted, which ends a run of all tests, is itself able to find something.

use dosi_tests::planted;
use dosi_tests::stack::Scratch;
use dosi_tests::topics::{self, Record};

use crate::support_faults::{World, good};

/// Planted nowhere else, and not among what the search after all tests looks for.
const MARKER: &str = "Wigglesworth";

#[tokio::test]
async fn what_is_planted_is_found() {
    let world = World::new(&["FA001"], 1).await;
    let scratch = Scratch::new("kept").unwrap();
    let search = async || planted::search(&world.addresses, scratch.path(), &[MARKER]).await.unwrap();
    assert!(search().await.places.is_empty());

    std::fs::write(scratch.path().join("1.log"), format!("fine\nnot fine: {MARKER}\n")).unwrap();
    let record = |key: &str, value: &str, header: &str| Record {
        partition: Some(0),
        key: Some(key.into()),
        value: Some(value.into()),
        headers: vec![("h".to_owned(), header.into())],
    };
    let (audit, dead_letters) = (world.dosi.audit_topic(), world.dosi.dead_letter_topic());
    topics::produce(&world.addresses, audit, &[record("a", &format!("x{MARKER}x"), "b")]).await.unwrap();
    topics::produce(&world.addresses, dead_letters, &[record("a", "b", MARKER), record(MARKER, "b", "c")])
        .await
        .unwrap();
    let rows = format!(
        "INSERT INTO dos_integration.outbox VALUES ('t', 0, 0, 1, 1, convert_to('x{MARKER}x', 'UTF8'));
         INSERT INTO dos_integration.change_event_archive VALUES ('FA001', 1, now(), '{{\"Staff\":\"{MARKER}\"}}', 'c', 't', 0, 0)"
    );
    world.execute(&rows).await;
    // Where it belongs it is not looked for.
    world.produce(&[good("FA001", 1, MARKER)]).await;

    let found = search().await;

    let database = world.dos.url().rsplit_once('/').unwrap().1;
    let in_database = found.places.iter().filter(|place| place.ends_with(database)).count();
    let in_topics = found.places.iter().filter(|place| place.contains(audit) || place.contains(dead_letters)).count();
    let in_logs = found.places.iter().filter(|place| place.contains("1.log: not fine")).count();
    assert_eq!((in_database, in_topics, in_logs, found.places.len()), (2, 3, 1, 6), "{found:#?}");
}
