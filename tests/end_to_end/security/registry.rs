//! The schema registry behind a proxy that asks for user and password over TLS.

use dosi_tests::planted;
use dosi_tests::program::Dosi;
use dosi_tests::stack::{Addresses, Nginx};

use super::{HOST, Papers, WRONG_HOST, assert_refused, one_event_goes_all_the_way};
use crate::support_faults::World;

struct Secured {
    world: World,
    nginx: Nginx,
    papers: Papers,
    path: String,
}

impl Secured {
    async fn start() -> Self {
        let addresses = Addresses::from_env().unwrap();
        let papers = Papers::new();
        let url = addresses.schema_registry_url.clone();
        let (authority, path) = url.trim_start_matches("http://").split_once('/').unwrap();
        let upstream = format!("http://{authority}");
        let nginx = Nginx::start(&upstream, &papers.server, "dosi", planted::REGISTRY_PASSWORD).unwrap();
        let world = World::bare(addresses, &["FA001"], 1).await;
        Self { world, nginx, papers, path: path.to_owned() }
    }

    fn dosi(&self, password: &str, host: &str, authority: &str) -> Dosi {
        let password = self.papers.file("password", &format!("{password}\n"));
        let authority = self.papers.scratch.path().join(authority);
        let url = format!("https://dosi@{host}:{}/{}", self.nginx.port(), self.path);
        let dosi = self.world.dosi.clone().with("DOSI_SCHEMA_REGISTRY_URL", &url);
        let dosi = dosi.with("DOSI_SCHEMA_REGISTRY_PASSWORD_FILE", password.to_str().unwrap());
        dosi.with("DOSI_SCHEMA_REGISTRY_CA_FILE", authority.to_str().unwrap())
    }
}

#[tokio::test]
async fn a_registry_that_asks_for_a_password_over_tls() {
    let secured = Secured::start().await;
    let right = planted::REGISTRY_PASSWORD;
    let dosi = secured.dosi(right, HOST, "authority.pem");
    dosi.set_up().unwrap();
    one_event_goes_all_the_way(&secured.world, &dosi, 1).await;
    assert_eq!(secured.world.outcomes().await.count("UPDATED"), 1);

    for command in [["run"], ["topics"]] {
        let wrong = secured.dosi("planted-secret-that-is-wrong", HOST, "authority.pem");
        assert_refused(&wrong, &command, &["schema registry refused", "401"]);
        let untrusted = secured.dosi(right, HOST, "stranger.pem");
        assert_refused(&untrusted, &command, &["certificate", "DOSI_SCHEMA_REGISTRY_CA_FILE"]);
        let misnamed = secured.dosi(right, WRONG_HOST, "authority.pem");
        assert_refused(&misnamed, &command, &["certificate", "mismatch"]);
    }
    let nobody = format!("https://{HOST}:{}/{}", secured.nginx.port(), secured.path);
    let nobody = secured.dosi(right, HOST, "authority.pem").with("DOSI_SCHEMA_REGISTRY_URL", &nobody);
    let nobody = nobody.without("DOSI_SCHEMA_REGISTRY_PASSWORD_FILE");
    assert_refused(&nobody, &["run"], &["schema registry refused", "401"]);
}
