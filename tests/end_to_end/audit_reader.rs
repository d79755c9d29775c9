//! The second reader itself: it sees what was produced, byte for byte, and decodes by the registry's schema.

use dosi_tests::stack::Addresses;
use dosi_tests::topics::{self, Record};
use dosi_tests::{audit, http};
use serde_json::{Value, json};

#[tokio::test]
async fn what_was_produced_is_read_back() {
    let addresses = Addresses::from_env().unwrap();
    let topic = topics::unique("reader");
    topics::create(&addresses, &topic, 3, &[("cleanup.policy", "compact")]).await.unwrap();
    let id = register(&addresses, &format!("{topic}-value"));
    let records = [
        Record {
            partition: Some(2),
            key: Some(b"FA123".to_vec()),
            value: Some(framed(id)),
            headers: vec![("h".to_owned(), b"1".to_vec()), ("h".to_owned(), vec![0xff])],
        },
        Record { partition: Some(2), key: Some(vec![0xff]), value: Some(b"{}".to_vec()), ..Record::default() },
        Record { partition: Some(0), key: Some(b"t".to_vec()), ..Record::default() },
    ];
    topics::produce(&addresses, &topic, &records).await.unwrap();

    let mut read = audit::read(&addresses, &[&topic]).unwrap();

    read.sort_by_key(|record| (record.partition, record.offset));
    let [tombstone, framed, text] = &read[..] else { panic!("{read:?}") };
    assert_eq!((tombstone.partition, &tombstone.key), (0, &json!("t")));
    assert_eq!((&tombstone.avro, &tombstone.text, &tombstone.base64), (&None, &None, &None));
    assert_eq!((framed.partition, framed.offset, &framed.key), (2, 0, &json!("FA123")));
    assert_eq!(framed.headers, [("h".to_owned(), json!("1")), ("h".to_owned(), json!({"base64": "/w=="}))]);
    assert_eq!(framed.avro, Some(json!({"text": "é", "number": null, "list": ["a"]})));
    assert_eq!((&text.key, text.text.as_deref()), (&json!({"base64": "/w=="}), Some("{}")));
}

fn register(addresses: &Addresses, subject: &str) -> u32 {
    let schema = json!({"type": "record", "name": "Example", "fields": [
        {"name": "text", "type": "string"},
        {"name": "number", "type": ["null", "long"], "default": null},
        {"name": "list", "type": {"type": "array", "items": "string"}},
    ]});
    let body = json!({"schema": schema.to_string()}).to_string();
    let url = format!("{}/subjects/{subject}/versions", addresses.schema_registry_url);
    let answer = http::post(&url, "application/vnd.schemaregistry.v1+json", &body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str::<Value>(&answer.body).unwrap()["id"].as_u64().unwrap().try_into().unwrap()
}

/// `{"text": "é", "number": null, "list": ["a"]}`, written by hand.
fn framed(id: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([4, 0xc3, 0xa9, 0, 2, 2, b'a', 0]);
    bytes
}
