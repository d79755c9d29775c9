//! What a group member's assignment says.

use dosi::kafka::group::assigned_partitions;

const TOPIC: &str = "in";

pub(crate) fn run(assignment: &[u8]) {
    let found = assigned_partitions(assignment, TOPIC);
    assert!(found.len() * 4 <= assignment.len(), "more partitions than bytes");
    if assignment.len() < 6 || found.is_empty() {
        return;
    }
    // An assignment of just these says the same.
    let mut written = vec![0, 1, 0, 0, 0, 1, 0, 2];
    written.extend_from_slice(TOPIC.as_bytes());
    written.extend_from_slice(&i32::try_from(found.len()).unwrap().to_be_bytes());
    written.extend(found.iter().flat_map(|partition| partition.to_be_bytes()));
    assert_eq!(assigned_partitions(&written, TOPIC), found);
    for end in 0..written.len() {
        assert!(assigned_partitions(&written[..end], TOPIC).is_empty(), "half an assignment is none");
    }
}
