use super::*;

const BOUNDS: Bounds = Bounds { partition_bytes: 100, transaction_bytes: 100, held_bytes: 100 };

fn row(start: i64, end: i64) -> OutboxSpan<()> {
    OutboxSpan { start, end, events: 1, bytes: 10, records: () }
}

/// A publisher with an open producer that serves partition 0, whose group is at 5.
fn serving() -> (Publisher<()>, Assignment) {
    let mut publisher = Publisher::new(BOUNDS);
    let assignment = publisher.assign(0);
    assert_eq!(publisher.next_work(), Some(Work::OpenProducer));
    publisher.producer_opened(true);
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(assignment)));
    assert!(publisher.group_offset_read(assignment, Some(GroupOffset::At(5))));
    publisher.restart(assignment, 5, Backlog::default());
    (publisher, assignment)
}

fn begin(publisher: &mut Publisher<()>) -> Transaction<()> {
    let Some(Work::Publish { producer }) = publisher.next_work() else { panic!("nothing to publish") };
    publisher.begin(producer).expect("something to publish")
}

/// What the next transaction carries, by partition and the group's new offset.
fn begun(publisher: &mut Publisher<()>) -> (u64, Vec<(i32, i64)>) {
    let transaction = begin(publisher);
    (transaction.number, transaction.loads.iter().map(|load| (load.assignment.partition, load.to)).collect())
}

#[test]
fn what_is_applied_is_published_once() {
    let (mut publisher, assignment) = serving();
    publisher.applied(assignment, row(5, 8));
    let (number, carried) = begun(&mut publisher);
    assert_eq!(carried, [(0, 8)]);
    assert!(publisher.carries_any(&[0]) && publisher.next_work().is_none(), "one transaction at a time");
    assert!(publisher.ended(number, Ended::Committed).is_some());
    assert_eq!((publisher.next_work(), publisher.take_clearable()), (None, vec![(0, 8)]));
    assert!(publisher.ended(number, Ended::Committed).is_none(), "it has ended already");
}

#[test]
fn what_was_aborted_is_sent_again() {
    let (mut publisher, assignment) = serving();
    publisher.applied(assignment, row(5, 8));
    for _ in 0..2 {
        let (number, carried) = begun(&mut publisher);
        assert_eq!(carried, [(0, 8)]);
        publisher.ended(number, Ended::Aborted);
    }
}

/// What a slow broker does not take in time would else be tried for ever.
#[test]
fn what_fails_is_tried_in_smaller_transactions() {
    let (mut publisher, assignment) = serving();
    for start in 5..15 {
        publisher.applied(assignment, row(start, start + 1));
    }
    let mut carried = Vec::new();
    for ended in [Ended::Aborted, Ended::Aborted, Ended::Committed, Ended::Committed, Ended::Committed] {
        let (number, loads) = begun(&mut publisher);
        carried.push(loads[0].1);
        publisher.ended(number, ended);
    }
    assert_eq!(carried, [15, 10, 7, 12, 15]);
}

#[test]
fn what_was_read_back_is_sent_in_smaller_transactions_too() {
    let (mut publisher, assignment) = serving();
    publisher.restart(assignment, 15, Backlog { batches: 10, events: 10, bytes: 100 });
    let mut carried = Vec::new();
    for ended in [Ended::Aborted, Ended::Committed, Ended::Committed] {
        publisher.round();
        let Some(Work::ReadOutbox { from, .. }) = publisher.next_work() else { panic!("nothing to read") };
        let rows = (from..15).map(|start| row(start, start + 1)).collect();
        publisher.outbox_read(assignment, from, Some(OutboxRead { rows, position: Some(15) }));
        let (number, loads) = begun(&mut publisher);
        carried.push(loads[0].1);
        publisher.ended(number, ended);
    }
    assert_eq!(carried, [15, 10, 15]);
}

#[test]
fn any_doubt_means_a_new_producer_before_the_offset_is_asked_for() {
    let (mut publisher, assignment) = serving();
    publisher.applied(assignment, row(5, 8));
    let (number, _) = begun(&mut publisher);
    publisher.ended(number, Ended::InDoubt);
    assert_eq!(publisher.next_work(), Some(Work::OpenProducer));
    assert_eq!(publisher.next_work(), None, "it is being opened");
    publisher.producer_opened(true);
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(assignment)));
}

#[test]
fn a_thread_that_was_left_behind_begins_nothing() {
    let (mut publisher, assignment) = serving();
    publisher.applied(assignment, row(5, 8));
    let Some(Work::Publish { producer }) = publisher.next_work() else { panic!("nothing to publish") };
    publisher.producer_opened(false);
    publisher.producer_opened(true);
    assert!(publisher.begin(producer).is_none());
}

#[test]
fn nothing_of_a_partition_that_was_given_up_is_carried() {
    let (mut publisher, assignment) = serving();
    publisher.applied(assignment, row(5, 8));
    let Some(Work::Publish { producer }) = publisher.next_work() else { panic!("nothing to publish") };
    publisher.revoke(&[0]);
    assert!(publisher.begin(producer).is_none());
    // Given back, it is another assignment: what was known of it is asked for again.
    let again = publisher.assign(0);
    assert_ne!(again, assignment);
    publisher.applied(assignment, row(8, 9));
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(again)));
}

#[test]
fn an_answer_from_before_a_doubt_is_not_taken() {
    let (mut publisher, assignment) = serving();
    publisher.doubt(assignment);
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(assignment)));
    publisher.doubt(assignment);
    assert!(!publisher.group_offset_read(assignment, Some(GroupOffset::At(9))));
    assert_eq!(publisher.group_offset(assignment), GroupOffset::Unknown);
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(assignment)));
}

#[test]
fn rows_read_while_the_offset_came_into_doubt_are_dropped() {
    let (mut publisher, assignment) = serving();
    publisher.restart(assignment, 8, Backlog::default());
    assert_eq!(publisher.next_work(), Some(Work::ReadOutbox { assignment, from: 5 }));
    publisher.doubt(assignment);
    publisher.outbox_read(assignment, 5, Some(OutboxRead { rows: vec![row(5, 8)], position: Some(8) }));
    publisher.round();
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(assignment)), "publishing goes on from what it is");
}

#[test]
fn a_row_that_is_missing_halts_only_when_the_offset_is_confirmed() {
    for (confirmed, halts) in [(GroupOffset::At(5), true), (GroupOffset::At(8), false)] {
        let (mut publisher, assignment) = serving();
        publisher.restart(assignment, 8, Backlog::default());
        assert_eq!(publisher.next_work(), Some(Work::ReadOutbox { assignment, from: 5 }));
        publisher.outbox_read(assignment, 5, Some(OutboxRead { rows: Vec::new(), position: Some(8) }));
        assert_eq!(publisher.next_work(), Some(Work::ConfirmGroupOffset { assignment, from: 5 }));
        publisher.group_offset_confirmed(assignment, Some(confirmed));
        publisher.round();
        let halted = Work::Halt(assignment, HaltReason::OutboxRowMissing { offset: 5, position: 8 });
        assert_eq!(publisher.next_work() == Some(halted), halts);
    }
}

/// A coordinator that has just moved may tell what was before.
#[test]
fn what_the_broker_tells_is_asked_again_and_never_goes_back() {
    let (mut publisher, assignment) = serving();
    publisher.applied(assignment, row(5, 8));
    let first = begin(&mut publisher);
    assert!(first.loads[0].is_told);
    publisher.ended(first.number, Ended::Committed);
    publisher.applied(assignment, row(8, 9));
    let second = begin(&mut publisher);
    assert!(!second.loads[0].is_told, "our own transaction set it");

    publisher.ended(second.number, Ended::InDoubt);
    assert_eq!(publisher.next_work(), Some(Work::OpenProducer));
    publisher.producer_opened(true);
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(assignment)));
    publisher.group_offset_read(assignment, Some(GroupOffset::At(5)));
    assert_eq!(publisher.next_work(), Some(Work::AskGroupOffset(assignment)), "it was at 8");
    publisher.group_offset_read(assignment, Some(GroupOffset::At(9)));
    assert_eq!(publisher.next_work(), None);
}
