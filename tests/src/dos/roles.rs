//! The roles that dosi has in a database: those of `deploy/postgres`, made and granted by the files that operators use.
//!
//! Everything that tests, benchmarks and the demo do with dosi they do under these roles, so that a missing right shows at once.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::planted;
use crate::stack::SUPERUSER;

/// `dosi run` and whatever else is no migration.
const DOSI: &str = "dosi";
/// `dosi migrate`.
const MIGRATE: &str = "dosi_migrate";

/// The superuser's URL turned into that of the role under which this command of dosi runs; any other URL as it is.
pub(crate) fn url_for(command: &str, url: &str) -> String {
    let role = if command == "migrate" { MIGRATE } else { DOSI };
    url.replacen(&format!("//{SUPERUSER}@"), &format!("//{role}:{}@", planted::DATABASE_PASSWORD), 1)
}

/// Makes the roles where they are missing, and lets them into this database.
pub(super) fn make(url: &str) -> Result<()> {
    psql(url, &["--file", &file("roles.sql")])
}

/// Gives the roles of a new server their password.
pub(super) fn set_passwords(url: &str) -> Result<()> {
    let alter = |role| format!("ALTER ROLE {role} PASSWORD '{}'", planted::DATABASE_PASSWORD);
    psql(url, &["--command", &alter(DOSI), "--command", &alter(MIGRATE)])
}

/// Grants what dosi needs, after a migration; `url` is the superuser's, under any other nothing is done.
pub(crate) fn grant(url: &str) -> Result<()> {
    if !url.contains(&format!("//{SUPERUSER}@")) {
        return Ok(());
    }
    psql(url, &["--file", &file("grants.sql")])
}

fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/postgres").join(name).display().to_string()
}

fn psql(url: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url]).args(arguments);
    let output = command.output().context("failed to run psql")?;
    if !output.status.success() {
        bail!("psql {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
