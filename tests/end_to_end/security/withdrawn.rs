//! Rights that are taken away while dosi runs: `/readyz` says so, and all goes on once they are back.

use super::kafka::Secured;
use crate::support_faults::{good, wait_until_not_ready, wait_until_ready};

#[tokio::test]
async fn rights_that_kafka_takes_away_show_and_come_back() {
    let secured = Secured::start().await;
    let world = &secured.world;
    world.dosi.done(&["topics"]).unwrap();
    secured.allow("run", "User:dosi");
    let mut running = secured.dosi().start(&["run"]).unwrap();
    running.wait_until_ready().unwrap();
    world.produce(&[good("FA001", 1, "01131")]).await;
    world.wait_until_settled().await;

    let (dosi, group) = (&world.dosi, world.dosi.setting("DOSI_GROUP_ID"));
    let withdrawn = [
        ("Read", "--topic", dosi.input_topic(), "kafka (consuming): "),
        ("Read", "--group", group, "kafka (consuming): "),
        ("Write", "--topic", dosi.audit_topic(), "kafka (publishing): "),
    ];
    for (sequence, (operation, kind, name, named)) in (2..).zip(withdrawn) {
        let right = ["--allow-principal", "User:dosi", "--operation", operation, kind, name];
        secured.kafka.acl_command(&[&["--remove", "--force"], &right[..]].concat()).unwrap();
        world.produce(&[good("FA001", sequence, &format!("0113{sequence}"))]).await;
        wait_until_not_ready(&running, named).await;
        secured.kafka.acl_command(&[&["--add"], &right[..]].concat()).unwrap();
        // Also where nothing more comes that would show it.
        wait_until_ready(&running).await;
        world.wait_for_phone("FA001", &format!("0113{sequence}")).await;
    }
    let outcomes = world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (4, 0));
    let ended = running.stop("TERM").unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}
