//! What the broker tells of a group's members: who they are, and their assignments (the classic consumer protocol's embedded format,
//! Kafka's `ConsumerProtocolAssignment`).

/// The broker calls a static member by its name, a minus and a UUID.
const ID_SUFFIX: usize = 37;

/// A static member's name; empty for another's.
pub fn instance_id(member_id: &str) -> &str {
    member_id.get(..member_id.len().saturating_sub(ID_SUFFIX)).unwrap_or_default()
}

/// Partitions of `topic` in an assignment; whatever is cut short or unknown ends the reading.
pub fn assigned_partitions(assignment: &[u8], topic: &str) -> Vec<i32> {
    let mut reader = Reader(assignment);
    reader.partitions_of(topic).unwrap_or_default()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// `version int16, [topic string, [partition int32]]`
    fn partitions_of(&mut self, topic: &str) -> Option<Vec<i32>> {
        self.bytes(2)?;
        let mut found = Vec::new();
        for _ in 0..self.int32()? {
            let length = self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))?;
            let is_ours = self.bytes(usize::from(length))? == topic.as_bytes();
            for _ in 0..self.int32()? {
                let partition = self.int32()?;
                if is_ours {
                    found.push(partition);
                }
            }
        }
        Some(found)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn int32(&mut self) -> Option<i32> {
        self.bytes(4).map(|bytes| i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

#[cfg(test)]
mod tests {
    use super::assigned_partitions;

    #[test]
    fn reads_one_topics_partitions() {
        let bytes = b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x01\0\0\0\x09\0\x01b\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\0";
        assert_eq!(assigned_partitions(bytes, "b"), [3, 4]);
        assert_eq!(assigned_partitions(bytes, "a"), [9]);
        assert!(assigned_partitions(bytes, "c").is_empty());
        assert!(assigned_partitions(&bytes[..9], "a").is_empty());
        assert!(assigned_partitions(&[], "a").is_empty());
    }
}
