//! Who waits for whom.

use std::time::Duration;

use dosi::postgres::{Fault, load::lock_sequences};
use tokio::time::timeout;

use crate::database::{Database, begin, code, services};

/// Long enough for a statement that waits for nobody.
const A_MOMENT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn two_lanes_that_meet_on_a_new_code_take_turns() {
    let Some(database) = Database::new().await else { return };
    let (mut one, mut other) = (database.client().await, database.client().await);
    let codes = [code("FA001"), code("FB001")].into();
    let first = begin(&mut one).await;
    let found = lock_sequences(&first, &codes).await.unwrap();
    assert_eq!(found, codes.iter().map(|code| (*code, 0)).collect());
    let met = [code("FB001")].into();
    let second = begin(&mut other).await;
    let mut waiting = Box::pin(lock_sequences(&second, &met));
    assert!(timeout(A_MOMENT, &mut waiting).await.is_err());
    let raise = "UPDATE dos_integration.accepted_sequence SET sequence_number = 7 WHERE ods_code = 'FB001'";
    first.batch_execute(raise).await.unwrap();
    first.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap()[&code("FB001")], 7);
    second.rollback().await.unwrap();
    drop((one, other));
    database.drop().await;
}

#[tokio::test]
async fn a_new_code_of_a_lane_that_fails_is_the_next_ones() {
    let Some(database) = Database::new().await else { return };
    let (mut one, mut other) = (database.client().await, database.client().await);
    let first = begin(&mut one).await;
    let codes = [code("FA001")].into();
    lock_sequences(&first, &codes).await.unwrap();
    let second = begin(&mut other).await;
    let mut waiting = Box::pin(lock_sequences(&second, &codes));
    assert!(timeout(A_MOMENT, &mut waiting).await.is_err());
    first.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap()[&code("FA001")], 0);
    second.commit().await.unwrap();
    drop((one, other));
    database.drop().await;
}

/// Many lanes, all codes in common, half of them new: no deadlock, no lost number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_with_the_same_codes_never_deadlock() {
    let Some(database) = Database::new().await else { return };
    let lanes = (0..4).map(|_| {
        let pool = database.pool.clone();
        tokio::spawn(async move {
            let mut client = pool.get().await.unwrap();
            for round in 0..15_usize {
                let codes = (0..20).map(|n| code(&format!("F{round:02}{n:02}"))).collect();
                let tx = begin(&mut client).await;
                assert_eq!(lock_sequences(&tx, &codes).await.unwrap().len(), 20);
                let add = "UPDATE dos_integration.accepted_sequence SET sequence_number = sequence_number + 1
                    WHERE ods_code LIKE $1";
                tx.execute(add, &[&format!("F{round:02}%")]).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    let sums = "SELECT count(*) || ' ' || min(sequence_number) || ' ' || max(sequence_number)
        FROM dos_integration.accepted_sequence";
    assert_eq!(database.text(sums).await, "300 4 4");
    database.drop().await;
}

const TWO_SERVICES: &str = "INSERT INTO services (id, uid, name, odscode, typeid, statusid)
    VALUES (11, 'a', 'A', 'FA001', 13, 1), (12, 'b', 'B', 'FA001BPS', 148, 1), (10, 'c', 'C', 'FB001', 13, 1)";

/// A foreign writer holds service 11 and changes it; the reader waits, then sees what it became, or that it is no candidate.
#[tokio::test]
async fn what_another_writer_changed_meanwhile_is_read_anew() {
    let Some(database) = Database::new().await else { return };
    database.execute(TWO_SERVICES).await;
    for (change, expected) in [("web = 'new', typeid = 131", vec![11, 12]), ("statusid = 2", vec![12])] {
        let (mut one, mut other) = (database.client().await, database.client().await);
        let foreign = begin(&mut one).await;
        foreign.batch_execute(&format!("UPDATE services SET {change} WHERE id = 11")).await.unwrap();
        let tx = begin(&mut other).await;
        let codes = [code("FA001")];
        let mut waiting = Box::pin(services(&tx, &codes));
        assert!(timeout(A_MOMENT, &mut waiting).await.is_err());
        foreign.commit().await.unwrap();
        let found = waiting.await.unwrap().remove(&codes[0]).unwrap();
        assert_eq!(found.iter().map(|service| service.id).collect::<Vec<_>>(), expected);
        if found[0].id == 11 {
            assert_eq!((found[0].web.as_deref(), found[0].type_id), (Some("new"), 131));
            assert_eq!(found[0].type_name, "Pharmacy Urgent Medicines Supply");
        }
        tx.rollback().await.unwrap();
    }
    database.drop().await;
}

/// A writer that does not lock the service replaces a day after its row was read and before its periods are: the reader waits
/// between the two for a table that the writer holds.
#[tokio::test]
async fn a_day_that_is_replaced_while_it_is_read_is_contention() {
    let Some(database) = Database::new().await else { return };
    database.execute(TWO_SERVICES).await;
    let day = "WITH day AS (INSERT INTO servicedayopenings (serviceid, dayid) VALUES (11, 1), (12, 1) RETURNING id)
        INSERT INTO servicedayopeningtimes (servicedayopeningid, starttime, endtime) SELECT id, '09:00', '17:00' FROM day";
    database.execute(day).await;
    let (mut one, mut other) = (database.client().await, database.client().await);
    let codes = [code("FA001")];
    // Its statements are prepared now: preparing one waits for the table, too.
    let tx = begin(&mut other).await;
    assert_eq!(services(&tx, &codes).await.unwrap()[&codes[0]].len(), 2);
    tx.rollback().await.unwrap();
    let foreign = begin(&mut one).await;
    foreign.batch_execute("LOCK TABLE servicedayopeningtimes").await.unwrap();
    let tx = begin(&mut other).await;
    let mut waiting = Box::pin(services(&tx, &codes));
    assert!(timeout(A_MOMENT, &mut waiting).await.is_err());
    foreign.batch_execute(&format!("DELETE FROM servicedayopenings WHERE serviceid = 11; {day}")).await.unwrap();
    foreign.commit().await.unwrap();
    let fault = waiting.await.unwrap_err();
    assert!(fault.is_contention(), "{fault}");
    drop(tx);
    drop((one, other));
    database.drop().await;
}

/// Locks are taken in id order, whatever the order of the codes: with 10 free and 11 held, 10 is locked and 12 is not.
#[tokio::test]
async fn services_are_locked_in_id_order() {
    let Some(database) = Database::new().await else { return };
    database.execute(TWO_SERVICES).await;
    let (mut one, mut other) = (database.client().await, database.client().await);
    let foreign = begin(&mut one).await;
    foreign.batch_execute("SELECT FROM services WHERE id = 11 FOR UPDATE").await.unwrap();
    let tx = begin(&mut other).await;
    let codes = [code("FA001"), code("FB001")];
    let mut waiting = Box::pin(services(&tx, &codes));
    assert!(timeout(A_MOMENT, &mut waiting).await.is_err());
    let free =
        "SELECT string_agg(id::text, ' ') FROM (SELECT id FROM services ORDER BY id FOR UPDATE SKIP LOCKED) AS s";
    assert_eq!(database.text(free).await, "12");
    let fault = waiting.await.unwrap_err();
    assert!(matches!(fault, Fault::Contention { .. }), "{fault}");
    drop((tx, foreign));
    drop((one, other));
    database.drop().await;
}
