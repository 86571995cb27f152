//! The pragmas of connections, and URLs whose adapter is not compiled in.

use ecom_core::ErrorCode;
use ecom_core::port::*;
use ecom_storage::SqlStorage;

use crate::support::{TestResult, category, file};

#[tokio::test]
async fn the_file_is_in_wal_with_foreign_keys_and_full_durability() -> TestResult {
    let (_dir, s) = file().await;
    for write in [false, true] {
        assert_eq!(s.pragma("journal_mode", write).await?, "wal");
        assert_eq!(s.pragma("foreign_keys", write).await?, "1");
        assert_eq!(s.pragma("synchronous", write).await?, "2");
        assert_eq!(s.pragma("query_only", write).await?, if write { "0" } else { "1" });
    }
    // A connection for reads refuses writes.
    let mut c = s.connect().await?;
    let e = c.categories().insert(&[category("A", None)]).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Internal);
    // After a failure that may have ended the transaction, no further statement is sent, and the connection is closed.
    assert!(c.categories().tree().await.is_err());
    drop(c);
    assert!(s.connect().await?.categories().tree().await?.is_empty());
    Ok(())
}

/// The directory may be one that others can read.
#[cfg(unix)]
#[tokio::test]
async fn only_the_user_of_the_process_can_read_the_files_of_the_database() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;

    let (dir, s) = file().await;
    s.begin().await?.commit().await?;
    for name in ["shop.db", "shop.db-wal", "shop.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_url_without_its_feature_names_the_feature_and_no_secret() {
    let servers: [(&str, &str, bool); 2] = [
        ("postgres://u:hunter2@h/d", "`postgres`", cfg!(feature = "postgres")),
        ("mysql://u:hunter2@h/d", "`mysql`", cfg!(feature = "mysql")),
    ];
    for (url, word, built) in servers {
        match SqlStorage::open(url) {
            Ok(s) => assert!(built && !format!("{s:?}").contains("hunter2")),
            Err(e) => {
                let text = format!("{e} {e:?}");
                assert!(!built && text.contains(word) && !text.contains("hunter2"), "{text}");
            }
        }
    }
    assert_eq!(SqlStorage::open("redis://x").unwrap_err().code(), ErrorCode::Validation);
    assert_eq!(SqlStorage::open("sqlite://").unwrap_err().code(), ErrorCode::Validation);
}
