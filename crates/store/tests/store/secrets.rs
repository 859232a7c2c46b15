//! What seals secrets: data keys, and the master keys that wrap them.

use aes_gcm::aead::{Aead, KeyInit, Nonce, Payload};
use tenantry_domain::{HomeId, Secret, Tenancy};
use tenantry_store::{Keyring, Moved, Store, StoreConfig, StoreError};
use uuid::Uuid;

use crate::catalog::{Catalog, KEY};

const OTHER: &str = "2:0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0e";

/// Another program over the same catalog, with other keys.
async fn with_keys(catalog: &Catalog, keys: &str) -> Store {
    let keyring = Keyring::parse(&Secret::new(keys.to_owned())).unwrap();
    let config = StoreConfig::new(Secret::new(catalog.server.url(&catalog.database)));
    Store::connect(&config, keyring).await.unwrap()
}

fn both() -> String {
    format!("{KEY},{OTHER}")
}

async fn password(store: &Store, home: HomeId) -> Result<String, StoreError> {
    Ok(store.home(home).await?.secrets.login.expose().to_owned())
}

/// Moves everything, a few rows at a time.
async fn rewrap(store: &Store) -> Moved {
    let mut sum = Moved { last: Some(Uuid::nil()), ..Moved::default() };
    while let Some(after) = sum.last {
        let batch = store.rewrap_data_keys(after, 2).await.unwrap();
        sum = Moved { moved: sum.moved + batch.moved, unreadable: sum.unreadable + batch.unreadable, last: batch.last };
    }
    sum
}

#[tokio::test]
async fn every_home_has_a_data_key_of_its_own_and_clusters_share_the_platforms() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    catalog.cluster("second", Tenancy::Shared).await;
    let (one, two) = (catalog.plan_tenant("one", cluster).await, catalog.plan_tenant("two", cluster).await);
    let superuser = catalog.superuser().await;
    let keys = "SELECT count(*), count(DISTINCT data_key) FROM secret WHERE purpose = 'cluster_admin'";
    let row = superuser.query_one(keys, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 1));
    let homes: i64 = superuser
        .query_one("SELECT count(DISTINCT s.data_key) FROM secret s WHERE purpose <> 'cluster_admin'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(homes, 2);
    for planned in [one, two] {
        assert_eq!(password(&catalog.store, planned.home).await.unwrap(), "login password");
    }
    // A key that stands in another home's row opens nothing.
    let swap = "UPDATE data_key SET nonce = other.nonce, ciphertext = other.ciphertext FROM data_key other
                 WHERE data_key.home = $1 AND other.home = $2";
    superuser.execute(swap, &[&one.home.as_uuid(), &two.home.as_uuid()]).await.unwrap();
    let error = password(&catalog.store, one.home).await.unwrap_err();
    assert!(error.to_string().contains("does not open"), "{error}");
    assert!(password(&catalog.store, two.home).await.is_ok());
}

#[tokio::test]
async fn the_platforms_data_key_is_made_once_however_many_come_at_once() {
    let catalog = Catalog::new().await;
    let names: Vec<String> = (0..8).map(|number| format!("c-{number}")).collect();
    futures::future::join_all(names.iter().map(|name| catalog.cluster(name, Tenancy::Shared))).await;
    let count: i64 = catalog.superuser().await.query_one("SELECT count(*) FROM data_key", &[]).await.unwrap().get(0);
    assert_eq!(count, 1);
}

#[tokio::test]
async fn a_released_homes_secrets_are_unreadable_even_from_a_copy() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let planned = catalog.plan_tenant("acme", cluster).await;
    let superuser = catalog.superuser().await;
    // A backup of the secrets and of the homes, as one keeps it for years; data keys are backed up apart.
    superuser
        .batch_execute(
            "CREATE TABLE kept_secret AS TABLE secret;
             CREATE TABLE kept_home AS TABLE home",
        )
        .await
        .unwrap();
    let tx = catalog.begin().await;
    tx.home_released(planned.home).await.unwrap();
    tx.commit().await.unwrap();
    let left: i64 =
        superuser.query_one("SELECT count(*) FROM data_key WHERE home IS NOT NULL", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    // Somebody plays the backup back.
    superuser
        .batch_execute(
            "SET session_replication_role = replica;
             INSERT INTO secret SELECT * FROM kept_secret ON CONFLICT DO NOTHING;
             DELETE FROM home;
             INSERT INTO home SELECT * FROM kept_home;
             RESET session_replication_role",
        )
        .await
        .unwrap();
    let error = password(&catalog.store, planned.home).await.unwrap_err();
    assert!(error.to_string().contains("data key"), "{error}");
    assert!(catalog.store.cluster_access(cluster).await.is_ok(), "what is not the tenant's stays readable");
}

#[tokio::test]
async fn a_rotation_moves_every_key_and_the_old_master_key_is_not_needed_any_more() {
    let catalog = Catalog::new().await;
    catalog.store.adopt_master_keys().await.unwrap();
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let mut homes = Vec::new();
    for number in 0..5 {
        homes.push(catalog.plan_tenant(&format!("t-{number}"), cluster).await.home);
    }
    let tx = catalog.begin().await;
    let shared = tx.ensure_shared_database(cluster, Uuid::now_v7()).await.unwrap().id;
    tx.shared_database_ready(shared).await.unwrap();
    let pool = tx.shared_pool_password(shared, &Secret::new("of the pool".to_owned())).await.unwrap();
    tx.commit().await.unwrap();
    let new = with_keys(&catalog, &both()).await;
    new.adopt_master_keys().await.unwrap();
    // Nothing changes by a key's mere presence: replicas that lack it can read what is sealed now.
    assert_eq!(rewrap(&new).await.moved, 0);

    let tx = new.begin().await.unwrap();
    assert_eq!(tx.lock_current_master_key().await.unwrap(), Some(1));
    tx.set_current_master_key(2).await.unwrap();
    tx.commit().await.unwrap();
    let replica = Uuid::now_v7();
    new.report_replica(replica).await.unwrap();
    assert!(with_keys(&catalog, OTHER).await.adopt_master_keys().await.is_err(), "version 1 is still needed");
    assert_eq!(rewrap(&new).await, Moved { moved: 6, unreadable: 0, last: None });
    assert_eq!(rewrap(&new).await.moved, 0, "twice leaves what once leaves");
    for home in &homes {
        assert_eq!(password(&new, *home).await.unwrap(), "login password");
    }
    let keys = new.master_keys().await.unwrap();
    let seen: Vec<_> = keys.iter().map(|key| (key.version, key.is_current, key.data_keys, key.is_removable)).collect();
    assert_eq!(seen, [(1, false, 0, true), (2, true, 6, false)]);

    let only = with_keys(&catalog, OTHER).await;
    only.adopt_master_keys().await.unwrap();
    assert_eq!(password(&only, homes[0]).await.unwrap(), "login password");
    assert_eq!(only.shared_pools(cluster).await.unwrap()[0].password, pool);
    assert!(catalog.store.shared_pools(cluster).await.is_err());
    assert!(password(&catalog.store, homes[0]).await.is_err());
    let late = with_keys(&catalog, KEY).await.adopt_master_keys().await.unwrap_err();
    assert!(late.to_string().contains("version 2"), "{late}");
}

#[tokio::test]
async fn an_old_master_key_is_kept_while_a_live_replica_wraps_with_it() {
    let catalog = Catalog::new().await;
    catalog.store.adopt_master_keys().await.unwrap();
    let new = with_keys(&catalog, &both()).await;
    new.adopt_master_keys().await.unwrap();
    let slow = with_keys(&catalog, &both()).await;
    slow.adopt_master_keys().await.unwrap();
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    new.report_replica(one).await.unwrap();
    slow.report_replica(two).await.unwrap();
    let tx = new.begin().await.unwrap();
    tx.set_current_master_key(2).await.unwrap();
    tx.commit().await.unwrap();
    new.report_replica(one).await.unwrap();
    assert!(!new.master_keys().await.unwrap()[0].is_removable, "the other replica has not heard of it");
    slow.report_replica(two).await.unwrap();
    assert!(new.master_keys().await.unwrap()[0].is_removable);
    assert_eq!(new.live_replicas().await.unwrap().len(), 2);
    new.forget_replica(one).await.unwrap();
    assert_eq!(new.live_replicas().await.unwrap()[0].wraps_with, 2);
}

#[tokio::test]
async fn another_key_under_a_version_in_use_is_refused_and_under_an_unused_one_taken() {
    let catalog = Catalog::new().await;
    let store = with_keys(&catalog, &both()).await;
    let tx = store.begin().await.unwrap();
    drop(tx);
    catalog.store.adopt_master_keys().await.unwrap();
    store.adopt_master_keys().await.unwrap();
    let wrong = KEY.replace("0f", "0a");
    let refused = with_keys(&catalog, &wrong).await.adopt_master_keys().await.unwrap_err().to_string();
    assert!(refused.contains("version 1") && !refused.contains("0a0a"), "{refused}");
    let mended = format!("{KEY},{}", OTHER.replace("0e", "0c"));
    with_keys(&catalog, &mended).await.adopt_master_keys().await.unwrap();
}

#[tokio::test]
async fn secrets_that_a_master_key_sealed_itself_open_and_are_sealed_anew() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let home = catalog.plan_tenant("acme", cluster).await.home;
    let superuser = catalog.superuser().await;
    // As they were before there were data keys: id and purpose are authenticated, the key is the master key.
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&[0x0f; 32]).unwrap();
    for row in superuser.query("SELECT id, purpose FROM secret", &[]).await.unwrap() {
        let (id, purpose): (Uuid, String) = (row.get(0), row.get(1));
        let associated = [id.as_bytes().as_slice(), purpose.as_bytes()].concat();
        let text = format!("old {purpose}");
        let payload = Payload { msg: text.as_bytes(), aad: &associated };
        let sealed = cipher.encrypt(&Nonce::<aes_gcm::Aes256Gcm>::from([7; 12]), payload).unwrap();
        let sql = "UPDATE secret SET key_version = 1, data_key = NULL, nonce = $2, ciphertext = $3 WHERE id = $1";
        superuser.execute(sql, &[&id, &[7_u8; 12].as_slice(), &sealed]).await.unwrap();
    }
    superuser.batch_execute("DELETE FROM data_key").await.unwrap();
    let before = password(&catalog.store, home).await.unwrap();
    assert!(before.starts_with("old "), "{before}");
    catalog.store.adopt_master_keys().await.unwrap();
    assert_eq!(catalog.store.master_keys().await.unwrap()[0].direct_secrets, 4);
    let first = catalog.store.reseal_direct_secrets(Uuid::nil(), 3).await.unwrap();
    let second = catalog.store.reseal_direct_secrets(first.last.unwrap(), 3).await.unwrap();
    assert_eq!((first.moved, second.moved, second.unreadable), (3, 1, 0));
    let keys = catalog.store.master_keys().await.unwrap();
    assert_eq!((keys[0].direct_secrets, keys[0].data_keys), (0, 2));
    assert_eq!(password(&catalog.store, home).await.unwrap(), before);
    let admin = catalog.store.cluster_access(cluster).await.unwrap().admin_password;
    assert_eq!(admin.expose(), "old cluster_admin");
}

#[tokio::test]
async fn a_key_that_does_not_open_keeps_no_other_from_being_moved() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("main", Tenancy::Shared).await;
    let (one, two) = (catalog.plan_tenant("one", cluster).await, catalog.plan_tenant("two", cluster).await);
    let new = with_keys(&catalog, &both()).await;
    let spoil = "UPDATE data_key SET ciphertext = decode(repeat('00', 48), 'hex') WHERE home = $1";
    catalog.superuser().await.execute(spoil, &[&one.home.as_uuid()]).await.unwrap();
    let moved = rewrap(&new).await;
    assert_eq!((moved.moved, moved.unreadable), (2, 1));
    assert_eq!(password(&new, two.home).await.unwrap(), "login password");
}
