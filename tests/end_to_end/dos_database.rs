//! The test database itself: what is loaded is what is read back.

use dosi_tests::dos::Dos;
use dosi_tests::golden_form::golden_cases;
use dosi_tests::stack::Addresses;
use serde_json::json;

#[tokio::test]
async fn golden_services_are_read_back_as_they_were_loaded() {
    let cases = golden_cases().unwrap();
    let before: Vec<_> = cases.iter().flat_map(|case| case.services.clone()).collect();
    let mut dos = Dos::create(&Addresses::from_env().unwrap()).await.unwrap();
    dos.load(&before, &cases[0].locations).await.unwrap();

    let after = dos.services().await.unwrap();

    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after.history, before.history, "service {}", before.id);
        let form = after.in_golden_form(before).unwrap();
        assert_eq!(form["history_new"], json!([]), "service {}", before.id);
        assert_eq!(form["uid"], json!(before.uid));
        assert_eq!(form["specified"].as_array().map(Vec::len), Some(before.specified.len()), "service {}", before.id);
    }
}

/// A case in which nothing changes expects exactly what was there, so that reader and loader are judged by what was observed.
#[tokio::test]
async fn services_that_no_event_touched_are_as_the_golden_cases_expect() {
    let cases = golden_cases().unwrap();
    let before: Vec<_> = cases.iter().flat_map(|case| case.services.clone()).collect();
    let mut dos = Dos::create(&Addresses::from_env().unwrap()).await.unwrap();
    dos.load(&before, &cases[0].locations).await.unwrap();
    let after = dos.services().await.unwrap();

    let expected = cases.iter().flat_map(|case| case.expect.services.clone());
    let mut untouched = 0;
    for ((expected, after), before) in expected.zip(&after).zip(&before) {
        let rejected = expected["changes"].as_array().unwrap().iter().any(|change| change[1] == "REJECTED");
        if expected["modifiedby"] == "someone" && !rejected {
            assert_eq!(after.in_golden_form(before).unwrap(), expected);
            untouched += 1;
        }
    }
    assert!(untouched > 100, "only {untouched} services to judge by");
}
