//! A disk that can be full: a file system in memory that is made as small as what it holds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::dos::Dos;
use crate::stack::{Postgres, Scratch};

const ROOMY_KIB: u64 = 4 << 20;
pub const TABLESPACE: &str = "small_disk";

/// A mounted file system with one tablespace of PostgreSQL on it. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    /// Folder of the tablespace; it changes when a backup takes its place.
    tablespace: PathBuf,
    mount: PathBuf,
    backups: u32,
    _scratch: Scratch,
}

impl SmallDisk {
    /// `None`, said on stderr, where mounting is not allowed.
    pub fn mount(postgres: &Postgres) -> Result<Option<Self>> {
        let scratch = Scratch::new("disk")?;
        let mount = scratch.path().join("mount");
        std::fs::create_dir(&mount)?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={ROOMY_KIB}k"), "tmpfs"]).arg(&mount);
        let mounted = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("no file system can be mounted here: the fault of a full disk is left out");
            return Ok(None);
        }
        let disk = Self { tablespace: mount.join("tablespace"), mount, backups: 0, _scratch: scratch };
        std::fs::create_dir(&disk.tablespace)?;
        postgres.give(&disk.mount)?;
        Ok(Some(disk))
    }

    pub async fn create_tablespace(&self, postgres_url: &str) -> Result<()> {
        let create = format!("CREATE TABLESPACE {TABLESPACE} LOCATION '{}'", self.tablespace.display());
        Dos::open(postgres_url).await?.client().batch_execute(&create).await.context("failed to create a tablespace")
    }

    /// No page more fits.
    pub fn fill(&self) -> Result<()> {
        // What is written between the question and the answer takes another try.
        for _ in 0..20 {
            if self.resize(self.used_kib()?).is_ok() {
                return Ok(());
            }
        }
        bail!("the small disk could not be made full")
    }

    pub fn empty(&self) -> Result<()> {
        self.resize(ROOMY_KIB)
    }

    /// Where the tablespace is, and where a backup's copy of it is to lie.
    pub fn move_for_backup(&mut self) -> (PathBuf, PathBuf) {
        self.backups += 1;
        (self.tablespace.clone(), self.mount.join(format!("tablespace-{}", self.backups)))
    }

    /// A backup was put back: its copy is the tablespace now.
    pub fn moved(&mut self, to: &Path) -> Result<()> {
        let old = std::mem::replace(&mut self.tablespace, to.to_owned());
        std::fs::remove_dir_all(old).context("failed to remove a tablespace")
    }

    fn resize(&self, kib: u64) -> Result<()> {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,size={kib}k")]).arg(&self.mount).stderr(Stdio::null());
        if command.status()?.success() { Ok(()) } else { bail!("the small disk could not be resized") }
    }

    fn used_kib(&self) -> Result<u64> {
        let output = Command::new("df").args(["--block-size=1K", "--output=used"]).arg(&self.mount).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().nth(1).context("df printed nothing")?.trim().parse().context("df printed no number")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // PostgreSQL may still have files open on it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
    }
}
