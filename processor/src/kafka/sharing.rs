//! Partitions that belong to nobody.
//!
//! Cooperative rebalancing moves a partition in two steps: a member gives it up, and then asks for a second rebalance in which
//! another takes it. A member that is killed between the two and comes back under its static name is taken for the one that
//! was there: the broker finds the group stable, begins no second rebalance, and the partition stays with nobody until
//! something else stirs the group. So each member looks now and then, and one of them joins anew.

use std::{collections::BTreeSet, time::Duration};

use rdkafka::{
    consumer::Consumer,
    error::{KafkaError, KafkaResult},
    groups::GroupMemberInfo,
    types::RDKafkaErrorCode,
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    consumer::{ConsumerHandle, Membership},
    group::{assigned_partitions, instance_id},
};

/// Between looks; two in a row must agree, as a group may be seen between the two steps.
const LOOK: Duration = Duration::from_secs(5);
/// The longest between them when joining anew was no help, time and again: it stirs up every member.
const LOOK_MAX: Duration = Duration::from_secs(80);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
#[derive(Debug)]
struct Member {
    instance_id: String,
    partitions: Vec<i32>,
}

/// Joins the group anew when partitions belong to nobody and this member is the one to do so. Never ends.
pub async fn watch(consumer: ConsumerHandle) {
    let mut seen = BTreeSet::new();
    let mut between = LOOK;
    loop {
        sleep(if seen.is_empty() { between } else { LOOK }).await;
        let handle = consumer.clone();
        let found = spawn_blocking(move || look(&handle)).await;
        let unowned = match found {
            Ok(Ok(Some(unowned))) => {
                if unowned.is_empty() {
                    between = LOOK;
                }
                unowned
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the group's members are not known");
                BTreeSet::new()
            }
            // A panic was logged.
            Ok(Ok(None)) | Err(_) => BTreeSet::new(),
        };
        if unowned.is_empty() || unowned != seen {
            seen = unowned;
            continue;
        }
        tracing::warn!(partitions = ?unowned, "partitions belong to nobody in a stable group: joining it anew");
        consumer.rejoin();
        seen.clear();
        between = (between * 2).min(LOOK_MAX);
    }
}

/// The partitions that belong to nobody; `None` when the group is not stable, or it is not for this member to see to them.
fn look(consumer: &ConsumerHandle) -> KafkaResult<Option<BTreeSet<i32>>> {
    let Membership { group_id, instance_id, topic } = consumer.membership();
    let consumer = consumer.consumer();
    let groups = consumer.fetch_group_list(Some(group_id), ANSWER_TIMEOUT)?;
    let stable = groups.groups().iter().find(|group| group.name() == group_id && group.state() == "Stable");
    let Some(group) = stable else { return Ok(None) };
    let members: Vec<Member> = group.members().iter().map(|member| read(member, topic)).collect();
    if !is_chosen(&members, instance_id) {
        return Ok(None);
    }
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let topic = metadata.topics().first().ok_or(unknown)?;
    let partitions = topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
    Ok(Some(unowned(&members, partitions)))
}

fn read(member: &GroupMemberInfo, topic: &str) -> Member {
    Member {
        instance_id: instance_id(member.id()).to_owned(),
        partitions: member.assignment().map(|bytes| assigned_partitions(bytes, topic)).unwrap_or_default(),
    }
}

/// The member with the fewest partitions sees to those of nobody: joining anew, it gives up its own for a moment.
fn is_chosen(members: &[Member], instance_id: &str) -> bool {
    let chosen = members.iter().min_by_key(|member| (member.partitions.len(), &member.instance_id));
    chosen.is_some_and(|member| member.instance_id == instance_id)
}

fn unowned(members: &[Member], partitions: impl Iterator<Item = i32>) -> BTreeSet<i32> {
    let owned: BTreeSet<i32> = members.iter().flat_map(|member| &member.partitions).copied().collect();
    partitions.filter(|partition| !owned.contains(partition)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(instance_id: &str, partitions: &[i32]) -> Member {
        Member { instance_id: instance_id.to_owned(), partitions: partitions.to_vec() }
    }

    #[test]
    fn the_member_with_the_fewest_partitions_sees_to_those_of_nobody() {
        let members = [member("a", &[3, 4]), member("b", &[]), member("c", &[])];
        assert!(is_chosen(&members, "b"));
        assert!(["a", "c", "gone"].iter().all(|other| !is_chosen(&members, other)));
        assert!(!is_chosen(&[], "b"));
        assert_eq!(unowned(&members, 0..6), BTreeSet::from([0, 1, 2, 5]));
        assert!(unowned(&members, 3..5).is_empty());
    }
}
