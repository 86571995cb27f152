//! An Elasticsearch with a user, a password, and TLS by an authority of its own.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The settings that turn security on.
pub(crate) const SETTINGS: [&str; 4] = [
    "xpack.security.enabled=true",
    "xpack.security.http.ssl.enabled=true",
    "xpack.security.http.ssl.key=server.key",
    "xpack.security.http.ssl.certificate=server.pem",
];

/// The superuser, whose password is [`PASSWORD`].
pub const USER: &str = "ecom";
/// The password of [`USER`].
pub const PASSWORD: &str = "hunter2-elastic";
/// The bcrypt hash of [`PASSWORD`].
const HASH: &str = "$2a$10$okwJqpxJhZogiy5/Oj1GBuE.d478ibIFMFff8ynVEzT9c17DPnlHO";

/// Writes the user, a certificate authority (`ca.pem`) and a certificate for 127.0.0.1 into the folder of the settings.
pub(crate) fn prepare(config: &Path) {
    let write = |name: &str, text: &str| std::fs::write(config.join(name), text).expect("the folder is written");
    write("users", &format!("{USER}:{HASH}\n"));
    write("users_roles", &format!("superuser:{USER}\n"));
    certify(config);
}

/// Writes a certificate authority (`ca.pem`) and a certificate for 127.0.0.1 (`server.pem`) with its key into a folder.
pub(crate) fn certify(folder: &Path) {
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("the folder is written");
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr",
        "x509 -req -in server.csr -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem",
    ] {
        let done = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
        let done = done.expect("openssl starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    // The server may run as another user.
    std::fs::set_permissions(folder.join("server.key"), std::fs::Permissions::from_mode(0o644)).expect("chmod");
}

/// Calls the server as [`USER`], and returns the body of its answer.
///
/// # Errors
/// If the server does not answer, or refuses the call.
pub fn https(url: &str, method: &str, path: &str, body: &str) -> io::Result<String> {
    let user = format!("{USER}:{PASSWORD}");
    let mut curl = Command::new("curl");
    curl.args(["-sSk", "--fail", "--max-time", "30", "--user", &user, "-X", method, "-H"]);
    curl.args(["content-type: application/json", "--data", body, &format!("{url}{path}")]);
    let done = curl.output()?;
    if !done.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    String::from_utf8(done.stdout).map_err(io::Error::other)
}
