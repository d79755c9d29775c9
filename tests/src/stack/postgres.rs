//! A PostgreSQL cluster of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use super::certificates::Identity;
use super::part::{Part, bound_to_parent};
use super::ports::free_port;
use super::scratch::Scratch;

const BINARIES: &str = "/usr/lib/postgresql";
const PASSWORD: &str = "local";
/// PostgreSQL's memory for pages, unless more is asked for.
pub const SHARED_BUFFERS: &str = "256MB";
/// User and password as in [`Postgres::url`].
pub const SUPERUSER: &str = "postgres:local";

/// The tests' own sessions come without TLS.
const HOST_BASED_AUTHENTICATION: &str = "host all postgres 127.0.0.1/32 scram-sha-256
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
";

/// Whether a commit waits for the disk. Benchmarks and the demo do as production does; tests need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Synced,
    Unsynced,
    /// A commit outlives the server, however that ends, but not the machine.
    Flushed,
}

/// A server on 127.0.0.1, superuser `postgres`, with password over TCP and nothing but itself in it.
#[derive(Debug)]
pub struct Postgres {
    // Before `scratch`: fields are dropped in order, and the process must be gone before its directory.
    part: Option<Part>,
    initdb: Option<Part>,
    port: u16,
    durability: Durability,
    pub(super) shared_buffers: &'static str,
    binaries: PathBuf,
    /// With TLS, all but the superuser must use it.
    secured: bool,
    scratch: Scratch,
}

impl Postgres {
    /// Starts a server and returns when it answers.
    pub fn start(durability: Durability) -> Result<Self> {
        Self::prepare(durability)?.started()
    }

    /// Starts a server at `localhost` that lets others than the superuser in over TLS only: role `certified` with a certificate
    /// of `authority` instead of a password.
    pub fn start_secured(server: &Identity, authority: &Path) -> Result<Self> {
        let mut postgres = Self::prepare(Durability::Unsynced)?;
        let folder = postgres.scratch.path();
        fs::copy(&server.certificate, folder.join("server.crt"))?;
        fs::copy(&server.key, folder.join("server.key"))?;
        fs::copy(authority, folder.join("ca.pem"))?;
        fs::write(folder.join("hba.conf"), HOST_BASED_AUTHENTICATION)?;
        fs::set_permissions(folder.join("server.key"), fs::Permissions::from_mode(0o600))?;
        if is_root() {
            give_to_postgres(folder)?;
        }
        postgres.secured = true;
        postgres.started()
    }

    fn started(mut self) -> Result<Self> {
        self.launch()?;
        self.wait_until_ready()?;
        Ok(self)
    }

    /// Not started, on a port of its own.
    fn new(durability: Durability, binaries: PathBuf, scratch: Scratch, initdb: Option<Part>) -> Result<Self> {
        let (port, shared_buffers) = (free_port()?, SHARED_BUFFERS);
        Ok(Self { part: None, initdb, port, durability, shared_buffers, binaries, secured: false, scratch })
    }

    /// Sets `initdb` off without waiting for it.
    pub(super) fn prepare(durability: Durability) -> Result<Self> {
        let binaries = newest_binaries()?;
        let scratch = Scratch::new("pg")?;
        let password = scratch.path().join("password");
        fs::write(&password, PASSWORD)?;
        if is_root() {
            give_to_postgres(scratch.path())?;
        }
        let mut command = as_postgres("KILL", &binaries.join("initdb"));
        command.arg("--pgdata").arg(scratch.path().join("data")).arg("--pwfile").arg(password).args([
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        let initdb = Part::start("initdb", command, &scratch.path().join("initdb.log"))?;
        Self::new(durability, binaries, scratch, Some(initdb))
    }

    /// Starts the server, for the first time or again after [`Self::stop`], on the same port and data.
    pub fn launch(&mut self) -> Result<()> {
        if let Some(initdb) = self.initdb.take() {
            initdb.finish()?;
        }
        // QUIT: children end at once and no checkpoint is written; nobody will read these files again.
        let mut command = as_postgres("QUIT", &self.binaries.join("postgres"));
        command.arg("-D").arg(self.scratch.path().join("data"));
        for setting in self.settings() {
            command.args(["-c", &setting]);
        }
        self.part = Some(Part::start("PostgreSQL", command, &self.scratch.path().join("server.log"))?);
        Ok(())
    }

    fn settings(&self) -> Vec<String> {
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.scratch.path().display()),
            "max_connections=300".to_owned(),
            format!("shared_buffers={}", self.shared_buffers),
            "max_wal_size=4GB".to_owned(),
            // For tests and benchmarks that count statements and ask when something was committed.
            "shared_preload_libraries=pg_stat_statements".to_owned(),
            "track_commit_timestamp=on".to_owned(),
        ];
        if self.secured {
            let file = |name: &str| self.scratch.path().join(name).display().to_string();
            settings.push("ssl=on".to_owned());
            for (setting, name) in
                [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key"), ("ssl_ca_file", "ca.pem")]
            {
                settings.push(format!("{setting}={}", file(name)));
            }
            settings.push(format!("hba_file={}", file("hba.conf")));
        }
        let relaxed: &[&str] = match self.durability {
            Durability::Synced => &[],
            Durability::Unsynced => &["fsync=off", "full_page_writes=off", "synchronous_commit=off"],
            Durability::Flushed => &["fsync=off", "full_page_writes=off"],
        };
        settings.extend(relaxed.iter().map(ToString::to_string));
        settings
    }

    /// Returns when the server answers.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let mut ask = Command::new(self.binaries.join("pg_isready"));
        ask.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let part = self.part.as_mut().context("PostgreSQL was not started")?;
        part.wait_until(|| ask.status().is_ok_and(|status| status.success()))
    }

    /// Stops the server and keeps its data. `INT` ends sessions in good order, `QUIT` as a crash would.
    pub fn stop(&mut self, with: &str) -> Result<()> {
        if let Some(mut part) = self.part.take() {
            part.stop(with)?;
        }
        Ok(())
    }

    /// Sends a signal to the server without waiting for what it does.
    pub fn signal(&self, name: &str) -> bool {
        self.part.as_ref().is_some_and(|part| part.signal(name))
    }

    /// Starts a second server that follows this one and takes no writes until it is promoted (`SELECT pg_promote()`).
    pub fn standby(&self) -> Result<Self> {
        let scratch = Scratch::new("pg")?;
        self.give(scratch.path())?;
        let mut command = self.copying_to(&scratch.path().join("data"));
        command.arg("--write-recovery-conf");
        Part::start("pg_basebackup", command, &scratch.path().join("pg_basebackup.log"))?.finish()?;
        Self::new(self.durability, self.binaries.clone(), scratch, None)?.started()
    }

    fn copying_to(&self, folder: &Path) -> Command {
        let mut command = as_postgres("KILL", &self.binaries.join("pg_basebackup"));
        command.arg("--pgdata").arg(folder).args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        command.args(["--dbname", &self.url("postgres")]);
        command
    }

    /// A copy of the running server's data folder, with the tablespaces beside it that `moved` names as (from, to).
    pub fn base_backup(&self, moved: &[(PathBuf, PathBuf)]) -> Result<BaseBackup> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = self.scratch.path().join(format!("backup-{number}"));
        let mut command = self.copying_to(&folder);
        for (from, to) in moved {
            command.arg(format!("--tablespace-mapping={}={}", from.display(), to.display()));
        }
        let log = self.scratch.path().join("pg_basebackup.log");
        Part::start("pg_basebackup", command, &log)?.finish()?;
        Ok(BaseBackup { folder })
    }

    /// Puts a backup in the place of the data of a server that is stopped.
    pub fn put_back(&mut self, backup: &BaseBackup) -> Result<()> {
        let data = self.scratch.path().join("data");
        fs::remove_dir_all(&data).context("failed to remove the data of PostgreSQL")?;
        fs::rename(&backup.folder, &data).context("failed to put the backup in its place")
    }

    /// What the server has logged since it was last started.
    pub fn log_file(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    /// Gives a folder to the user that the server runs as.
    pub fn give(&self, folder: &Path) -> Result<()> {
        if is_root() { give_to_postgres(folder) } else { Ok(()) }
    }

    /// The superuser's URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Process id of a server that runs; its sessions are children of it.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.part.as_ref().context("PostgreSQL does not run")?.pid())
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A copy of a server's data folder.
#[derive(Debug)]
pub struct BaseBackup {
    folder: PathBuf,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed outright, the server would leave its children and its shared memory for a moment.
        let _ = self.stop("QUIT");
    }
}

fn newest_binaries() -> Result<PathBuf> {
    let versions = fs::read_dir(BINARIES).with_context(|| format!("no PostgreSQL server in {BINARIES}"))?;
    let newest = versions.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let Some(newest) = newest else { bail!("no PostgreSQL server in {BINARIES}") };
    Ok(Path::new(BINARIES).join(newest.to_string()).join("bin"))
}

/// PostgreSQL refuses to run as root.
fn as_postgres(signal: &str, program: &Path) -> Command {
    if !is_root() {
        return bound_to_parent(signal, program);
    }
    let mut command = bound_to_parent(signal, "--reuid=postgres");
    command.args(["--regid=postgres", "--init-groups"]).arg(program);
    command
}

fn give_to_postgres(directory: &Path) -> Result<()> {
    let status = Command::new("chown").args(["-R", "postgres:postgres"]).arg(directory).status()?;
    if !status.success() {
        bail!("failed to give {} to user postgres", directory.display());
    }
    Ok(())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
