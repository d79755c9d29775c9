//! `SERVICE_UPDATE` (section 8): previous and new values in the forms that analysts have queries on.

use std::{fmt, sync::Arc};

use itertools::Itertools as _;

use super::{
    audit::{ChangeType, Report, ServiceFacts},
    changes::{KeyChange, KeyValue, Opening, Scalar},
    opening_times::{Notation, Written},
};

/// The report of one changed key.
pub fn report(service: &Arc<ServiceFacts>, change: &KeyChange) -> Report {
    let (previous, new) = values(change);
    Report::ServiceUpdate { service: Arc::clone(service), action: change.change_type, field: change.key, previous, new }
}

/// `previous_value` and `new_value`; `None` for null and for `''`.
fn values(change: &KeyChange) -> (Option<String>, Option<String>) {
    let key = change.key;
    match &change.value {
        KeyValue::Column { previous, new } => (scalar(previous.as_ref()), scalar(new.as_ref())),
        KeyValue::Openings { removed, added } => {
            let existing = (!removed.is_empty()).then(|| format!("{key}_existing={}", joined(removed)));
            let sides = [("remove", removed), ("add", added)].into_iter().filter(|(_, openings)| !openings.is_empty());
            let sides =
                sides.format_with("", |(side, openings), write| write(&format_args!("{side}={}", joined(openings))));
            (existing, Some(format!("{key}_update={sides}")))
        }
        KeyValue::ZCode(code) => {
            let side = if change.change_type == ChangeType::Add { "add" } else { "remove" };
            (None, Some(format!("{key}_update={side}={code}")))
        }
    }
}

fn scalar(value: Option<&Scalar>) -> Option<String> {
    match value? {
        Scalar::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Scalar::Number(number) => Some(number.to_string()),
    }
}

/// In order of date and time.
fn joined(openings: &[Opening]) -> impl fmt::Display {
    openings.iter().map(|opening| Written(*opening, Notation::Clock)).format(",")
}
