//! The other settings that have a form of their own: properties of librdkafka, the registry's address, brokers, names.

use dosi::config::{KafkaProperties, RegistryUrl, values};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    properties(text);
    registry_url(text);
    names(text);
}

fn properties(text: &str) {
    let Ok(properties) = KafkaProperties::parse(text) else { return };
    let mut written = String::new();
    for (name, value) in properties.iter() {
        assert!(!name.is_empty() && !name.contains(char::is_whitespace) && !name.contains('='));
        for protected in ["transactional.id", "isolation.level", "group.id", "acks", "bootstrap.servers"] {
            assert_ne!(name.trim_start_matches("topic."), protected);
        }
        written.extend([name, " = ", value, "\n"]);
    }
    assert!(KafkaProperties::parse(&written).is_ok_and(|again| again == properties), "written and read it is the same");
}

/// No user and no password is left in what is shown.
fn registry_url(text: &str) {
    let Ok(url) = RegistryUrl::parse(text) else { return };
    let again = RegistryUrl::parse(&url.base).unwrap_or_else(|fault| panic!("the address alone is none: {fault}"));
    assert_eq!(again, RegistryUrl { base: url.base.clone(), user: None, password: None });
    assert!(url.base.starts_with("http://") || url.base.starts_with("https://"));
}

fn names(text: &str) {
    if values::kafka_name(text).is_ok() {
        assert!(text.len() <= 249 && text.is_ascii() && !text.contains([' ', '/', '\n', '\0']));
    }
    if let Ok(name) = values::sql_identifier(text) {
        assert!(name.as_str() == text && text.len() <= 63 && !text.contains(['"', '.', ' ', '\0']));
    }
    if values::listen_address(text).is_ok() {
        assert!(
            values::bootstrap_servers(text).is_ok() || text.contains(','),
            "an address with a port is a broker's too"
        );
    }
    if let Ok(number) = values::whole_number(text, -5, 1_000) {
        assert!((-5..=1_000).contains(&number));
    }
    if let Ok(date) = values::date(text) {
        assert_eq!(values::date(&date.to_string()), Ok(date));
    }
    let _ = (values::printable(text), values::log_filter(text));
    let decoded = values::percent_decoded(text);
    assert!(text.contains('%') || decoded == text);
    let encoded: Vec<String> = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(values::percent_decoded(&encoded.concat()), text);
}
