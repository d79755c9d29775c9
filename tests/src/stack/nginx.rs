//! nginx in front of an HTTP server: TLS, and basic authentication.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use anyhow::Result;

use super::certificates::Identity;
use super::part::{Part, bound_to_parent};
use super::ports::free_port;
use super::scratch::Scratch;

/// Where Debian puts it; not on everybody's PATH.
const NGINX: &str = "/usr/sbin/nginx";

/// A proxy on 127.0.0.1 that lets one user in.
#[derive(Debug)]
pub struct Nginx {
    // Before `_scratch`: the process must be gone before its directory.
    part: Part,
    port: u16,
    _scratch: Scratch,
}

impl Nginx {
    /// Starts it in front of `upstream` (`http://host:port`) and returns when it answers.
    pub fn start(upstream: &str, identity: &Identity, user: &str, password: &str) -> Result<Self> {
        let scratch = Scratch::new("nginx")?;
        let port = free_port()?;
        let folder = scratch.path();
        fs::write(folder.join("users"), format!("{user}:{{PLAIN}}{password}\n"))?;
        fs::write(folder.join("nginx.conf"), settings(folder, port, upstream, identity))?;
        let mut command = bound_to_parent("KILL", NGINX);
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]);
        let process = Part::start("nginx", command, &folder.join("nginx.log"))?;
        let mut nginx = Self { part: process, port, _scratch: scratch };
        nginx.part.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(nginx)
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// One process, in the foreground, with nothing outside of its folder.
fn settings(folder: &Path, port: u16, upstream: &str, identity: &Identity) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .join("\n");
    format!(
        "daemon off; master_process off; pid {folder}/pid;
        events {{}}
        http {{
            access_log off;
            {temporary}
            server {{
                listen 127.0.0.1:{port} ssl;
                ssl_certificate {};
                ssl_certificate_key {};
                auth_basic registry;
                auth_basic_user_file {folder}/users;
                location / {{ proxy_pass {upstream}; }}
            }}
        }}",
        identity.certificate.display(),
        identity.key.display()
    )
}
