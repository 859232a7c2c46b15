//! The tables `secret` and `data_key`: passwords, sealed, and the keys that seal them.

use std::collections::HashMap;

use tenantry_domain::{Secret, SecretId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::keyring::{DataKey, KeyOwner, KeyPlace, Keyring, OwnedKey, Sealed, SecretPlace, Wrapped};
use crate::row::{execute, get, query_opt};

/// Seals secrets, each for its purpose, into new rows, with the owner's data key; one is made where there is none yet.
pub(crate) async fn insert_secrets<const N: usize>(
    client: &Connection,
    keyring: &Keyring,
    owner: KeyOwner,
    secrets: [(&str, &Secret); N],
) -> Result<[Uuid; N], StoreError> {
    let key = data_key(client, keyring, owner).await?;
    let ids = new_ids();
    insert_sealed(client, &key, ids, secrets).await?;
    Ok(ids)
}

/// Ids for secrets to be inserted.
pub(crate) fn new_ids<const N: usize>() -> [Uuid; N] {
    [(); N].map(|()| Uuid::now_v7())
}

/// Seals secrets, each for its purpose, into new rows of these ids.
pub(crate) async fn insert_sealed<const N: usize>(
    client: &Connection,
    OwnedKey { place, key }: &OwnedKey,
    ids: [Uuid; N],
    secrets: [(&str, &Secret); N],
) -> Result<(), StoreError> {
    let owner = place.owner;
    let purposes = secrets.map(|(purpose, _)| purpose);
    let (mut nonces, mut ciphertexts) = (Vec::new(), Vec::new());
    for (id, (purpose, secret)) in ids.into_iter().zip(secrets) {
        let sealed = key.seal(SecretPlace { id: SecretId::new(id), purpose, owner }, secret)?;
        nonces.push(sealed.nonce.to_vec());
        ciphertexts.push(sealed.ciphertext);
    }
    execute(
        client,
        "INSERT INTO secret (id, purpose, data_key, nonce, ciphertext)
         SELECT id, purpose, $5, nonce, ciphertext
           FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) AS new (id, purpose, nonce, ciphertext)",
        &[&ids.as_slice(), &purposes.as_slice(), &nonces, &ciphertexts, &place.id],
    )
    .await
    .map(drop)
}

/// The owner's data key, made if there is none.
pub(crate) async fn data_key(client: &Connection, keyring: &Keyring, owner: KeyOwner) -> Result<OwnedKey, StoreError> {
    let (key, wrapped) = new_key(keyring, owner).await?;
    // The row of another transaction is waited for, and found by the second statement.
    if insert_key(client, &key, &wrapped).await? {
        return Ok(key);
    }
    let sql = "SELECT id, home, key_version, nonce, ciphertext FROM data_key
                WHERE home = $1 OR $1::uuid IS NULL AND home IS NULL";
    let row = query_opt(client, sql, &[&owner.home()])
        .await?
        .ok_or_else(|| StoreError::Busy { source: "a data key was made and forgotten at the same time".into() })?;
    let found = [read_key(&row, "id", "key_version", "nonce", "ciphertext", "home")?];
    let place = found[0].0;
    match keyring.unwrap(&found).await.pop() {
        Some(key) => Ok(OwnedKey { place, key: key? }),
        None => Err(StoreError::internal("one key was asked for")),
    }
}

/// A new data key, and what is kept of it.
pub(crate) async fn new_key(keyring: &Keyring, owner: KeyOwner) -> Result<(OwnedKey, Wrapped), StoreError> {
    let key = OwnedKey { place: KeyPlace { id: Uuid::now_v7(), owner }, key: DataKey::random()? };
    let wrapped = keyring.wrap(std::slice::from_ref(&key)).await?;
    let [wrapped] = <[Wrapped; 1]>::try_from(wrapped).map_err(|_| StoreError::internal("one key was asked for"))?;
    Ok((key, wrapped))
}

/// Records a key; the answer is false where its owner has one.
pub(crate) async fn insert_key(client: &Connection, key: &OwnedKey, wrapped: &Wrapped) -> Result<bool, StoreError> {
    let made = execute(
        client,
        "INSERT INTO data_key (id, home, key_version, nonce, ciphertext)
         SELECT $1, $2, $3, $4, $5
          WHERE NOT EXISTS (SELECT FROM data_key WHERE home = $2 OR $2::uuid IS NULL AND home IS NULL)
         ON CONFLICT DO NOTHING",
        &[&key.place.id, &key.place.owner.home(), &wrapped.version, &wrapped.nonce.as_slice(), &wrapped.ciphertext],
    )
    .await?;
    Ok(made > 0)
}

/// The columns of a row of `sealed_secret` that is joined under `alias`, named so that [`open_secret`] finds them.
pub(crate) fn columns(alias: &str) -> String {
    let columns = [
        "id",
        "purpose",
        "key_version",
        "nonce",
        "ciphertext",
        "data_key",
        "owner",
        "wrapped_version",
        "wrapped_nonce",
        "wrapped_key",
    ];
    columns.map(|column| format!("{alias}.{column} AS {alias}_{column}")).join(", ")
}

/// The data keys of some rows, unwrapped all at once; what [`open_secret`] opens with.
pub(crate) struct OpenKeys<'a> {
    keyring: &'a Keyring,
    keys: HashMap<Uuid, Result<DataKey, StoreError>>,
}

impl<'a> OpenKeys<'a> {
    /// Unwraps what the secrets under these aliases were sealed with.
    pub(crate) async fn of(keyring: &'a Keyring, rows: &[Row], aliases: &[&str]) -> Result<Self, StoreError> {
        let mut wrapped = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for row in rows {
            for alias in aliases {
                let name = |column: &str| format!("{alias}_{column}");
                let Some(id) = get::<Option<Uuid>>(row, &name("data_key"))? else { continue };
                // A secret from a copy, whose key is no more: told when it is opened.
                let is_shredded = get::<Option<i32>>(row, &name("wrapped_version"))?.is_none();
                if !is_shredded && seen.insert(id) {
                    let columns = ["data_key", "wrapped_version", "wrapped_nonce", "wrapped_key", "owner"].map(name);
                    let [id, version, nonce, key, owner] = &columns;
                    wrapped.push(read_key(row, id, version, nonce, key, owner)?);
                }
            }
        }
        let opened = keyring.unwrap(&wrapped).await;
        let keys = wrapped.iter().map(|(place, _)| place.id).zip(opened).collect();
        Ok(Self { keyring, keys })
    }
}

/// Opens a secret that was selected with [`columns`]; `None` where the join found none.
pub(crate) fn open_secret(keys: &OpenKeys<'_>, row: &Row, alias: &str) -> Result<Option<Secret>, StoreError> {
    let name = |column: &str| format!("{alias}_{column}");
    let Some(id) = get::<Option<Uuid>>(row, &name("id"))? else { return Ok(None) };
    let sealed = Sealed { nonce: nonce(row, &name("nonce"))?, ciphertext: get(row, &name("ciphertext"))? };
    let owner = KeyOwner::of(get(row, &name("owner"))?);
    let place = SecretPlace { id: SecretId::new(id), purpose: get(row, &name("purpose"))?, owner };
    let opened = match get::<Option<Uuid>>(row, &name("data_key"))? {
        None => keys.keyring.open_directly(get(row, &name("key_version"))?, place, &sealed),
        Some(id) => match keys.keys.get(&id) {
            Some(Ok(key)) => key.open(place, &sealed),
            Some(Err(error)) => Err(StoreError::Invalid { reason: error.to_string() }),
            None => Err(StoreError::Invalid {
                reason: "a secret does not open: its data key was destroyed with the home that it was of".to_owned(),
            }),
        },
    };
    opened.map(Some)
}

/// A wrapped key from the columns of these names.
pub(crate) fn read_key(
    row: &Row,
    id: &str,
    version: &str,
    nonce_column: &str,
    ciphertext: &str,
    owner: &str,
) -> Result<(KeyPlace, Wrapped), StoreError> {
    let place = KeyPlace { id: get(row, id)?, owner: KeyOwner::of(get(row, owner)?) };
    let wrapped =
        Wrapped { version: get(row, version)?, nonce: nonce(row, nonce_column)?, ciphertext: get(row, ciphertext)? };
    Ok((place, wrapped))
}

pub(crate) fn nonce(row: &Row, column: &str) -> Result<[u8; 12], StoreError> {
    get::<&[u8]>(row, column)?.try_into().map_err(StoreError::internal)
}
