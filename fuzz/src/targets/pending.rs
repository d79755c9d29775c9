//! Changes that people proposed, as the DoS web application stored them.

use std::collections::BTreeSet;

use dosi::domain::service::{Creator, PendingChange};
use serde_json::Value;

use super::holds_planted;
use crate::support::{
    dos::{ChangeRow, Dos},
    examples::{event, input, pharmacy, today},
};

/// Rule 4.1, said once more: a key that the core loses is a finding.
const OURS: [&str; 14] = [
    "postaladdress",
    "cmseastings",
    "cmsnorthings",
    "cmsorgtown",
    "postalcode",
    "cmstelephoneno",
    "cmsurl",
    "cmsopentimemonday",
    "cmsopentimetuesday",
    "cmsopentimewednesday",
    "cmsopentimethursday",
    "cmsopentimefriday",
    "cmsopentimesaturday",
    "cmsopentimesunday",
];

pub(crate) fn run(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    let person = || super::PLANTED.to_owned();
    let creator = Creator { username: person(), first_name: person(), last_name: person(), email: None };
    let change = PendingChange { id: "c1".to_owned(), service_id: 1, value: value.to_owned(), creator };
    let mut dos = Dos::on(today()).with([pharmacy(1)]);
    dos.changes = vec![ChangeRow { change, status: "PENDING".to_owned(), modifier: String::new() }];
    let decision = dos.batch(&[input(&event(), 1)]).remove(0);
    let is_rejected = dos.changes[0].status == "REJECTED";
    assert_eq!(is_rejected, dos.mails.len() == 1);
    if let Ok(tree) = serde_json::from_str::<Value>(value) {
        let keys = tree.get("new").and_then(Value::as_object);
        let wanted = keys.is_some_and(|keys| !keys.is_empty() && keys.keys().all(|key| OURS.contains(&key.as_str())));
        assert_eq!(is_rejected, wanted, "rule 4.1");
    }
    let said = format!("{:?}{:?}", decision.reports, dos.mails);
    assert!(!holds_planted(said.as_bytes()), "the person is named");
    for mail in &dos.mails {
        let changes: Vec<Value> = serde_json::from_str(&mail.changes).unwrap();
        let keys: BTreeSet<&str> = changes.iter().filter_map(|change| change["key"].as_str()).collect();
        assert!(!keys.is_empty() && keys.len() == changes.len() && keys.iter().all(|key| OURS.contains(key)));
        let is_shown = |part: &Value| part.is_null() || part.is_string();
        assert!(changes.iter().all(|change| is_shown(&change["previous"]) && is_shown(&change["proposed"])));
    }
}
