//! The suite on recorded answers of a real server.

use ecom_core::testkit::{SearchFixture, Test, run_test};

use crate::recording::{Recording, Tape};
use crate::{fixture, run_each, suite};

/// The tests that search and write at the same time: the number and the order of their calls differ in every run. They
/// run on a server alone.
const CONCURRENT: &[&str] =
    &["a_batch_is_seen_whole_or_not_at_all", "r15_a_search_finds_what_the_checkpoint_before_it_names"];

fn recorded_tests() -> Vec<Test<SearchFixture>> {
    suite().into_iter().filter(|test| !CONCURRENT.contains(&test.name)).collect()
}

fn run(test: Test<SearchFixture>, tape: &Tape) {
    let tape = tape.clone();
    run_test(test.name, move || async move {
        (test.run)(fixture(tape.start().await, format!("recorded-{}", test.name), ())).await;
    });
}

/// Returns the version of a server.
fn version(url: &str) -> String {
    let (status, body) = test_servers::http(url, "GET", "/version", "").unwrap();
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    body["pkgVersion"].as_str().unwrap().to_owned()
}

/// Records the suite anew.
fn record() {
    let url = test_servers::required("TEST_MEILISEARCH_URL");
    let remove_all = || {
        let (_, body) = test_servers::http(&url, "GET", "/indexes?limit=10000", "").unwrap();
        let found: serde_json::Value = serde_json::from_str(&body).unwrap();
        for index in found["results"].as_array().unwrap() {
            let name = index["uid"].as_str().unwrap();
            if name.starts_with("recorded-") {
                test_servers::http(&url, "DELETE", &format!("/indexes/{name}"), "").unwrap();
            }
        }
    };
    remove_all();
    let mut recording = Recording::new(version(&url));
    for test in recorded_tests() {
        let tape = Tape::recording(url.clone());
        run(test, &tape);
        recording.add(test.name, &tape);
        remove_all();
    }
    recording.write();
}

#[test]
fn recorded_answers_pass_the_suite() {
    if test_servers::given("ECOM_RECORD").is_some() {
        record();
    }
    let recording = Recording::read();
    run_each(recorded_tests(), |test| {
        let tape = recording.tape(test.name);
        run(test, &tape);
        tape.check();
    });
}

/// The recording has every test of the suite and no other, and comes from the version of the server that the README
/// names and that the other tests use.
#[test]
fn the_recording_is_current() {
    let recording = Recording::read();
    let mut names: Vec<&str> = recorded_tests().iter().map(|test| test.name).collect();
    names.sort_unstable();
    assert_eq!(recording.names(), names, "record again: ECOM_RECORD=1");
    let (minor, _) = recording.server.rsplit_once('.').unwrap();
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&format!("Meilisearch 1.18+, tested on {minor}")), "the README must name {minor}");
    if let Some(url) = test_servers::given("TEST_MEILISEARCH_URL") {
        assert_eq!(recording.server, version(&url), "record again on this version of the server: ECOM_RECORD=1");
    }
}
