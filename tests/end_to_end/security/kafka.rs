//! Kafka with passwords and with certificates, under the rights of `deploy/kafka/acls`.

use std::path::Path;

use dosi_tests::program::Dosi;
use dosi_tests::stack::{Addresses, Identity, Kafka, Security};
use dosi_tests::{planted, topics};

use super::{HOST, Papers, WRONG_HOST, assert_refused, one_event_goes_all_the_way};
use crate::support_faults::{World, profile};

/// A node of its own with the listeners that ask who is there, and a world whose events go through it.
pub(super) struct Secured {
    pub(super) kafka: Kafka,
    pub(super) world: World,
    pub(super) papers: Papers,
    sasl_port: u16,
    certificates_port: u16,
}

impl Secured {
    /// The database is set up, topics are not made, nobody has a right.
    pub(super) async fn start() -> Self {
        let papers = Papers::new();
        let security = Security::new(papers.server.clone(), &papers.authority.file(), planted::KAFKA_PASSWORD).unwrap();
        let (sasl_port, certificates_port) = (security.sasl_port(), security.certificates_port());
        let kafka = Kafka::start_secured(security).unwrap();
        let addresses =
            Addresses { kafka_bootstrap_servers: kafka.bootstrap_servers(), ..Addresses::from_env().unwrap() };
        let world = World::bare(addresses, &["FA001"], 1).await;
        world.dosi.done(&["migrate"]).unwrap();
        Self { kafka, world, papers, sasl_port, certificates_port }
    }

    /// Rights for a purpose, as the script gives them.
    pub(super) fn allow(&self, purpose: &str, principal: &str) {
        self.kafka.acls(&[purpose, principal], self.world.dosi.settings()).unwrap();
    }

    pub(super) fn with_password(&self, mechanism: &str, password: &str, host: &str, authority: &Path) -> Dosi {
        let file = self.papers.file(
            &format!("{}.properties", topics::unique("sasl")),
            &format!(
                "security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nsasl.username=dosi\nsasl.password={password}\n\
                 ssl.ca.location={}\n",
                authority.display()
            ),
        );
        let dosi = self.world.dosi.clone().with("DOSI_KAFKA_CONFIG", file.to_str().unwrap());
        dosi.with("DOSI_KAFKA_BOOTSTRAP_SERVERS", &format!("{host}:{}", self.sasl_port))
    }

    /// As dosi's user, with everything right.
    pub(super) fn dosi(&self) -> Dosi {
        self.with_password("SCRAM-SHA-512", planted::KAFKA_PASSWORD, HOST, &self.papers.authority.file())
    }

    fn with_certificate(&self, client: Option<&Identity>) -> Dosi {
        let authority = self.papers.authority.file();
        let mut lines = vec!["security.protocol=SSL".to_owned(), format!("ssl.ca.location={}", authority.display())];
        lines.extend(client.map(|client| format!("ssl.certificate.location={}", client.certificate.display())));
        lines.extend(client.map(|client| format!("ssl.key.location={}", client.key.display())));
        let file = self.papers.file(&format!("{}.properties", topics::unique("mtls")), &lines.join("\n"));
        let dosi = self.world.dosi.clone().with("DOSI_KAFKA_CONFIG", file.to_str().unwrap());
        dosi.with("DOSI_KAFKA_BOOTSTRAP_SERVERS", &format!("{HOST}:{}", self.certificates_port))
    }
}

#[tokio::test]
async fn kafka_that_asks_who_is_there() {
    let secured = Secured::start().await;
    let papers = &secured.papers;

    // Each purpose under the rights of its own, and with nobody's rights none of them.
    let setter = papers.authority.issue("setter", &[]).unwrap();
    let publisher = papers.authority.issue("publisher", &[]).unwrap();
    let (setter, publisher) = (secured.with_certificate(Some(&setter)), secured.with_certificate(Some(&publisher)));
    assert_refused(&setter, &["topics"], &["authorization failed"]);
    secured.allow("topics", "User:setter");
    setter.done(&["topics"]).unwrap();
    assert_refused(&secured.dosi(), &["run"], &["Kafka refuses", secured.world.dosi.input_topic()]);
    secured.allow("publish", "User:publisher");
    let event = planted::with_staff(&profile("FA001", "01131").to_string());
    let events = papers.file("events.jsonl", &format!(r#"{{"sequence":1,"event":{event}}}"#));
    publisher.done(&["publish", events.to_str().unwrap()]).unwrap();

    secured.allow("run", "User:dosi");
    for (sequence, mechanism) in (2..).zip(["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"]) {
        let authority = papers.authority.file();
        let dosi = secured.with_password(mechanism, planted::KAFKA_PASSWORD, HOST, &authority);
        one_event_goes_all_the_way(&secured.world, &dosi, sequence).await;
        let wrong = secured.with_password(mechanism, "planted-secret-that-is-wrong", HOST, &authority);
        assert_refused(&wrong, &["run"], &["Kafka refuses", "uthentication"]);
    }
    let with_certificate = secured.with_certificate(Some(&papers.client));
    one_event_goes_all_the_way(&secured.world, &with_certificate, 5).await;
    let shown = secured.dosi().done(&["position", "show"]).unwrap();
    assert!(shown.contains("ok"), "{shown}");
    assert_eq!(secured.world.outcomes().await.count("UPDATED"), 5);
    let repair = ["position", "set", "--partition", "0", "--offset", "5", "--reason", "a test"];
    secured.dosi().done(&repair).unwrap();

    what_is_wrong_is_one_line(&secured);
}

fn what_is_wrong_is_one_line(secured: &Secured) {
    let papers = &secured.papers;
    let password = planted::KAFKA_PASSWORD;
    let (ours, strangers) = (papers.authority.file(), papers.stranger.file());
    let untrusted = secured.with_password("PLAIN", password, HOST, &strangers);
    let misnamed = secured.with_password("PLAIN", password, WRONG_HOST, &ours);
    let wrong = secured.with_password("PLAIN", "planted-secret-that-is-wrong", HOST, &ours);
    let nobody = secured.with_certificate(None);
    let stranger = secured.with_certificate(Some(&papers.stranger_as_client));
    let cases = [
        (&untrusted, ["is not trusted", "ssl.ca.location", HOST]),
        (&misnamed, ["is not trusted", "host name", WRONG_HOST]),
        (&wrong, ["Kafka refuses", "uthentication", HOST]),
        (&nobody, ["Kafka refuses", "certificate", HOST]),
        (&stranger, ["Kafka refuses", "certificate", HOST]),
    ];
    let commands: [&[&str]; 4] = [&["run"], &["topics"], &["position", "show"], &["publish", "/dev/null"]];
    // Side by side, as each waits for the time-out of its first question.
    std::thread::scope(|scope| {
        for (dosi, holding) in cases {
            scope.spawn(move || commands.iter().for_each(|command| assert_refused(dosi, command, &holding)));
        }
    });
}
