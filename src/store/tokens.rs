//! Tokens in the database: their hashes, never their secrets.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{micros, time};
use super::{Store, StoreError};
use std::time::SystemTime;

/// A row. The texts mean something to the room of access alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its name.
    pub name: String,
    /// The hash of its secret.
    pub hash: String,
    /// The role of its holder.
    pub role: String,
    /// In whose name its holder acts.
    pub owner: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends; None for never.
    pub expires: Option<SystemTime>,
    /// When it was revoked; None where it was not.
    pub revoked: Option<SystemTime>,
}

/// All tokens, in the order of their names.
pub(super) fn all(connection: &Connection) -> Result<Vec<StoredToken>, StoreError> {
    let sql = "SELECT name, hash, role, owner, created, expires, revoked FROM token ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(StoredToken {
            name: row.get(0)?,
            hash: row.get(1)?,
            role: row.get(2)?,
            owner: row.get(3)?,
            created: time(row.get(4)?),
            expires: row.get::<_, Option<i64>>(5)?.map(time),
            revoked: row.get::<_, Option<i64>>(6)?.map(time),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a token; false where there is one of that name.
pub(super) fn insert(connection: &Connection, token: &StoredToken) -> Result<bool, StoreError> {
    let sql = "INSERT OR IGNORE INTO token (name, hash, role, owner, created, expires, revoked)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let StoredToken { name, hash, role, owner, created, expires, revoked } = token;
    let values = params![name, hash, role, owner, micros(*created), expires.map(micros), revoked.map(micros)];
    Ok(connection.execute(sql, values)? == 1)
}

impl Store {
    /// All tokens, in the order of their names.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        self.read(|connection| all(connection)).await
    }

    /// Adds a token; false where there is one of that name.
    pub async fn insert_token(&self, token: StoredToken) -> Result<bool, StoreError> {
        self.write(move |connection| insert(connection, &token)).await
    }

    /// Revokes a token, and tells when it was revoked first; None where there is none of that name.
    pub async fn revoke_token(&self, name: String, now: SystemTime) -> Result<Option<SystemTime>, StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE token SET revoked = COALESCE(revoked, ?2) WHERE name = ?1 RETURNING revoked";
            let revoked = connection.query_row(sql, params![name, micros(now)], |row| row.get(0)).optional()?;
            Ok(revoked.map(time))
        })
        .await
    }

    /// Removes tokens of these names.
    pub async fn delete_tokens(&self, names: Vec<String>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let transaction = connection.transaction()?;
            for name in &names {
                transaction.execute("DELETE FROM token WHERE name = ?1", [name])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_token_comes_back_is_taken_once_and_revoked_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torchd.db");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let token = StoredToken {
            name: "ci".into(),
            hash: "ab".into(),
            role: "submitter".into(),
            owner: "alice".into(),
            created: at(1),
            expires: Some(at(9)),
            revoked: None,
        };
        let store = Store::open(&path).unwrap();
        assert!(store.insert_token(token.clone()).await.unwrap());
        assert!(!store.insert_token(StoredToken { hash: "cd".into(), ..token.clone() }).await.unwrap());
        assert_eq!(store.revoke_token("other".into(), at(2)).await.unwrap(), None);
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.tokens().await.unwrap(), std::slice::from_ref(&token));
        for asked in [3, 4] {
            assert_eq!(store.revoke_token("ci".into(), at(asked)).await.unwrap(), Some(at(3)));
        }
        assert_eq!(store.tokens().await.unwrap(), [StoredToken { revoked: Some(at(3)), ..token }]);
    }
}
