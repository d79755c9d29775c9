//! PostgreSQL over TLS with `sslmode=verify-full`: with a password (SCRAM) and with a certificate.

use dosi_tests::program::Dosi;
use dosi_tests::stack::{Addresses, Identity, Postgres};
use dosi_tests::{dos, planted};
use serde_json::json;

use super::{HOST, Papers, WRONG_HOST, assert_nothing_planted, assert_refused, one_event_goes_all_the_way};
use crate::support_faults::World;

struct Secured {
    postgres: Postgres,
    world: World,
    papers: Papers,
}

impl Secured {
    async fn start() -> Self {
        let papers = Papers::new();
        let postgres = Postgres::start_secured(&papers.server, &papers.authority.file()).unwrap();
        let addresses = Addresses { postgres_url: postgres.url("postgres"), ..Addresses::from_env().unwrap() };
        dos::make_empty_template(&addresses).await.unwrap();
        let world = World::bare(addresses, &["FA001"], 1).await;
        world.dosi.set_up().unwrap();
        Self { postgres, world, papers }
    }

    fn url(&self, role: &str, host: &str, authority: &str) -> String {
        let database = self.world.dos.url().rsplit_once('/').unwrap().1;
        let authority = self.papers.scratch.path().join(authority);
        let port = self.postgres.port();
        format!("postgres://{role}@{host}:{port}/{database}?sslmode=verify-full&sslrootcert={}", authority.display())
    }

    fn with_password(&self, password: &str, host: &str, authority: &str) -> Dosi {
        let file = self.papers.file("password", &format!("{password}\n"));
        let dosi = self.world.dosi.clone().with("DOSI_DATABASE_URL", &self.url("dosi", host, authority));
        dosi.with("DOSI_DATABASE_PASSWORD_FILE", file.to_str().unwrap())
    }

    fn with_certificate(&self, client: Option<&Identity>) -> Dosi {
        let url = self.url("certified", HOST, "authority.pem");
        let files = client
            .map(|client| format!("&sslcert={}&sslkey={}", client.certificate.display(), client.key.display()))
            .unwrap_or_default();
        self.world.dosi.clone().with("DOSI_DATABASE_URL", &format!("{url}{files}"))
    }
}

#[tokio::test]
async fn a_database_over_tls() {
    let secured = Secured::start().await;
    let right = planted::DATABASE_PASSWORD;
    let with_password = secured.with_password(right, HOST, "authority.pem");
    // A pending change brings its creator's name and address; with every log line there is.
    let change = json!({"new": {"cmstelephoneno": {"changetype": "modify", "data": "1", "area": "demographic"}}});
    let pending = format!(
        "INSERT INTO pathwaysdos.users (username, firstname, lastname, email, createdtime)
             VALUES ('planner', 'Zebedee', '{}', 'zebedee@{}', now());
         INSERT INTO pathwaysdos.changes (id, approvestatus, type, initiatorname, servicename, value, creatorsname, serviceid)
             VALUES ('c-1', 'PENDING', 'modify', 'planner', 'FA001', '{change}', 'planner', 1000)",
        planted::FAMILY_NAME,
        planted::MAIL_DOMAIN
    );
    secured.world.execute(&pending).await;
    one_event_goes_all_the_way(&secured.world, &with_password.clone().with("DOSI_LOG", "trace"), 1).await;
    let queued = "SELECT count(*) FROM dos_integration.mail_queue WHERE creator_email LIKE 'zebedee@%'";
    assert_eq!(secured.world.value::<i64>(queued).await, 1);
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(!secured.world.value::<bool>(encrypted).await, "the tests' own session is the only one without TLS");

    secured.world.execute("CREATE ROLE certified LOGIN IN ROLE dosi").await;
    let certified = secured.papers.authority.issue("certified", &[]).unwrap();
    one_event_goes_all_the_way(&secured.world, &secured.with_certificate(Some(&certified)), 2).await;

    let outcomes = secured.world.outcomes().await;
    assert_eq!((outcomes.count("UPDATED"), outcomes.dead_letters.len()), (2, 0));

    let wrong = secured.with_password("planted-secret-that-is-wrong", HOST, "authority.pem");
    assert_refused(&wrong, &["run"], &["password authentication failed", "28P01"]);
    let stranger = secured.with_password(right, HOST, "stranger.pem");
    assert_refused(&stranger, &["run"], &["certificate is not trusted", "sslrootcert"]);
    // Nor does it help that the system trusts the server's authority: who names one means that one.
    let system = secured.papers.scratch.path().join("authority.pem");
    let system = stranger.with("SSL_CERT_FILE", system.to_str().unwrap());
    assert_refused(&system, &["run"], &["certificate is not trusted", "sslrootcert"]);
    let with_password = secured.with_password(right, WRONG_HOST, "authority.pem");
    assert_refused(&with_password, &["run"], &["certificate is not trusted", "mismatch"]);
    assert_refused(&with_password, &["position", "show"], &["certificate is not trusted", "mismatch"]);
    assert_refused(&with_password, &["migrate"], &["certificate is not trusted", "mismatch"]);
    assert_refused(&secured.with_certificate(None), &["run"], &["client certificate"]);
    let stranger = secured.papers.stranger.issue("certified", &[]).unwrap();
    assert_refused(&secured.with_certificate(Some(&stranger)), &["run"], &["unknown ca", "sslcert"]);
    // Somebody else's certificate.
    let client = secured.papers.client.clone();
    assert_refused(&secured.with_certificate(Some(&client)), &["run"], &["certificate authentication failed"]);
    // Without TLS nobody is let in; a person must mend that, too.
    let plain = secured.url("dosi", HOST, "authority.pem").replace("verify-full", "disable");
    assert_refused(&secured.world.dosi.clone().with("DOSI_DATABASE_URL", &plain), &["run"], &["pg_hba.conf"]);
}

#[test]
fn help_and_complaints_show_no_secret() {
    let papers = Papers::new();
    let secret = planted::DATABASE_PASSWORD;
    let properties = papers.file("kafka.properties", &format!("sasl.password={secret}\nsasl.mechanism {secret}\n"));
    let dosi = Dosi::named(&Addresses::from_env().unwrap(), &format!("postgres://dosi:{secret}@127.0.0.1:1/dos"), "x")
        .with("DOSI_SCHEMA_REGISTRY_URL", &format!("http://dosi:{}@127.0.0.1:1", planted::REGISTRY_PASSWORD));
    for command in [&["run"][..], &["migrate"], &["topics"], &["position", "show"], &["publish"]] {
        let help = dosi.done(&[command, &["--help"]].concat()).unwrap();
        assert!(help.contains("Usage:"), "{help}");
        assert_nothing_planted(&help);
    }
    let broken = dosi.clone().with("DOSI_KAFKA_CONFIG", properties.to_str().unwrap());
    assert_refused(&broken, &["run"], &["DOSI_KAFKA_CONFIG", "line 2"]);
    for url in ["postgres://dosi:{}@h/d?sslmode=maybe", "postgres//dosi:{}@h", "host=h password='{}"] {
        let dosi = dosi.clone().with("DOSI_DATABASE_URL", &url.replace("{}", secret));
        assert_refused(&dosi, &["run"], &["DOSI_DATABASE_URL"]);
    }
    for url in ["ftp://dosi:{}@h", "http://dosi:{}@h?x", "dosi:{}"] {
        let dosi = dosi.clone().with("DOSI_SCHEMA_REGISTRY_URL", &url.replace("{}", secret));
        assert_refused(&dosi, &["run"], &["DOSI_SCHEMA_REGISTRY_URL"]);
    }
}
