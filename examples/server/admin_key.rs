//! The API key of the first start, which may do everything. There is never a default password.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ecom::Shop;
use ecom::access::{ApiKey, BuiltInRole, Secret, UserFilter};
use ecom::config::ServerConfig;
use ecom::paging::Paging;

use crate::Result;

/// Makes sure that somebody can administer the shop: with the key of `ECOM_ADMIN_KEY`, with that of `admin.key` in the
/// data directory, or with a new one if the shop has neither a key nor a user with the role admin. A new key is written
/// to `admin.key` and returned.
pub async fn ensure(shop: &Shop, config: &ServerConfig) -> Result<Option<Secret>> {
    if let Some(secret) = &config.admin_key {
        if shop.api_keys().ensure_admin(secret).await? {
            tracing::warn!("the shop did not have the API key of ECOM_ADMIN_KEY, so it was created");
        }
        return Ok(None);
    }
    let path = path(config);
    match fs::read_to_string(&path) {
        // The database may be a new one, or the last start may have ended before it had the key.
        Ok(text) => {
            let message = "admin.key in ECOM_DATA does not contain an API key: restore or delete the file";
            let secret = ApiKey::secret_from_text(text.trim()).ok_or(message)?;
            if shop.api_keys().ensure_admin(&secret).await? {
                tracing::warn!("the shop did not have the API key of admin.key, so it was created again");
            }
            return Ok(None);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(format!("admin.key in ECOM_DATA cannot be read: {e}").into()),
    }
    let (keys, _) = shop.api_keys().list(&Paging::first(1)).await?;
    let admins = UserFilter { role: Some(BuiltInRole::Admin.id()), ..UserFilter::default() };
    let (admins, _) = shop.users().list(&admins, &Paging::first(1)).await?;
    if !keys.items.is_empty() || !admins.items.is_empty() {
        return Ok(None);
    }
    let secret = shop.api_keys().new_secret();
    // On disk first, because nobody can read the key from the database.
    fs::create_dir_all(&config.data)?;
    write(&path, &secret).map_err(|e| format!("admin.key cannot be written to ECOM_DATA: {e}"))?;
    shop.api_keys().ensure_admin(&secret).await?;
    Ok(Some(secret))
}

/// Prints a new key.
pub fn show(key: &Secret, config: &ServerConfig) {
    say!("This API key may do everything. It is not shown again, and {} keeps it:", path(config).display());
    say!("  {}", key.reveal());
}

fn path(config: &ServerConfig) -> PathBuf {
    config.data.join("admin.key")
}

/// Writes a file that only its owner can read, whole or not at all.
fn write(path: &Path, secret: &Secret) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    writeln!(file, "{}", secret.reveal())?;
    file.sync_all()?;
    fs::rename(new, path)
}
