//! Kafka, PostgreSQL and the schema registry as they are run where it matters: over TLS, asking who is there, and giving no
//! more rights than dosi needs. For each a run that goes all the way, and what is told when something is wrong.

mod database;
mod kafka;
mod registry;
mod rights;
mod searching;
mod withdrawn;

use std::fs;
use std::path::PathBuf;

use dosi_tests::planted;
use dosi_tests::program::Dosi;
use dosi_tests::stack::{Authority, Identity, Scratch, USER};

use crate::support_faults::{World, assert_one_line, good};

/// The host name that servers' certificates are for; their addresses are the wrong name.
const HOST: &str = "localhost";
const WRONG_HOST: &str = "127.0.0.1";

/// Certificates, passwords and whatever else a test hands over in files.
struct Papers {
    scratch: Scratch,
    authority: Authority,
    /// Whom no server trusts, and who speaks for none.
    stranger: Authority,
    server: Identity,
    client: Identity,
    stranger_as_client: Identity,
}

impl Papers {
    fn new() -> Self {
        let scratch = Scratch::new("papers").unwrap();
        let authority = Authority::new(scratch.path(), "authority").unwrap();
        let stranger = Authority::new(scratch.path(), "stranger").unwrap();
        Self {
            server: authority.issue("server", &[HOST]).unwrap(),
            client: authority.issue(USER, &[]).unwrap(),
            stranger_as_client: stranger.issue(USER, &[]).unwrap(),
            scratch,
            authority,
            stranger,
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.scratch.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

/// Ends at start with exit code 2 and one line that holds each of these, and nothing that was planted.
fn assert_refused(dosi: &Dosi, command: &[&str], holding: &[&str]) {
    let ended = dosi.start(command).unwrap().wait().unwrap();
    assert_one_line(&ended, 2, holding);
    assert_nothing_planted(&ended.stderr);
}

fn assert_nothing_planted(text: &str) {
    for marker in planted::MARKERS {
        assert!(!text.contains(marker), "{marker} is in {text}");
    }
}

/// An event from its topic into DoS, and what is to be told of it onto the audit topic in the transaction that moves the group's
/// offset, by this dosi.
async fn one_event_goes_all_the_way(world: &World, dosi: &Dosi, sequence: i64) {
    let phone = format!("0113{sequence}");
    world.produce(&[good("FA001", sequence, &phone)]).await;
    let running = dosi.start(&["run", "--exit-at-end"]).unwrap();
    let ended = running.wait().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_nothing_planted(&ended.stderr);
    assert_eq!(world.phone("FA001").await, Some(phone));
    world.wait_until_settled().await;
}
