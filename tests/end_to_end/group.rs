//! Where a group and the log of its topic stand; a broker that does not say fails the test.

use std::collections::BTreeMap;

use dosi_tests::group;
use dosi_tests::stack::Addresses;

/// See [`group::Group`].
pub(crate) struct Group(group::Group);

impl Group {
    pub(crate) fn new(addresses: &Addresses, group: &str, topic: &str) -> Self {
        Self(group::Group::new(addresses, group, topic).unwrap())
    }

    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        self.0.ends().unwrap()
    }

    pub(crate) fn is_readable(&self, topic: &str) -> bool {
        self.0.is_readable(topic).unwrap()
    }

    pub(crate) fn owners(&self) -> BTreeMap<String, Vec<i32>> {
        self.0.owners().unwrap()
    }

    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        self.0.committed().unwrap()
    }

    pub(crate) fn committed_for_good(&self, partition: i32) -> Option<i64> {
        self.0.committed_for_good(partition).unwrap()
    }
}
