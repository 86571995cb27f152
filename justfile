# `just` lists the recipes. Each of them runs plain cargo commands: just is a convenience, not a requirement.

_default:
    @just --list

# The reference server, on http://127.0.0.1:8000
run *arguments:
    cargo run --release --example server -- {{ arguments }}

# Everything that CI runs
test *arguments:
    tests/run {{ arguments }}

# Formatting and clippy
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Each crate with each of its features alone
features:
    tests/run features

# The documentation of every crate, warnings denied
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Licences, bans, sources; also advisories, if their database can be reached
audit:
    cargo deny --all-features check licenses bans sources
    @if git ls-remote --quiet --exit-code https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then \
        cargo deny --all-features check advisories; \
    else \
        echo "advisories were not checked: their database cannot be reached"; \
    fi

# The figures of docs/figures.md, as ratios in one run
bench *arguments:
    cargo bench --bench figures -- {{ arguments }}
