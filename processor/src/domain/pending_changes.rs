//! Pending changes that people proposed in DoS and that an event overrules (section 4).

use std::collections::BTreeMap;

use serde_json::{Value, json, value::RawValue};

use super::{
    changes::{COLUMN_KEYS, WEEKDAY_KEYS},
    json as lenient,
    service::{Creator, PendingChange},
};

/// This service keeps the key itself; a change of any other key is for people to judge (rule 4.1).
fn is_rejectable(key: &str) -> bool {
    COLUMN_KEYS.contains(&key) || WEEKDAY_KEYS.contains(&key)
}

/// A pending change to reject, with what the e-mail to its creator tells (rules 4.2, 4.3). Personal data.
pub(super) struct Rejection {
    pub change_id: String,
    pub creator: Creator,
    /// JSON array of `{"key", "previous", "proposed"}`.
    pub changes: String,
}

/// The rejectable ones among the pending changes by service, in id order (rule 4.1).
pub(super) fn rejections(pending: Vec<PendingChange>) -> BTreeMap<i32, Vec<Rejection>> {
    let mut rejections: BTreeMap<i32, Vec<Rejection>> = BTreeMap::new();
    for change in pending {
        if let Some(changes) = overruled(&change.value) {
            let rejection = Rejection { change_id: change.id, creator: change.creator, changes };
            rejections.entry(change.service_id).or_default().push(rejection);
        }
    }
    for of_service in rejections.values_mut() {
        of_service.sort_by(|one, other| one.change_id.cmp(&other.change_id));
    }
    rejections
}

/// What a rejectable change proposes, as [`Rejection::changes`]; `None` when it is to be left alone.
fn overruled(value: &str) -> Option<String> {
    let document = lenient::members(lenient::parse(value)?)?;
    let proposed = lenient::members(document.get("new")?)?;
    if proposed.is_empty() || !proposed.iter().all(|(key, _)| is_rejectable(key)) {
        return None;
    }
    let mut changes: Vec<Value> = Vec::new();
    for (key, change) in proposed.iter().rev() {
        if changes.iter().all(|later| later["key"] != key) {
            changes.push(described(key, change));
        }
    }
    changes.reverse();
    Some(Value::Array(changes).to_string())
}

fn described(key: &str, change: &RawValue) -> Value {
    let parts = lenient::members(change).unwrap_or_default();
    let part = |name| parts.get(name).map_or(Value::Null, shown);
    json!({"key": key, "previous": part("previous"), "proposed": part("data")})
}

/// A text as it is; anything else as it stands in the JSON.
fn shown(value: &RawValue) -> Value {
    if lenient::is_null(value) {
        return Value::Null;
    }
    let text = lenient::text(value).map_or_else(|| value.get().to_owned(), std::borrow::Cow::into_owned);
    Value::String(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_must_be_one_of_ours() {
        let fine = r#"{"new": {"cmsurl": {"changetype": "modify", "data": "x<y", "previous": "old"}}}"#;
        assert_eq!(overruled(fine).unwrap(), r#"[{"key":"cmsurl","previous":"old","proposed":"x<y"}]"#);
        for left_alone in [
            "not json",
            "[]",
            "{}",
            r#"{"new": {}}"#,
            r#"{"new": null}"#,
            r#"{"new": ["cmsurl"]}"#,
            r#"{"new": {"cmssgsdid": {}}}"#,
            r#"{"new": {"cmsurl": {}, "cmsopentimespecified": {}}}"#,
            r#"{"new": {"cmsorgstatus": {}}}"#,
            r#"{"new": {"CMSURL": {}}}"#,
        ] {
            assert_eq!(overruled(left_alone), None, "{left_alone}");
        }
    }

    #[test]
    fn values_are_told_as_they_stand() {
        let value = r#"{"new": {"cmsopentimemonday": {"data": {"add": ["0-60"]}, "previous": null}, "cmseastings": {"data": 1.50}, "cmsnorthings": 3}}"#;
        let expected = concat!(
            r#"[{"key":"cmsopentimemonday","previous":null,"proposed":"{\"add\": [\"0-60\"]}"},"#,
            r#"{"key":"cmseastings","previous":null,"proposed":"1.50"},"#,
            r#"{"key":"cmsnorthings","previous":null,"proposed":null}]"#
        );
        assert_eq!(overruled(value).unwrap(), expected);
    }
}
