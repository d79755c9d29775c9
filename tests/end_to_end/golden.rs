//! What the service that this project replaces did, through Kafka, dosi and PostgreSQL in one run: rows, histories,
//! pending changes, mails and reports.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use dosi_tests::audit::Record;
use dosi_tests::golden_form::{Case, Event, Service, golden_copies};
use serde_json::{Value, json};

use crate::core_support::golden_reports::{dates_in_order, expected_report, in_order, sorted};
use crate::ending::{Caused, Ending, assert_history_grew};
use crate::support::Scene;

/// Enough events to be killed in the middle of; every copy is judged.
const COPIES: usize = 2;
const WITHIN: Duration = Duration::from_secs(240);

/// The golden cases, each with a code and ids of its own, their events in a topic.
pub(crate) struct GoldenScene {
    pub(crate) scene: Scene,
    pub(crate) cases: Vec<Case>,
}

impl GoldenScene {
    pub(crate) async fn set(mut cases: Vec<Case>) -> Self {
        for case in &mut cases {
            name_events(case);
        }
        let of_all = |part: fn(&Case) -> &[_]| cases.iter().flat_map(|case| part(case).to_vec()).collect::<Vec<_>>();
        let services = of_all(|case| &case.services);
        let (today, locations) = (&cases[0].today, &cases[0].locations);
        assert!(cases.iter().all(|case| &case.today == today && &case.locations == locations), "one day, one country");
        let scene = Scene::set(&services, locations, &mixed(&cases), today).await;
        Self { scene, cases }
    }

    pub(crate) fn services(&self) -> Vec<Service> {
        self.cases.iter().flat_map(|case| case.services.clone()).collect()
    }

    /// Rows, histories, changes, mails, reports and outcomes are what the cases expect; says all that is not.
    pub(crate) fn assert_expected(&self, ending: &Ending) {
        let mut after = ending.services.iter();
        let mut differences = Vec::new();
        for case in &self.cases {
            let mut compare = |what: String, ours: &Value, expected: &Value| {
                if ours != expected {
                    differences.push(format!("{} {what}\n  ours     {ours}\n  expected {expected}", case.id));
                }
            };
            for (before, expected) in case.services.iter().zip(&case.expect.services) {
                let after = after.next().unwrap();
                assert_history_grew(after, before);
                let ours = after.in_golden_form(before).unwrap();
                compare(format!("service {}", before.id), &dated(ours), &dated(expected.clone()));
            }
            compare("emails".to_owned(), &mails(case, ending), &json!(case.expect.emails));
            compare("rejected changes".to_owned(), &rejected_changes(case, ending), &json!(case.expect.emails));
            for (event, expected) in case.events.iter().zip(&case.expect.reports) {
                let name = event.correlation_id.as_ref().unwrap();
                let caused = &ending.events[name];
                let ours = sorted(caused.audit.iter().filter_map(report).collect());
                let expected = sorted(expected.iter().filter_map(expected_report).collect());
                compare(format!("reports of {name}"), &ours, &expected);
                compare(format!("outcome of {name}"), &outcome(caused), &expected_outcome(&expected));
            }
        }
        assert!(after.next().is_none());
        let shown = differences.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
        assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
    }
}

/// A single instance's undisturbed run over the golden cases.
pub(crate) struct Control {
    pub(crate) golden: GoldenScene,
    pub(crate) ending: Ending,
}

/// Run once, by the first test that asks.
pub(crate) fn control() -> &'static Control {
    static CONTROL: OnceLock<Control> = OnceLock::new();
    CONTROL.get_or_init(|| {
        // On a thread and in a runtime of its own, as sessions end with their runtime.
        let run = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let golden = GoldenScene::set(cases(COPIES)).await;
                let run = golden.scene.new_run().await;
                run.to_end(WITHIN);
                let ending = Ending::read(&golden.scene, &run).await;
                Control { golden, ending }
            })
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn cases(copies: usize) -> Vec<Case> {
    let cases = golden_copies(copies).unwrap();
    assert_eq!(cases.len(), 398 * copies);
    cases
}

#[test]
fn every_golden_case_through_the_whole_program() {
    let Control { golden, ending } = control();
    golden.assert_expected(ending);
}

fn name_events(case: &mut Case) {
    let code = crate::support::code_of(&case.events[0])[..5].to_owned();
    for (number, event) in case.events.iter_mut().enumerate() {
        event.correlation_id = Some(format!("{}-{code}-{number}", case.id));
    }
}

/// All first events, then all second ones: events of one code lie apart, as they do in life, in batches of their own or not.
fn mixed(cases: &[Case]) -> Vec<Event> {
    let most = cases.iter().map(|case| case.events.len()).max().unwrap_or(0);
    (0..most).flat_map(|round| cases.iter().filter_map(move |case| case.events.get(round).cloned())).collect()
}

fn dated(mut service: Value) -> Value {
    service["history_new"] = dates_in_order(service["history_new"].take());
    service
}

/// Changes of a case begin with the ids of its services.
fn is_of(case: &Case, change_id: &str) -> bool {
    case.services.iter().flat_map(|service| &service.changes).any(|change| change.id == change_id)
}

fn mails(case: &Case, ending: &Ending) -> Value {
    let ids = ending.mails.iter().map(|mail| mail["change_id"].clone());
    ids.filter(|id| is_of(case, id.as_str().unwrap())).collect()
}

/// One audit record for each mail (rule 4.2).
fn rejected_changes(case: &Case, ending: &Ending) -> Value {
    let names = case.events.iter().map(|event| event.correlation_id.as_ref().unwrap());
    let records = names.flat_map(|name| &ending.events[name].audit);
    let rejected = records.filter(|record| record.field("report_key") == "PENDING_CHANGE_REJECTED");
    let mut ids: Vec<_> = rejected.map(|record| record.field("change_id").as_str().unwrap()).collect();
    ids.sort_unstable();
    json!(ids)
}

/// An audit record in the words of [`expected_report`]; `None` for what the old service did not log.
fn report(record: &Record) -> Option<Value> {
    let field = |name: &str| record.field(name);
    let text = |name: &str| in_order(field(name).as_str());
    let (uid, region) = (field("service_uid"), field("service_region"));
    let key = field("report_key").as_str().unwrap();
    let words = match key {
        "SERVICE_UPDATE" => {
            let (previous, new) = (text("previous_value"), text("new_value"));
            json!([uid, region, field("action"), field("data_field_modified"), previous, new])
        }
        "HIDDEN_OR_CLOSED" | "BLANK_STANDARD_OPENINGS" => json!([uid, region]),
        "UNMATCHED_PHARMACY" => json!([]),
        "INVALID_OPEN_TIMES" => {
            let uids = field("matched_service_uids").as_array().unwrap().iter().map(|uid| uid.as_str().unwrap());
            json!([uids.collect::<Vec<_>>().join(", ")])
        }
        "MISSING_SERVICE_TYPE" => json!([region, field("missing_service_type"), field("reason")]),
        "INVALID_POSTCODE" | "GENERIC_CHANGE_EVENT_ERROR" => json!([uid, region, field("reason")]),
        "GENERIC_BANK_HOLIDAY" => json!([uid, region, field("bank_holiday_opening_times")]),
        "CHANGE_EVENT_REJECTED" => json!([field("reason")]),
        "PENDING_CHANGE_REJECTED" | "CHANGE_EVENT_OUTCOME" => return None,
        _ => json!(["unexpected"]),
    };
    Some(json!([key, words]))
}

/// The outcome record: outcome, services updated, fields updated.
fn outcome(caused: &Caused) -> Value {
    let last = caused.audit.last().unwrap();
    json!([last.field("outcome"), last.field("services_updated"), last.field("fields_updated")])
}

/// What the reports say together.
fn expected_outcome(reports: &Value) -> Value {
    let reports = reports.as_array().unwrap();
    let has = |key: &str| reports.iter().any(|report| report[0] == key);
    let updates: Vec<_> = reports.iter().filter(|report| report[0] == "SERVICE_UPDATE").collect();
    let services: BTreeSet<_> = updates.iter().map(|report| report[1][0].as_str()).collect();
    let outcome = if let Some(rejected) = reports.iter().find(|report| report[0] == "CHANGE_EVENT_REJECTED") {
        let is_stale = rejected[1][0] == "Sequence number is smaller than the last accepted";
        if is_stale { "STALE" } else { "REJECTED" }
    } else if has("UNMATCHED_PHARMACY") {
        "UNMATCHED"
    } else if has("HIDDEN_OR_CLOSED") {
        "HIDDEN_OR_CLOSED"
    } else if updates.is_empty() {
        "UNCHANGED"
    } else {
        "UPDATED"
    };
    json!([outcome, services.len(), updates.len()])
}
