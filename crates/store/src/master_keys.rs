//! The tables `master_key` and `replica`: which master keys there are, which one wraps, who has which; and moving
//! everything from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::SecretId;
use uuid::Uuid;

use crate::error::StoreError;
use crate::keyring::{KeyOwner, OwnedKey, Sealed, SecretPlace};
use crate::row::{count, execute, get, query, query_opt};
use crate::secrets::{data_key, nonce, read_key};
use crate::store::Store;
use crate::transaction::Tx;

/// A replica that was silent for longer counts as gone.
pub(crate) const ALIVE: Duration = Duration::from_mins(1);

/// A master key as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyRecord {
    /// Its version.
    pub version: i32,
    /// Whether it wraps new data keys.
    pub is_current: bool,
    /// First seen at.
    pub created_at: Timestamp,
    /// Data keys that it wraps.
    pub data_keys: u32,
    /// Secrets that it seals itself, from before there were data keys.
    pub direct_secrets: u32,
    /// Live replicas that have it.
    pub replicas: u32,
    /// Whether nothing needs it any more: it can be taken out of every configuration.
    pub is_removable: bool,
}

/// A replica of the control plane and the master keys that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// Its id, new at every start.
    pub id: Uuid,
    /// Versions of the master keys in its configuration.
    pub master_key_versions: Vec<i32>,
    /// The version that it wraps with.
    pub wraps_with: i32,
    /// Last heard of.
    pub seen_at: Timestamp,
}

/// How far one round of moving came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Data keys or secrets that were moved.
    pub moved: u32,
    /// Those that do not open, and stay as they are.
    pub unreadable: u32,
    /// The last id that was looked at; absent when there was nothing left.
    pub last: Option<Uuid>,
}

impl Store {
    /// The versions of the master keys that this program was given, ascending.
    pub fn master_key_versions(&self) -> Vec<i32> {
        self.keyring().versions()
    }

    /// Makes this program's master keys known to the catalog, and takes over from it which one wraps. Refuses keys with
    /// which it could not work: one that is needed and missing, or another one under a version that is in use.
    pub async fn adopt_master_keys(&self) -> Result<(), StoreError> {
        let keyring = self.keyring();
        let tx = self.begin().await?;
        let client = tx.client()?;
        execute(client, "LOCK TABLE master_key IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
        let mut needed = used_versions(&tx).await?;
        let known: BTreeMap<i32, (Vec<u8>, bool)> =
            query(client, "SELECT version, fingerprint, is_current FROM master_key", &[])
                .await?
                .iter()
                .map(|row| Ok((get(row, "version")?, (get(row, "fingerprint")?, get(row, "is_current")?))))
                .collect::<Result<_, StoreError>>()?;
        let current = known.iter().find(|(_, (_, is_current))| *is_current).map(|(version, _)| *version);
        needed.extend(current);
        for version in &needed {
            if keyring.fingerprint(*version).is_none() {
                return Err(StoreError::Invalid {
                    reason: format!(
                        "master key version {version} is still needed and not configured; add it to the master keys"
                    ),
                });
            }
        }
        for version in keyring.versions() {
            let Some(fingerprint) = keyring.fingerprint(version) else { continue };
            let is_other = known.get(&version).is_some_and(|(known, _)| known.as_slice() != fingerprint.as_slice());
            if is_other && needed.contains(&version) {
                return Err(StoreError::Invalid {
                    reason: format!(
                        "the master key given as version {version} is not the one that this catalog is sealed with; \
                         put the right one in its place"
                    ),
                });
            }
            // A version that nothing was sealed with may still get another key.
            let sql = "INSERT INTO master_key (version, fingerprint) VALUES ($1, $2)
                       ON CONFLICT (version) DO UPDATE SET fingerprint = excluded.fingerprint";
            execute(client, sql, &[&version, &fingerprint.as_slice()]).await?;
        }
        let wraps = current.unwrap_or_else(|| keyring.wrapping());
        if current.is_none() {
            tx.set_current_master_key(wraps).await?;
        }
        tx.commit().await?;
        keyring.wrap_with(wraps)
    }

    /// Says that a replica is alive and which master keys it has, and learns which one wraps by now.
    pub async fn report_replica(&self, replica: Uuid) -> Result<(), StoreError> {
        let keyring = self.keyring();
        let client = self.client().await?;
        let sql = "SELECT version FROM master_key WHERE is_current";
        if let Some(row) = query_opt(&client, sql, &[]).await? {
            keyring.wrap_with(get(&row, "version")?)?;
        }
        execute(
            &client,
            "WITH gone AS (DELETE FROM replica WHERE seen_at < now() - make_interval(secs => $4) AND id <> $1)
             INSERT INTO replica (id, master_key_versions, wraps_with) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET master_key_versions = excluded.master_key_versions,
                    wraps_with = excluded.wraps_with, seen_at = clock_timestamp()",
            &[&replica, &keyring.versions(), &keyring.wrapping(), &(ALIVE * 10).as_secs_f64()],
        )
        .await?;
        Ok(())
    }

    /// Says that a replica ends.
    pub async fn forget_replica(&self, replica: Uuid) -> Result<(), StoreError> {
        execute(&*self.client().await?, "DELETE FROM replica WHERE id = $1", &[&replica]).await?;
        Ok(())
    }

    /// Every master key that is configured somewhere or was, ascending.
    pub async fn master_keys(&self) -> Result<Vec<MasterKeyRecord>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "WITH alive AS (SELECT * FROM replica WHERE seen_at >= now() - make_interval(secs => $1)),
                  wrapped AS (SELECT key_version AS version, count(*) AS keys FROM data_key GROUP BY 1),
                  sealed AS (SELECT key_version AS version, count(*) AS secrets FROM secret
                              WHERE data_key IS NULL GROUP BY 1)
             SELECT m.version, m.is_current, m.created_at, coalesce(w.keys, 0) AS data_keys,
                    coalesce(s.secrets, 0) AS direct_secrets,
                    (SELECT count(*) FROM alive WHERE m.version = ANY (master_key_versions)) AS replicas,
                    NOT m.is_current AND w.keys IS NULL AND s.secrets IS NULL
                        AND NOT EXISTS (SELECT FROM alive WHERE wraps_with = m.version) AS is_removable
               FROM master_key m
               LEFT JOIN wrapped w USING (version) LEFT JOIN sealed s USING (version)
              ORDER BY m.version",
            &[&ALIVE.as_secs_f64()],
        )
        .await?;
        let read = |row| {
            Ok(MasterKeyRecord {
                version: get(row, "version")?,
                is_current: get(row, "is_current")?,
                created_at: get(row, "created_at")?,
                data_keys: count(row, "data_keys")?,
                direct_secrets: count(row, "direct_secrets")?,
                replicas: count(row, "replicas")?,
                is_removable: get(row, "is_removable")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The replicas that were heard of within the last minute.
    pub async fn live_replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let sql = "SELECT * FROM replica WHERE seen_at >= now() - make_interval(secs => $1) ORDER BY id LIMIT 1000";
        let rows = query(&*self.client().await?, sql, &[&ALIVE.as_secs_f64()]).await?;
        let read = |row| {
            Ok(ReplicaRecord {
                id: get(row, "id")?,
                master_key_versions: get(row, "master_key_versions")?,
                wraps_with: get(row, "wraps_with")?,
                seen_at: get(row, "seen_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Wraps the next data keys, at most `limit` after the one named, with the current master key where another one
    /// wraps them. A key that somebody holds is passed over; a repetition finds it.
    pub async fn rewrap_data_keys(&self, after: Uuid, limit: i64) -> Result<Moved, StoreError> {
        let keyring = self.keyring();
        let tx = self.begin().await?;
        let client = tx.client()?;
        let rows = query(
            client,
            "SELECT id, home, key_version, nonce, ciphertext FROM data_key
              WHERE key_version <> $1 AND id > $2 ORDER BY id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
            &[&keyring.wrapping(), &after, &limit],
        )
        .await?;
        let wrapped = rows
            .iter()
            .map(|row| read_key(row, "id", "key_version", "nonce", "ciphertext", "home"))
            .collect::<Result<Vec<_>, _>>()?;
        let mut outcome = Moved { last: wrapped.last().map(|(place, _)| place.id), ..Moved::default() };
        let mut keys = Vec::with_capacity(wrapped.len());
        for ((place, _), key) in wrapped.iter().zip(keyring.unwrap(&wrapped).await) {
            match key {
                Ok(key) => keys.push(OwnedKey { place: *place, key }),
                Err(error) => {
                    outcome.unreadable += 1;
                    tracing::warn!(data_key = %place.id, %error, "a data key stays as it is");
                }
            }
        }
        let ids: Vec<Uuid> = keys.iter().map(|key| key.place.id).collect();
        let (mut versions, mut nonces, mut ciphertexts) = (Vec::new(), Vec::new(), Vec::new());
        for wrapped in keyring.wrap(&keys).await? {
            versions.push(wrapped.version);
            nonces.push(wrapped.nonce.to_vec());
            ciphertexts.push(wrapped.ciphertext);
        }
        execute(
            client,
            "UPDATE data_key SET key_version = new.version, nonce = new.nonce, ciphertext = new.ciphertext,
                    wrapped_at = now()
               FROM unnest($1::uuid[], $2::integer[], $3::bytea[], $4::bytea[])
                    AS new (id, version, nonce, ciphertext)
              WHERE data_key.id = new.id",
            &[&ids, &versions, &nonces, &ciphertexts],
        )
        .await?;
        tx.commit().await?;
        outcome.moved = u32::try_from(ids.len()).map_err(StoreError::internal)?;
        Ok(outcome)
    }

    /// Seals the next secrets that a master key sealed itself, at most `limit` after the one named, with their owner's
    /// data key.
    pub async fn reseal_direct_secrets(&self, after: Uuid, limit: i64) -> Result<Moved, StoreError> {
        let keyring = self.keyring();
        let tx = self.begin().await?;
        let client = tx.client()?;
        let rows = query(
            client,
            "SELECT s.id, s.purpose, s.key_version, s.nonce, s.ciphertext, owner.home
               FROM secret s
               LEFT JOIN (SELECT id AS home, unnest(ARRAY[login_secret, read_only_secret, migrator_secret,
                                                          next_login_secret, next_read_only_secret]) AS secret
                            FROM home WHERE state <> 'released') owner ON owner.secret = s.id
              WHERE s.data_key IS NULL AND s.id > $1
              ORDER BY s.id LIMIT $2 FOR NO KEY UPDATE OF s SKIP LOCKED",
            &[&after, &limit],
        )
        .await?;
        let mut outcome = Moved::default();
        for row in &rows {
            let (id, purpose): (Uuid, &str) = (get(row, "id")?, get(row, "purpose")?);
            outcome.last = Some(id);
            let owner = KeyOwner::of(get(row, "home")?);
            let place = SecretPlace { id: SecretId::new(id), purpose, owner };
            let sealed = Sealed { nonce: nonce(row, "nonce")?, ciphertext: get(row, "ciphertext")? };
            let secret = match keyring.open_directly(get(row, "key_version")?, place, &sealed) {
                Ok(secret) => secret,
                Err(error) => {
                    outcome.unreadable += 1;
                    tracing::warn!(secret = %id, %error, "a secret stays as it is");
                    continue;
                }
            };
            let key = data_key(client, keyring, owner).await?;
            let sealed = key.key.seal(place, &secret)?;
            let sql = "UPDATE secret SET data_key = $2, key_version = NULL, nonce = $3, ciphertext = $4 WHERE id = $1";
            execute(client, sql, &[&id, &key.place.id, &sealed.nonce.as_slice(), &sealed.ciphertext]).await?;
            outcome.moved += 1;
        }
        tx.commit().await?;
        Ok(outcome)
    }
}

impl Tx {
    /// The master key that wraps, which nobody else changes until the end of the transaction; absent before the first
    /// replica came.
    pub async fn lock_current_master_key(&self) -> Result<Option<i32>, StoreError> {
        let client = self.client()?;
        execute(client, "LOCK TABLE master_key IN SHARE ROW EXCLUSIVE MODE", &[]).await?;
        let row = query_opt(client, "SELECT version FROM master_key WHERE is_current", &[]).await?;
        row.as_ref().map(|row| get(row, "version")).transpose()
    }

    /// From the commit on this master key wraps, in every replica as soon as it hears of it.
    pub async fn set_current_master_key(&self, version: i32) -> Result<(), StoreError> {
        let client = self.client()?;
        execute(client, "UPDATE master_key SET is_current = false WHERE is_current AND version <> $1", &[&version])
            .await?;
        let sql = "UPDATE master_key SET is_current = true, current_since = now() WHERE version = $1";
        match execute(client, sql, &[&version]).await? {
            0 => Err(StoreError::NotFound { what: "master key", name: version.to_string() }),
            _ => Ok(()),
        }
    }
}

/// The versions without which something could not be opened.
async fn used_versions(tx: &Tx) -> Result<BTreeSet<i32>, StoreError> {
    // One look into an index per version, and not at every key.
    let sql = "WITH RECURSIVE used AS (
                   (SELECT min(key_version) AS version FROM data_key)
                   UNION ALL
                   SELECT (SELECT min(key_version) FROM data_key WHERE key_version > used.version)
                     FROM used WHERE used.version IS NOT NULL)
               SELECT version FROM used WHERE version IS NOT NULL
               UNION SELECT DISTINCT key_version FROM secret WHERE data_key IS NULL";
    query(tx.client()?, sql, &[]).await?.iter().map(|row| get(row, "version")).collect()
}
