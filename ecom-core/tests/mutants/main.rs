//! The suites of search engines, caches, mailers and stores of images catch bugs that are planted on purpose.
//!
//! A plain reference adapter passes its whole suite. Each mutant is the reference with one bug, and at least one test
//! of the suite must fail on it. By default those of mailers and of stores of images, and ten others, run;
//! `ECOM_MUTANTS=all` runs all of them, and `ECOM_MUTANTS=LimitClamped,OffsetIgnored` those. The run prints which test
//! has caught which mutant.

mod cache;
mod limited;
mod mailer;
mod media;
mod runner;
mod search;
mod search_mutants;
mod words;

use ecom_core::testkit::{CacheFixture, MailerFixture, MediaStoreFixture, SearchFixture, Test};

use self::cache::{CacheMutant, cache_fixture};
use self::mailer::mailer_fixture;
use self::media::media_fixture;
use self::runner::{Planted, mutants_are_caught, reference_passes};
use self::search::search_fixture;
use self::search_mutants::SearchMutant;

fn search_tests() -> Vec<Test<SearchFixture>> {
    ecom_core::search_suite!(@tests)
}

fn cache_tests() -> Vec<Test<CacheFixture>> {
    ecom_core::cache_suite!(@tests)
}

fn mailer_tests() -> Vec<Test<MailerFixture>> {
    ecom_core::mailer_suite!(@tests)
}

fn media_store_tests() -> Vec<Test<MediaStoreFixture>> {
    ecom_core::media_store_suite!(@tests)
}

#[test]
fn the_reference_store_of_images_passes() {
    reference_passes(&media_store_tests(), media_fixture);
}

#[test]
fn bugs_of_a_store_of_images_are_caught() {
    mutants_are_caught("media", &media_store_tests(), media_fixture);
}

#[test]
fn the_reference_mailer_passes() {
    reference_passes(&mailer_tests(), mailer_fixture);
}

#[test]
fn bugs_of_a_mailer_are_caught() {
    mutants_are_caught("mailer", &mailer_tests(), mailer_fixture);
}

#[test]
fn the_reference_search_engine_passes() {
    reference_passes(&search_tests(), search_fixture);
}

#[test]
fn the_reference_cache_passes() {
    reference_passes(&cache_tests(), cache_fixture);
}

#[test]
fn bugs_of_a_search_engine_are_caught() {
    mutants_are_caught("search", &search_tests(), search_fixture);
}

#[test]
fn bugs_of_a_cache_are_caught() {
    mutants_are_caught("cache", &cache_tests(), cache_fixture);
}

#[test]
fn ten_mutants_run_by_default_and_at_least_forty_in_all() {
    let default = SearchMutant::ALL.iter().filter(|m| m.runs_by_default()).count()
        + CacheMutant::ALL.iter().filter(|m| m.runs_by_default()).count();
    assert_eq!(default, 10, "ten mutants run by default");
    let all = SearchMutant::ALL.len() + CacheMutant::ALL.len();
    assert!(all >= 40, "there are {all} mutants");
}
