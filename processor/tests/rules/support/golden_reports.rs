//! What golden cases expect of reports and histories, in words that can be compared.

use serde_json::{Value, json};

/// The old service added specified dates in the order of their texts, April first; ours are in order of date.
pub(crate) fn dates_in_order(mut entries: Value) -> Value {
    for entry in entries.as_array_mut().unwrap() {
        if let Some(Value::Array(added)) = entry.pointer_mut("/cmsopentimespecified/data/add") {
            added.sort_by_key(|date| date.as_str().unwrap()[..10].to_owned());
        }
    }
    entries
}

/// A line of `expect.reports` in words that both sides know: `[key, [words]]`; `None` for what is not reported any more.
pub(crate) fn expected_report(line: &Value) -> Option<Value> {
    if let Some(error) = line.get("error") {
        let reason = rejection(error.as_str().unwrap())?;
        return Some(json!(["CHANGE_EVENT_REJECTED", [reason]]));
    }
    let unquoted = |name: &str| Some(line[name].as_str()?.trim_matches('"')).filter(|text| !text.is_empty());
    let (uid, region) = (&line["service_uid"], &line["dos_region"]);
    let words = match line["report_key"].as_str().unwrap() {
        "SERVICE_UPDATE" => {
            let (previous, new) = (in_order(unquoted("previous_value")), in_order(unquoted("new_value")));
            json!([uid, region, line["action"], line["data_field_modified"], previous, new])
        }
        "HIDDEN_OR_CLOSED" => json!([line["dos_service_uid"], region]),
        "BLANK_STANDARD_OPENINGS" => json!([uid, region]),
        "UNMATCHED_PHARMACY" => json!([]),
        "INVALID_OPEN_TIMES" => json!([line["dos_services"]]),
        "MISSING_SERVICE_TYPE" => json!([region, line["dos_missing_service_type"], line["reason"]]),
        "INVALID_POSTCODE" => json!([uid, region, line["validation_error_reason"]]),
        "GENERIC_BANK_HOLIDAY" => {
            let periods = line["bank_holiday_opening_times"].as_str().unwrap();
            json!([uid, region, periods.replace(":00-", "-").replace(":00]", "").replace('[', "")])
        }
        "GENERIC_CHANGE_EVENT_ERROR" => json!([uid, region, line["error_reason"]]),
        key => json!(["unknown", key]),
    };
    Some(json!([line["report_key"], words]))
}

/// Our reason (rules 1.3, 1.4) in the old wording; `None` for other errors.
fn rejection(error: &str) -> Option<&'static str> {
    let reasons = [
        ("Validation Error - Unexpected Org Type ID", "OrganisationTypeId not supported"),
        ("Validation Error - Unexpected Org Sub Type ID", "OrganisationSubType not supported"),
        ("Validation Error - ODSCode Wrong Length", "ODSCode wrong length"),
        ("Sequence id is smaller", "Sequence number is smaller than the last accepted"),
    ];
    let reason = reasons.iter().find(|(wording, _)| error.starts_with(wording)).map(|(_, reason)| *reason);
    assert!(reason.is_some() || !error.starts_with("Validation Error"), "{error}");
    reason
}

/// The old service listed periods in no fixed order; ours are in order of date and time.
pub(crate) fn in_order(value: Option<&str>) -> Option<String> {
    let value = value?;
    if !value.starts_with("cmsopentime") {
        return Some(value.to_owned());
    }
    let value = value.replace("add=", "\nadd=").replace("remove=", "\nremove=");
    let lines = value.lines().map(|line| {
        let (name, periods) = line.rsplit_once('=').unwrap();
        let mut periods: Vec<&str> = periods.split(',').collect();
        periods.sort_unstable();
        format!("{name}={}", periods.join(","))
    });
    Some(lines.collect())
}

pub(crate) fn sorted(mut reports: Vec<Value>) -> Value {
    reports.sort_by_key(Value::to_string);
    Value::Array(reports)
}
